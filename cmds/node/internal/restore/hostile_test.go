package restore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// hashTree is a hash over everything below dir but its access times.
func hashTree(t *testing.T, dir string) string {
	t.Helper()
	h := sha256.New()
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := d.Info()
		if err != nil {
			return err
		}
		x := st.Sys().(*syscall.Stat_t) // ctime tells of everything but reading
		fmt.Fprintf(h, "%q %v %d %v %d %d %d %v\n", p, st.Mode(), st.Size(), st.ModTime(), x.Ino, x.Uid, x.Nlink, x.Ctim)
		if d.Type().IsRegular() {
			b, err := os.ReadFile(p)
			h.Write(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// field is a root to restore into, beside a tree that must stay as it is.
func field(t *testing.T) (root, outside string) {
	t.Helper()
	tmp := t.TempDir()
	root, outside = filepath.Join(tmp, "root"), filepath.Join(tmp, "outside")
	for _, d := range []string{root, filepath.Join(outside, "dir")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"file", "dir/victim"} {
		if err := os.WriteFile(filepath.Join(outside, f), []byte("untouched"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root, outside
}

type children struct {
	dir     int
	entries []stream.Entry
}

func manifest(t testing.TB, groups ...children) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := stream.NewEncoder(&out)
	err := enc.Entry(&stream.Entry{Type: stream.Dir, Mode: 0o755})
	for _, g := range groups {
		err = errors.Join(err, enc.Group(g.dir))
		for i := range g.entries {
			err = errors.Join(err, enc.Entry(&g.entries[i]))
		}
	}
	if err = errors.Join(err, enc.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// open begins to restore a manifest and contents of the given length.
func open(t testing.TB, root string, m []byte, contents int64) *Tree {
	t.Helper()
	tree, err := NewTree(root, []wire.Stream{
		wire.NewStream(0, wire.ManifestStream, int64(len(m))),
		wire.NewStream(1, wire.ContentsStream, contents),
	}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// restore takes the whole of it and returns the first error.
func restore(t testing.TB, root string, m []byte, contents []byte) error {
	tree := open(t, root, m, int64(len(contents)))
	if err := tree.Put(0, 0, m); err != nil {
		return err
	}
	if len(contents) > 0 {
		if err := tree.Put(1, 0, contents); err != nil {
			return err
		}
	}
	return tree.Finish(context.Background())
}

func file(name string, off, size int64) stream.Entry {
	return stream.Entry{Type: stream.File, Name: name, Dense: true, Size: size, DataOff: off, Mode: 0o4777}
}

// TestHostile restores over a root that is full of links to the outside.
func TestHostile(t *testing.T) {
	payload := []byte("payload")
	n := int64(len(payload))
	link := func(name, to string) stream.Entry {
		return stream.Entry{Type: stream.Symlink, Name: name, Link: to, Mode: 0o777}
	}
	hard := func(name string, to int32) stream.Entry {
		return stream.Entry{Type: stream.HardLink, Name: name, Target: to}
	}
	dir := func(name string) stream.Entry { return stream.Entry{Type: stream.Dir, Name: name, Mode: 0o700} }
	for name, groups := range map[string]func(outside string) []children{
		"directory where a link was": func(string) []children {
			return []children{{0, []stream.Entry{dir("a")}}, {1, []stream.Entry{file("victim", 0, n)}}}
		},
		"file where a link was": func(string) []children { return []children{{0, []stream.Entry{file("a", 0, n)}}} },
		"hard link through a link": func(outside string) []children {
			return []children{{0, []stream.Entry{file("0", 0, n), link("b", outside+"/file"), hard("c", 2), hard("d", 1)}}}
		},
		"hard link over a link": func(string) []children {
			return []children{{0, []stream.Entry{file("0", 0, n), hard("a", 1), hard("f", 1)}}}
		},
		"xattr and owner of a link": func(outside string) []children {
			l := link("l", outside+"/file")
			l.UID, l.GID, l.Sec = 5, 6, 7
			l.Xattrs = &stream.XattrSet{Attrs: []stream.Xattr{{Name: "trusted.x", Value: "x"}}}
			return []children{{0, []stream.Entry{file("0", 0, n), l}}}
		},
		"device where a link was": func(string) []children {
			return []children{{0, []stream.Entry{file("0", 0, n), {Type: stream.Char, Name: "f", Mode: 0o777, Major: 1, Minor: 3}}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			root, outside := field(t)
			for name, to := range map[string]string{"a": outside + "/dir", "f": outside + "/file", "b": "../outside/file"} {
				if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
			}
			want := hashTree(t, outside)
			if err := restore(t, root, manifest(t, groups(outside)...), payload); err != nil {
				t.Errorf("restore: %v", err)
			}
			if hashTree(t, outside) != want {
				t.Error("something outside the root changed")
			}
		})
	}
}

// TestSwap turns a directory into a link to the outside between manifest and
// contents, which only another process on the host could do: the file's own
// directory, and the one above it.
func TestSwap(t *testing.T) {
	t.Run("parent", func(t *testing.T) { swap(t, "d/dir", "dir") })
	t.Run("grandparent", func(t *testing.T) { swap(t, "d", "") })
}

func swap(t *testing.T, which, target string) {
	root, outside := field(t)
	want := hashTree(t, outside)
	m := manifest(t, children{0, []stream.Entry{{Type: stream.Dir, Name: "d", Mode: 0o700}}},
		children{1, []stream.Entry{{Type: stream.Dir, Name: "dir", Mode: 0o700}}},
		children{2, []stream.Entry{file("victim", 0, 4), {Type: stream.Fifo, Name: "z"}}})
	tree := open(t, root, m, 4)
	if err := tree.Put(0, 0, m); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(filepath.Join(root, which)), os.Symlink(filepath.Join(outside, target), filepath.Join(root, which))); err != nil {
		t.Fatal(err)
	}
	if err := tree.Put(1, 0, []byte("evil")); err == nil || !strings.Contains(err.Error(), root+"/d/dir") {
		t.Errorf("put through a link: %v, want an error that names it", err)
	}
	if err := tree.Finish(context.Background()); err == nil {
		t.Error("finish: no error though a file is missing")
	}
	if hashTree(t, outside) != want {
		t.Error("something outside the root changed")
	}
}

// TestBadManifest: a manifest that is wrong at its end makes nothing.
func TestBadManifest(t *testing.T) {
	for name, m := range map[string][]byte{
		"dot-dot":   manifest(t, children{0, []stream.Entry{{Type: stream.Dir, Name: "good"}, {Type: stream.Fifo, Name: "x"}}}, children{1, []stream.Entry{{Type: stream.Fifo, Name: ".."}}}),
		"truncated": manifest(t, children{0, []stream.Entry{{Type: stream.Dir, Name: "good"}}})[:30],
		"contents":  manifest(t, children{0, []stream.Entry{{Type: stream.Dir, Name: "good"}, file("z", 0, 4)}}),
		"overlap":   manifest(t, children{0, []stream.Entry{file("x", 0, 4), file("y", 2, 4)}}),
	} {
		root, _ := field(t)
		tree := open(t, root, m, 8)
		err := tree.Put(0, 0, m)
		if err == nil || !strings.Contains(err.Error(), "manifest") {
			t.Errorf("%s: %v", name, err)
		}
		if err2 := tree.Put(1, 0, make([]byte, 8)); err2 == nil || errors.Is(err2, chain.ErrNotYet) {
			t.Errorf("%s: contents: %v, want the manifest's error", name, err2)
		}
		if names, _ := os.ReadDir(root); len(names) != 0 {
			t.Errorf("%s: %v was made", name, names)
		}
	}
}

// TestPut: what a caller may get wrong.
func TestPut(t *testing.T) {
	root, _ := field(t)
	m := manifest(t, children{0, []stream.Entry{file("x", 0, 4)}})
	tree := open(t, root, m, 4)
	if err := tree.Put(1, 0, []byte("data")); !errors.Is(err, chain.ErrNotYet) {
		t.Errorf("contents before the manifest: %v", err)
	}
	if err := tree.Finish(context.Background()); err == nil {
		t.Error("finish without a manifest: no error")
	}
	for what, err := range map[string]error{
		"short":         tree.Put(0, 0, m[1:]),
		"beyond":        tree.Put(0, 1, m),
		"other stream":  tree.Put(2, 0, m),
		"contents long": tree.Put(1, 0, []byte("data+")),
	} {
		if err == nil || errors.Is(err, chain.ErrNotYet) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, s := range [][]wire.Stream{
		nil,
		{wire.NewStream(0, wire.ManifestStream, 5)},
		{wire.NewStream(0, wire.ManifestStream, 5), wire.NewStream(0, wire.ManifestStream, 5)},
		{wire.NewStream(0, wire.ManifestStream, 1<<40), wire.NewStream(1, wire.ContentsStream, 5)},
		{wire.NewStream(0, wire.ManifestStream, 5), {ID: 1, Kind: wire.ContentsStream, PieceSize: 1 << 20, Pieces: 2, Bytes: 5}},
		{wire.NewStream(0, wire.ManifestStream, 5), {ID: 1, Kind: wire.ContentsStream, PieceSize: 1 << 30, Pieces: 1, Bytes: 5}},
		{wire.NewStream(0, wire.ManifestStream, 5), {ID: 1, Kind: wire.ContentsStream, Bytes: -5}},
	} {
		if tree, err := NewTree(root, s, Options{}); err == nil {
			tree.Close()
			t.Errorf("%+v: accepted", s)
		}
	}
}

// FuzzRestore restores whatever Decode accepts and watches the outside.
func FuzzRestore(f *testing.F) {
	f.Add(manifest(f, children{0, []stream.Entry{file("a", 0, 4), {Type: stream.HardLink, Name: "b", Target: 1}, {Type: stream.Symlink, Name: "l", Link: "/"}}}))
	f.Add(manifest(f, children{0, []stream.Entry{{Type: stream.Dir, Name: "a"}, {Type: stream.Symlink, Name: "d", Link: "../outside"}}}, children{1, []stream.Entry{file("x", 0, 9)}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := stream.Decode(b)
		if err != nil || m.Contents > 1<<16 {
			return
		}
		for i := range m.Entries {
			e := &m.Entries[i]
			if e.Flags != 0 || e.Size > 1<<30 || e.Sparse != nil && len(e.Sparse.Unwritten) > 0 || e.Xattrs != nil {
				return // would fill the disk, or keep the test from cleaning up
			}
		}
		root, outside := field(t)
		if err := os.Symlink("../outside/dir", root+"/d"); err != nil {
			t.Fatal(err)
		}
		want := hashTree(t, outside)
		err = restore(t, root, b, make([]byte, m.Contents))
		if hashTree(t, outside) != want {
			t.Fatal("something outside the root changed")
		}
		if err == nil {
			if _, err := m.Segments(); err != nil {
				t.Fatal("restored though the contents overlap")
			}
		}
	})
}
