package stream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// settled is what a patch says, by path; "-" is a file that is gone.
func settled(t *testing.T, tree *Tree, void ...wire.Range) map[string]string {
	t.Helper()
	streams, err := tree.Settle(context.Background(), void)
	if err != nil {
		t.Fatal(err)
	}
	if len(streams) == 0 {
		return nil
	}
	if d := cmp.Diff(tree.Streams()[len(tree.Streams())-2:], streams); d != "" {
		t.Error(d)
	}
	m, data := streams[0], readAll(t, tree, streams[1].ID)
	if m.Kind != wire.PatchManifestStream || streams[1].Kind != wire.PatchContentsStream || m.ID%2 != 0 || streams[1].ID != m.ID+1 {
		t.Errorf("streams %+v", streams)
	}
	base := decoded(t, tree)
	p, err := DecodePatch(readAll(t, tree, m.ID), base.Entries)
	if err != nil {
		t.Fatal(err)
	}
	segs, err := p.Segments()
	if err != nil || p.Contents != int64(len(data)) {
		t.Fatal(err, p.Contents, len(data))
	}
	got := map[string]string{}
	for _, f := range p.Files {
		got[base.Path(f.Base)] = "-"
		if !f.Removed {
			got[base.Path(f.Base)] = strings.Repeat(map[bool]string{false: "\x00", true: "?"}[f.Part], int(f.File.Size))
		}
	}
	for _, s := range segs {
		name := base.Path(p.Files[s.Entry].Base)
		got[name] = got[name][:s.Pos] + string(data[s.Off:s.Off+s.Len]) + got[name][s.Pos+s.Len:]
	}
	return got
}

func TestSettle(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "a", "b", "changed", "dir/gone", "dir/retyped", "hole", "linked", "same", "touched", "empty", "empty-gone")
	p := func(n string) string { return filepath.Join(dir, n) }
	if err := errors.Join(os.Truncate(p("hole"), 1<<20), os.Truncate(p("empty"), 0), os.Truncate(p("empty-gone"), 0), os.Link(p("linked"), p("z-link"))); err != nil {
		t.Fatal(err)
	}
	tree := scan(t, ScanOptions{Root: dir})
	tree.Spool = t.TempDir()
	if got := settled(t, tree); got != nil {
		t.Errorf("nothing has changed: %q", got)
	}
	f, err := os.OpenFile(p("hole"), os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt([]byte("in the middle"), 512<<10)
		err = errors.Join(err, f.Close())
	}
	err = errors.Join(err, os.WriteFile(p("changed"), []byte("something longer"), 0o600), os.Remove(p("dir/gone")),
		os.Remove(p("dir/retyped")), os.Mkdir(p("dir/retyped"), 0o700), os.WriteFile(p("linked"), []byte("written through"), 0o644),
		os.Chmod(p("touched"), 0o600), os.WriteFile(p("empty"), []byte("no more"), 0o600), os.Remove(p("empty-gone")))
	if err != nil {
		t.Fatal(err)
	}
	hole := make([]byte, 1<<20)
	copy(hole, "hole")
	copy(hole[512<<10:], "in the middle")
	want := map[string]string{"changed": "something longer", "dir/gone": "-", "dir/retyped": "-", "linked": "written through", "touched": "touched", "hole": string(hole),
		"empty": "no more", "empty-gone": "-"}
	if d := cmp.Diff(want, settled(t, tree)); d != "" {
		t.Error(d)
	}
	// What is in the patch stands still, whatever happens to the file.
	if err := os.WriteFile(p("changed"), []byte("once more"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b := readAll(t, tree, 3); !bytes.Contains(b, []byte("something longer")) {
		t.Errorf("the patch reads %q", b)
	}
	// A void piece takes the files that no patch has; an empty void those that changed.
	got := settled(t, tree, wire.Range{Stream: ContentsID, From: 0, To: 1})
	if d := cmp.Diff(map[string]string{"a": "a", "b": "b", "same": "same"}, got); d != "" {
		t.Error(d)
	}
	if got := settled(t, tree, wire.Range{Stream: ContentsID, From: 0, To: 1}); got != nil {
		t.Errorf("all is in patches: %q", got)
	}
	if d := cmp.Diff(map[string]string{"changed": "once more"}, settled(t, tree)); d != "" {
		t.Error(d)
	}
	if s := tree.Streams(); len(s) != 8 || len(tree.Changed()) != 0 || len(tree.Torn()) != 0 {
		t.Errorf("streams %v, changed %v, torn %q", s, tree.Changed(), tree.Torn())
	}
	if d := cmp.Diff([]string{"/empty-gone", "/dir/gone", "/dir/retyped"}, tree.Removed()); d != "" {
		t.Error(d)
	}
	if _, err := tree.Settle(context.Background(), []wire.Range{{Stream: 3, From: 0, To: 1}}); err == nil {
		t.Error("a copy is void: no error")
	}
	if names, err := os.ReadDir(tree.Spool); err != nil || len(names) != 0 {
		t.Errorf("left in the spool: %v, %v", names, err)
	}
}

// TestSettleLinked: a file whose first name is gone or has become another file
// is read by its other names, until there is none.
func TestSettleLinked(t *testing.T) {
	dir := t.TempDir()
	p := func(n string) string { return filepath.Join(dir, n) }
	for _, n := range []string{"d/gone", "d/other"} {
		grow(t, dir, n)
		if err := os.Link(p(n), p(n+"-z")); err != nil {
			t.Fatal(err)
		}
	}
	tree := scan(t, ScanOptions{Root: dir})
	before := readAll(t, tree, ContentsID)
	err := errors.Join(os.Remove(p("d/gone")), os.WriteFile(p("new"), []byte("another file"), 0o600), os.Rename(p("new"), p("d/other")))
	if err != nil {
		t.Fatal(err)
	}
	if after := readAll(t, tree, ContentsID); string(after) != string(before) {
		t.Errorf("read %q, want %q", after, before)
	}
	if d := cmp.Diff(map[string]string{"d/gone": "d/gone", "d/other": "d/other"}, settled(t, tree)); d != "" {
		t.Error(d)
	}
	if torn := tree.Torn(); len(torn) != 0 {
		t.Errorf("torn %q", torn)
	}
	grow(t, dir, "new") // while the old ones are there: an inode's number may be used again
	if err := errors.Join(os.RemoveAll(p("d")), os.Mkdir(p("d"), 0o755), os.Rename(p("new"), p("d/other"))); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"d/gone": "-", "d/other": "new"}, settled(t, tree)); d != "" {
		t.Error(d)
	}
	if torn := tree.Torn(); len(torn) != 2 || !strings.HasPrefix(torn[0], "/d/gone: ") || !strings.HasPrefix(torn[1], "/d/other: ") {
		t.Errorf("torn %q", torn)
	}
}

// TestSettleParts: with a void piece goes the file that has changed, and of
// the others what they have in the piece; if none has changed to the eye, all.
func TestSettleParts(t *testing.T) {
	dir := t.TempDir()
	want := map[string]string{}
	piece := int(wire.NewStream(0, wire.ContentsStream, 1).PieceSize)
	size := piece*3/2 - 1000
	for i, n := range []string{"0", "1", "2"} {
		b := bytes.Repeat([]byte(n), size)
		want[n] = string(b)
		if err := os.WriteFile(filepath.Join(dir, n), b, 0o600); err != nil {
			t.Fatal(err, i)
		}
	}
	tree := scan(t, ScanOptions{Root: dir})
	m := decoded(t, tree)
	order := []string{}
	for off := int64(0); off < m.Contents; off += int64(size) {
		order = append(order, m.Path(tree.segs[FindSegment(tree.segs, off)].Entry))
	}
	if err := os.WriteFile(filepath.Join(dir, order[1]), []byte("changed"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Piece 1 has the end of the first and the beginning of the second, piece 3
	// more of the third and nothing else.
	cut := strings.Repeat("?", piece) + want[order[0]][piece:]
	if d := cmp.Diff(map[string]string{order[0]: cut, order[1]: "changed"}, settled(t, tree, wire.Range{Stream: ContentsID, From: 1, To: 2})); d != "" {
		t.Error(len(d))
	}
	got := settled(t, tree, wire.Range{Stream: ContentsID, From: 3, To: 4})
	if d := cmp.Diff(map[string]string{order[2]: want[order[2]]}, got); d != "" {
		t.Error(len(d))
	}
}

// TestSettleMoving: a file that never stands still is copied all the same,
// and named.
func TestSettleMoving(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "moving", "quiet")
	tree := scan(t, ScanOptions{Root: dir})
	f, err := os.OpenFile(filepath.Join(dir, "moving"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const size = 80 << 20 // so that no copy is made while the writers wait for a processor
	if _, err := f.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	stop := make(chan bool)
	var writers sync.WaitGroup
	for range 3 {
		writers.Go(func() {
			for i := int64(0); ; i++ {
				select {
				case <-stop:
					return
				default:
					f.WriteAt([]byte{byte(i)}, i%size)
				}
			}
		})
	}
	got := settled(t, tree)
	close(stop)
	writers.Wait()
	if len(got["moving"]) != size {
		t.Errorf("moving has %d bytes", len(got["moving"]))
	}
	if torn := tree.Torn(); len(torn) != 1 || !strings.HasPrefix(torn[0], "/moving: is written to") {
		t.Errorf("torn %q", torn)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := os.WriteFile(filepath.Join(dir, "quiet"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tree.Settle(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// TestSettleNoRoom: without room for a copy the nodes keep what was read, and
// the file is named; of a void piece there is what the file has there now.
func TestSettleNoRoom(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	grow(t, dir, "large", "small")
	tree := scan(t, ScanOptions{Root: dir})
	tree.Spool = t.TempDir()
	if err := syscall.Mount("none", tree.Spool, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	defer syscall.Unmount(tree.Spool, syscall.MNT_DETACH)
	err := errors.Join(os.WriteFile(filepath.Join(dir, "large"), make([]byte, 3<<20), 0o600), os.WriteFile(filepath.Join(dir, "small"), []byte("new"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]string{"small": "new"}, settled(t, tree)); d != "" {
		t.Error(d)
	}
	if torn := tree.Torn(); len(torn) != 1 || !strings.HasPrefix(torn[0], "/large: no room for a copy of 3145728 bytes in "+tree.Spool) {
		t.Errorf("torn %q", torn)
	}
	if d := cmp.Diff(map[string]string{"large": "\x00\x00\x00\x00\x00"}, settled(t, tree, wire.Range{Stream: ContentsID, From: 0, To: 1})); d != "" {
		t.Error(d)
	}
}

// TestDigest: the same tree has the same digest, whatever changes gives
// another.
func TestDigest(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "a", "b/c", "b/d")
	opt := ScanOptions{Root: dir}
	seen := map[string]string{}
	last := scan(t, opt).Digest()
	if again := scan(t, opt).Digest(); again != last || len(last) != 64 {
		t.Errorf("%q, then %q", last, again)
	}
	seen[last] = "nothing"
	st, err := os.Stat(dir + "/a")
	if err != nil {
		t.Fatal(err)
	}
	for what, change := range map[string]func() error{
		"contents, same size and time": func() error {
			time.Sleep(20 * time.Millisecond)
			return errors.Join(os.WriteFile(dir+"/a", []byte("A"), 0), os.Chtimes(dir+"/a", time.Time{}, st.ModTime()))
		},
		"mode":  func() error { return os.Chmod(dir+"/b", 0o700) },
		"name":  func() error { return os.Rename(dir+"/b/c", dir+"/b/e") },
		"xattr": func() error { return unix.Setxattr(dir+"/b/d", "user.x", []byte("x"), 0) },
		"link":  func() error { return os.Link(dir+"/b/d", dir+"/b/f") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		d := scan(t, opt).Digest()
		if seen[d] != "" {
			t.Errorf("%s: the digest is that of %s", what, seen[d])
		}
		seen[d] = what
	}
	open := func() string {
		i, err := OpenImage(0, dir+"/a")
		if err != nil {
			t.Fatal(err)
		}
		defer i.Close()
		return i.Digest()
	}
	one := open()
	if open() != one {
		t.Error("an image has another digest the second time")
	}
	if err := os.Truncate(dir+"/a", 5); err != nil || open() == one {
		t.Error("a changed image has the same digest", err)
	}
}
