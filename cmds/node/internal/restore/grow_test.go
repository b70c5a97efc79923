package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

var (
	_ chain.Settler = (*stream.Tree)(nil)
	_ chain.Grower  = (*Tree)(nil)
)

// patchTo sends what src.Settle has made to all nodes.
func patchTo(t testing.TB, src *stream.Tree, void []wire.Range, nodes ...*Tree) []wire.Stream {
	t.Helper()
	more, err := src.Settle(context.Background(), void)
	if err != nil {
		t.Fatal(err)
	}
	for _, dst := range nodes {
		if err := dst.Grow(src.Streams()); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range more {
		for n := range s.Pieces {
			buf := make([]byte, s.Len(n))
			if err := src.ReadPiece(s.ID, n, buf); err != nil {
				t.Fatal(err)
			}
			for _, dst := range nodes {
				if err := dst.Put(s.ID, n, buf); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	return more
}

// TestPatch: all that can become of a file, twice.
func TestPatch(t *testing.T) {
	need(t, "rsync", "setfacl", "lsattr", "mkfs.ext4")
	if !inNamespace(t) {
		return
	}
	from, _ := ext4(t, "from", "200M")
	to, _ := ext4(t, "to", "200M")
	beforeUpdate(t, from)
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := NewTree(to, src.Streams(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	carry(t, src, dst, 3)
	up := func(n string) string { return filepath.Join(from, "up", n) }
	command(t, from+"/up", "chattr", "-i", "flag-gone", "frozen/changed")
	command(t, from+"/up", "setfattr", "-x", "user.gone", "xattr-gone")
	command(t, from+"/up", "setfacl", "-b", "acl-gone")
	command(t, from+"/up", "fallocate", "-p", "-o", "65536", "-l", "65536", "hole-more")
	sparseFile(t, up("hole-moved"), 8192, 2<<20)
	err = errors.Join(os.WriteFile(up("longer"), noise(70, 2_500_000), 0o644), os.Truncate(up("shorter"), 5), os.Truncate(up("emptied"), 0),
		os.WriteFile(up("split-2"), []byte("through a link"), 0), os.Remove(up("gone/f")), os.Chmod(up("suid"), 0o4711), os.Chown(up("owner"), 5, 6),
		os.WriteFile(up("time"), []byte("first"), 0), os.Chmod(up("mode"), 0o4755))
	if err != nil {
		t.Fatal(err)
	}
	patchTo(t, src, nil, dst)
	if err := os.WriteFile(up("time"), []byte("second, and longer"), 0); err != nil {
		t.Fatal(err)
	}
	command(t, from+"/up", "chattr", "+i", "flag-new", "frozen/changed")
	if more := patchTo(t, src, nil, dst); len(more) != 2 || more[0].ID != 4 {
		t.Errorf("second patch: %+v", more)
	}
	if err := dst.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(src.Torn()) != 0 || len(dst.Warnings()) != 0 {
		t.Errorf("torn %q, warnings %v", src.Torn(), dst.Warnings())
	}
	copyTime(t, from+"/up/gone", to+"/up/gone") // directories are as they were scanned
	out := command(t, "/", "rsync", "-aHAXSn", "--numeric-ids", "--checksum", "--delete", "--modify-window=-1", "-i", "--exclude=/lost+found/", from+"/", to+"/")
	if out != "" {
		t.Errorf("rsync sees differences:\n%s", out)
	}
	if x, y := sorted(command(t, from, "lsattr", "-R", "up")), sorted(command(t, to, "lsattr", "-R", "up")); x != y {
		t.Errorf("lsattr: %s", firstDifference(x, y))
	}
	for _, n := range []string{"hole-moved", "hole-more"} {
		var a, b unix.Stat_t
		if err := errors.Join(unix.Stat(up(n), &a), unix.Stat(filepath.Join(to, "up", n), &b)); err != nil || a.Blocks != b.Blocks {
			t.Errorf("%s takes %d blocks, want %d (%v)", n, b.Blocks, a.Blocks, err)
		}
	}
	replaced := 0
	for _, s := range src.Streams() {
		for n := range s.Pieces {
			a, b := make([]byte, s.Len(n)), make([]byte, s.Len(n))
			if err := dst.ReadPiece(s.ID, n, b); errors.Is(err, ErrReplaced) {
				replaced++
			} else if err := errors.Join(err, src.ReadPiece(s.ID, n, a)); err != nil || !bytes.Equal(a, b) {
				t.Errorf("%s piece %d differs when read back (%v)", s.Kind, n, err)
			}
		}
	}
	if replaced < 2 {
		t.Errorf("%d pieces are replaced", replaced)
	}
}

// TestPatchUpdate: an update and a patch at once, with a void piece.
func TestPatchUpdate(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for i := range 20 {
		if err := os.WriteFile(fmt.Sprintf("%s/f%02d", from, i), noise(uint64(i), 400_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	clone(t, stream.ScanOptions{Root: from}, to, 1)
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := NewTree(to, src.Streams(), Options{Update: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	err = errors.Join(os.WriteFile(from+"/f03", []byte("short now"), 0), os.WriteFile(from+"/f04", noise(99, 900_000), 0), os.Remove(from+"/f05"))
	if err != nil {
		t.Fatal(err)
	}
	patchTo(t, src, nil, dst)
	carryLacking(t, src, dst)
	if err := dst.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		a, err1 := os.ReadFile(fmt.Sprintf("%s/f%02d", from, i))
		b, err2 := os.ReadFile(fmt.Sprintf("%s/f%02d", to, i))
		if (err1 == nil) != (err2 == nil) || !bytes.Equal(a, b) {
			t.Errorf("f%02d differs (%v, %v)", i, err1, err2)
		}
	}
}

// TestGrowRefused: announcements that contradict themselves or earlier ones.
func TestGrowRefused(t *testing.T) {
	root, _ := field(t)
	m := manifest(t, children{0, []stream.Entry{file("x", 0, 4)}})
	base := []wire.Stream{wire.NewStream(0, wire.ManifestStream, int64(len(m))), wire.NewStream(1, wire.ContentsStream, 4)}
	pm, pc := wire.NewStream(2, wire.PatchManifestStream, 20), wire.NewStream(3, wire.PatchContentsStream, 9)
	with := func(more ...wire.Stream) []wire.Stream { return append(slices.Clone(base), more...) }
	other := func(s wire.Stream, f func(*wire.Stream)) wire.Stream { f(&s); return s }
	for name, streams := range map[string][]wire.Stream{
		"nothing":            nil,
		"fewer":              base[:1],
		"one":                with(pm),
		"kinds the other":    with(wire.NewStream(2, wire.PatchContentsStream, 9), wire.NewStream(3, wire.PatchManifestStream, 9)),
		"kind of a tree":     with(wire.NewStream(2, wire.ManifestStream, 20), wire.NewStream(3, wire.ContentsStream, 9)),
		"a gap":              with(other(pm, func(s *wire.Stream) { s.ID = 4 }), other(pc, func(s *wire.Stream) { s.ID = 5 })),
		"twice":              with(pm, pm),
		"another base":       {base[0], wire.NewStream(1, wire.ContentsStream, 5), pm, pc},
		"no manifest":        with(wire.NewStream(2, wire.PatchManifestStream, 0), pc),
		"a large manifest":   with(wire.NewStream(2, wire.PatchManifestStream, 1<<40), pc),
		"wrong piece number": with(pm, other(pc, func(s *wire.Stream) { s.Pieces = 5 })),
		"a large piece":      with(pm, other(pc, func(s *wire.Stream) { s.PieceSize = 1 << 30 })),
		"negative":           with(pm, other(pc, func(s *wire.Stream) { s.Bytes = -1 })),
		"too many":           with(slices.Repeat([]wire.Stream{pm, pc}, 200)...),
	} {
		tree := open(t, root, m, 4)
		if err := tree.Grow(streams); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	tree := open(t, root, m, 4)
	if err := errors.Join(tree.Grow(base), tree.Grow(with(pm, pc)), tree.Grow(with(pm, pc))); err != nil {
		t.Fatal(err)
	}
	// A golden that was started again has other patches, or none.
	if err := errors.Join(tree.Put(2, 0, make([]byte, 20)), tree.Grow(with(wire.NewStream(2, wire.PatchManifestStream, 21), pc))); err != nil {
		t.Fatal(err)
	}
	if tree.Put(2, 0, make([]byte, 20)) == nil {
		t.Error("a piece of a patch that is no more: accepted")
	}
	if err := tree.Grow(base); err != nil || len(tree.patches) != 0 {
		t.Errorf("no patches any more: %v", err)
	}
	if err := tree.Grow(with(pm, pc)); err != nil {
		t.Fatal(err)
	}
	if tree.Put(2, 1, make([]byte, 20)) == nil || tree.Put(2, 0, make([]byte, 19)) == nil || tree.Put(4, 0, make([]byte, 20)) == nil {
		t.Error("no such piece: accepted")
	}
	if err := errors.Join(tree.Put(0, 0, m), tree.Put(1, 0, []byte("data")), tree.Put(2, 0, make([]byte, 20))); err != nil {
		t.Fatal(err)
	}
	if err := tree.Finish(context.Background()); err == nil || !strings.Contains(err.Error(), "piece 0 is missing") {
		t.Errorf("finish without the patch's contents: %v", err)
	}
	if err := tree.Put(3, 0, make([]byte, 9)); err != nil {
		t.Fatal(err)
	}
	if err := tree.Finish(context.Background()); err == nil || !strings.Contains(err.Error(), "patch 1") {
		t.Errorf("finish with a patch of zeros: %v", err)
	}
	if names, err := os.ReadDir(root); err != nil || len(names) != 1 {
		t.Errorf("in the root: %v, %v", names, err)
	}
}

// FuzzPatch applies whatever DecodePatch accepts to a tree in a root full of
// links, and watches the outside.
func FuzzPatch(f *testing.F) {
	// What stream.Settle makes: file 1 replaced (4 bytes), file 3 removed.
	good := []byte("kampatch\x02\x00\x00\x00\x0ef\x01\xed\x03\x00\x00\x00\x00\x00\x00\x00\x04\x00\x00\x02r\x03\x03E\x02\x04")
	f.Add(good, []byte("data"))
	f.Add([]byte("kampatch\x02\x00\x00\x00\x06w\x03\x01\x01\x02\x00\x03E\x01\x02"), []byte("ab"))
	f.Add([]byte("kampatch\x02\x00\x00\x00\x02r\x01\x03E\x01\x00"), []byte{})
	f.Add([]byte("kampatch\x02\x00\x00\x00\x02r\x02\x03E\x01\x00"), []byte{})
	base := manifest(f, children{0, []stream.Entry{file("a", 0, 4), {Type: stream.Dir, Name: "d", Mode: 0o700}, file("f", 4, 4),
		{Type: stream.HardLink, Name: "g", Target: 1}, {Type: stream.Symlink, Name: "l", Link: "../outside/file"}}},
		children{2, []stream.Entry{file("victim", 8, 4)}})
	m, err := stream.Decode(base)
	if err == nil {
		_, err = stream.DecodePatch(good, m.Entries)
	}
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b, contents []byte) {
		if p, err := stream.DecodePatch(b, m.Entries); err == nil {
			for i := range p.Files {
				e := &p.Files[i].File
				if e.Flags != 0 || e.Size > 1<<30 || e.Sparse != nil && len(e.Sparse.Unwritten) > 0 || e.Xattrs != nil {
					return // would fill the disk, or keep the test from cleaning up
				}
			}
		}
		if len(b) == 0 || len(b) > 1<<16 || len(contents) > 1<<16 {
			return
		}
		root, outside := field(t)
		for name, to := range map[string]string{"a": "file", "d": "dir", "f": "file"} {
			if err := os.Symlink(filepath.Join(outside, to), filepath.Join(root, name)); err != nil {
				t.Fatal(err)
			}
		}
		want := hashTree(t, outside)
		tree := open(t, root, base, 12)
		streams := []wire.Stream{tree.manifest, tree.contents, wire.NewStream(2, wire.PatchManifestStream, int64(len(b))), wire.NewStream(3, wire.PatchContentsStream, int64(len(contents)))}
		err := errors.Join(tree.Put(0, 0, base), tree.Put(1, 0, make([]byte, 12)), tree.Grow(streams), tree.Put(2, 0, b))
		if len(contents) > 0 {
			err = errors.Join(err, tree.Put(3, 0, contents))
		}
		if err != nil {
			t.Fatal(err)
		}
		err = tree.Finish(context.Background())
		if hashTree(t, outside) != want {
			t.Fatal("something outside the root changed")
		}
		if p, bad := stream.DecodePatch(b, m.Entries); err == nil && (bad != nil || p.Contents != int64(len(contents))) {
			t.Fatalf("finished with a bad patch: %v", bad)
		}
	})
}
