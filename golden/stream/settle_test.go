package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
	grow(t, dir, "a", "b", "changed", "dir/gone", "dir/retyped", "hole", "linked", "same", "touched")
	p := func(n string) string { return filepath.Join(dir, n) }
	if err := errors.Join(os.Truncate(p("hole"), 1<<20), os.Link(p("linked"), p("z-link"))); err != nil {
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
		os.Chmod(p("touched"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	hole := make([]byte, 1<<20)
	copy(hole, "hole")
	copy(hole[512<<10:], "in the middle")
	want := map[string]string{"changed": "something longer", "dir/gone": "-", "dir/retyped": "-", "linked": "written through", "touched": "touched", "hole": string(hole)}
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
	if d := cmp.Diff([]string{"/dir/gone", "/dir/retyped"}, tree.Removed()); d != "" {
		t.Error(d)
	}
	if _, err := tree.Settle(context.Background(), []wire.Range{{Stream: 3, From: 0, To: 1}}); err == nil {
		t.Error("a copy is void: no error")
	}
	if names, err := os.ReadDir(tree.Spool); err != nil || len(names) != 0 {
		t.Errorf("left in the spool: %v, %v", names, err)
	}
	// A name of several that has become a file of its own.
	if err := errors.Join(os.Remove(p("linked")), os.WriteFile(p("linked"), []byte("own"), 0o600)); err != nil {
		t.Fatal(err)
	}
	settled(t, tree)
	if torn := tree.Torn(); len(torn) != 1 || !strings.HasPrefix(torn[0], "/linked: ") {
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

// TestUnreadable reads files and a device of which a part can't be read: the
// image under a loop device is cut off.
func TestUnreadable(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs mkfs.ext4 (Debian: e2fsprogs)")
	}
	tmp := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = tmp
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("truncate", "-s", "64M", "img")
	run("mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", "img")
	run("mkdir", "m")
	run("mount", "-o", "loop,noatime", "img", "m")
	t.Cleanup(func() { syscall.Unmount(tmp+"/m", syscall.MNT_DETACH) })
	good, bad := make([]byte, 100_000), make([]byte, 8_000_000)
	rand.NewChaCha8([32]byte{1}).Read(good)
	rand.NewChaCha8([32]byte{2}).Read(bad)
	if err := errors.Join(os.WriteFile(tmp+"/m/good", good, 0o600), os.WriteFile(tmp+"/m/bad", bad, 0o600)); err != nil {
		t.Fatal(err)
	}
	run("sync", "-f", "m")
	tree := scan(t, ScanOptions{Root: tmp + "/m"})
	var first int64 // physical block of bad
	for line := range strings.SplitSeq(run("filefrag", "-v", "m/bad"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "0:" {
			first, _ = strconv.ParseInt(strings.TrimSuffix(f[3], ".."), 10, 64)
		}
	}
	if first == 0 {
		t.Fatal("filefrag tells no block")
	}
	const whole = 1000 // blocks of bad that remain
	if err := errors.Join(os.Truncate(tmp+"/img", (first+whole)*4096), os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0)); err != nil {
		t.Fatal(err)
	}
	m, all := decoded(t, tree), readAll(t, tree, ContentsID)
	clear(bad[whole*4096:])
	for i := range m.Entries {
		e := &m.Entries[i]
		want := map[string][]byte{"good": good, "bad": bad}[e.Name]
		if got := all[e.DataOff : e.DataOff+e.DataLen()]; !bytes.Equal(got, want) {
			t.Errorf("%s differs", e.Name)
		}
	}
	want := fmt.Sprintf("/bad: %d bytes can't be read and are zeros in the clones (at %d-%d): input/output error", len(bad)-whole*4096, whole*4096, len(bad)-1)
	if torn := tree.Torn(); len(torn) != 1 || torn[0] != want {
		t.Errorf("torn %q, want %q", torn, want)
	}
	// A copy of it has the same zeros.
	got := settled(t, tree, wire.Range{Stream: ContentsID, From: 0, To: tree.Streams()[1].Pieces})
	if got["bad"] != string(bad) || got["good"] != string(good) {
		t.Error("the copies differ")
	}
	device, _, _ := strings.Cut(run("losetup", "-j", "img"), ":")
	image, err := OpenImage(0, device)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	for n := range image.Streams()[0].Pieces {
		buf := make([]byte, image.Streams()[0].Len(n))
		if err := image.ReadPiece(0, n, buf); err != nil {
			t.Fatal(err)
		}
		end := (first + whole) * 4096
		if off := int64(n) * int64(image.Streams()[0].PieceSize); off > end && !bytes.Equal(buf, make([]byte, len(buf))) {
			t.Errorf("piece %d is not zeros", n)
		}
	}
	if torn := image.Torn(); len(torn) != 1 || !strings.Contains(torn[0], fmt.Sprintf(" %d bytes can't be read", 64<<20-(first+whole)*4096)) {
		t.Errorf("torn %q", torn)
	}
}

func TestAddExtent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var xs []Extent
	marked := make([]bool, 200)
	for range 60 {
		x := Extent{int64(r.IntN(190)), int64(1 + r.IntN(8))}
		xs = addExtent(xs, x)
		for i := x.Off; i < x.Off+x.Len; i++ {
			marked[i] = true
		}
		var want []Extent
		for i, m := range marked {
			if m && (i == 0 || !marked[i-1]) {
				want = append(want, Extent{int64(i), 0})
			}
			if m {
				want[len(want)-1].Len++
			}
		}
		if !slices.Equal(xs, want) {
			t.Fatalf("after %v: %v, want %v", x, xs, want)
		}
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

// base is what patches are made to in tests: files 1, 3 and 4.
func patchBase(t testing.TB) []Entry {
	m, err := Decode(encode(t, rootEntry, group{0, []Entry{
		{Type: File, Name: "a", Dense: true, Size: 9}, {Type: Dir, Name: "b"}, {Type: File, Name: "c", Dense: true},
		{Type: File, Name: "d", Dense: true}, {Type: HardLink, Name: "e", Target: 1}, {Type: Symlink, Name: "l", Link: "/"}}}))
	if err != nil {
		t.Fatal(err)
	}
	return m.Entries
}

func patchSample() *Patch {
	file := func(e Entry) Entry { e.Type, e.Parent, e.Target = File, -1, -1; return e }
	return &Patch{Contents: 4105, Files: []Patched{
		{Base: 1, Part: true, File: file(Entry{Size: 9, Sparse: &Layout{Data: []Extent{{1, 2}, {6, 3}}}})},
		{Base: 3, File: file(Entry{Dense: true, Size: 4, DataOff: 5, Mode: 0o4755, Sec: -5, Nsec: 7, Xattrs: &XattrSet{[]Xattr{{"user.x", "y"}}}})},
		{Base: 4, File: file(Entry{Size: 1 << 30, DataOff: 9, Sparse: &Layout{Data: []Extent{{8192, 4096}}, Unwritten: []Extent{{0, 4096}}}})},
	}}
}

func encodePatch(t testing.TB, p *Patch) []byte {
	t.Helper()
	b, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPatchRoundTrip(t *testing.T) {
	b := encodePatch(t, patchSample())
	p, err := DecodePatch(b, patchBase(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(patchSample(), p, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if segs, err := p.Segments(); err != nil || !slices.Equal(segs, []Segment{{0, 1, 2, 0}, {2, 6, 3, 0}, {5, 0, 4, 1}, {9, 8192, 4096, 2}}) {
		t.Errorf("%v, %v", segs, err)
	}
	for n := range b {
		if _, err := DecodePatch(b[:n], patchBase(t)); err == nil {
			t.Errorf("cut at %d: accepted", n)
		}
		for bit := range 8 {
			c := bytes.Clone(b)
			c[n] ^= 1 << bit
			if p, err := DecodePatch(c, patchBase(t)); err == nil {
				p.Segments()
			}
		}
	}
	if _, err := DecodePatch(append(bytes.Clone(b), 0), patchBase(t)); err == nil {
		t.Error("a byte after the end: accepted")
	}
}

func TestPatchHostile(t *testing.T) {
	file := func(base int32, e Entry) Patched { e.Type = File; return Patched{Base: base, File: e} }
	for want, files := range map[string][]Patched{
		"entry 7 of 7":       {{Base: 7, Removed: true}},
		"entry 2147483647":   {{Base: 1<<31 - 1, Removed: true}},
		"type 'd'":           {file(2, Entry{Dense: true})},
		"is of type 'h'":     {file(5, Entry{Dense: true})},
		"is of type 'l'":     {file(6, Entry{Dense: true})},
		"entry 0 is of type": {{Base: 0, Removed: true}},
		"entry 3 after":      {{Base: 4, Removed: true}, {Base: 3, Removed: true}},
		"entry 4 after":      {{Base: 4, Removed: true}, {Base: 4, Removed: true}},
		"size":               {file(1, Entry{Dense: true, Size: 1<<61 + 1})},
		"contents offset":    {file(1, Entry{Dense: true, Size: 1 << 61}), file(3, Entry{Dense: true, Size: 1 << 61, DataOff: 1 << 61})},
		"extent 0":           {file(1, Entry{Size: 5, Sparse: &Layout{Data: []Extent{{4, 4}}}})},
		"4 bytes at 6":       {{Base: 1, Part: true, File: Entry{Type: File, Sparse: &Layout{Data: []Extent{{6, 4}}}}}},
		"without ranges":     {{Base: 1, Part: true}},
		"mode":               {file(1, Entry{Dense: true, Mode: 0o10000})},
		"the end says 0":     {},
	} {
		_, err := DecodePatch(encodePatch(t, &Patch{Files: files}), patchBase(t))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "at offset") {
			t.Errorf("got %v, want an error with %q and the offset", err, want)
		}
	}
	p, err := DecodePatch(encodePatch(t, &Patch{Files: []Patched{file(1, Entry{Dense: true, Size: 5}), file(3, Entry{Dense: true, Size: 5, DataOff: 3})}}), patchBase(t))
	if err == nil {
		_, err = p.Segments()
	}
	if err == nil {
		t.Error("contents overlap: accepted")
	}
	head := []byte(patchMagic + "\x01\x00\x00\x00")
	for _, tail := range [][]byte{
		{0}, binary.AppendUvarint(nil, 1<<31-1), {2, 'G', 0}, {3, 'x', 1, 0}, bytes.Repeat([]byte{0xff}, 11), {3, 'r', 1, 0},
	} {
		if _, err := DecodePatch(append(bytes.Clone(head), tail...), patchBase(t)); err == nil {
			t.Errorf("%x: accepted", tail)
		}
	}
	if _, err := DecodePatch([]byte(patchMagic+"\x02\x00\x00\x00"), nil); err == nil || !strings.Contains(err.Error(), "version 2") {
		t.Errorf("version 2: %v", err)
	}
}

// FuzzDecodePatch: what is accepted names files only, in order, and is the
// same when it is written once more.
func FuzzDecodePatch(f *testing.F) {
	f.Add(encodePatch(f, patchSample()))
	f.Add(encodePatch(f, &Patch{Files: []Patched{{Base: 3, Removed: true}}}))
	f.Add(encodePatch(f, &Patch{Files: []Patched{{Base: 6, Removed: true}}}))
	f.Add([]byte(patchMagic + "\x01\x00\x00\x00\x03E\x00\x00"))
	base := patchBase(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePatch(b, base)
		if err != nil {
			return
		}
		last := int32(0)
		for _, x := range p.Files {
			if x.Base <= last || int(x.Base) >= len(base) || base[x.Base].Type != File {
				t.Fatalf("entry %d after %d", x.Base, last)
			}
			last = x.Base
			for _, d := range x.File.Data() {
				if d.Off < 0 || d.Len <= 0 || d.Off+d.Len > x.File.Size {
					t.Fatalf("extent %v of %d", d, x.File.Size)
				}
			}
		}
		again, err := DecodePatch(encodePatch(t, p), base)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, again, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if segs, err := p.Segments(); err == nil {
			var sum int64
			for _, s := range segs {
				sum += s.Len
			}
			if sum != p.Contents {
				t.Fatalf("segments hold %d bytes of %d", sum, p.Contents)
			}
		}
	})
}
