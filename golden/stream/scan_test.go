package stream

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// grow makes a tree: names that end in "/" are directories, others files
// that hold their own name.
func grow(t testing.TB, dir string, names ...string) {
	t.Helper()
	for _, n := range names {
		p := filepath.Join(dir, n)
		err := os.MkdirAll(filepath.Dir(p), 0o755)
		if strings.HasSuffix(n, "/") {
			err = errors.Join(err, os.MkdirAll(p, 0o755))
		} else {
			err = errors.Join(err, os.WriteFile(p, []byte(n), 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func scan(t testing.TB, opt ScanOptions) *Tree {
	t.Helper()
	tree, err := Scan(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// readAll reads a whole stream, piece by piece.
func readAll(t testing.TB, tree *Tree, id uint16) []byte {
	t.Helper()
	var all []byte
	s := tree.Streams()[id]
	for n := range s.Pieces {
		buf := bytes.Repeat([]byte{0xaa}, s.Len(n))
		if err := tree.ReadPiece(id, n, buf); err != nil {
			t.Fatal(err)
		}
		all = append(all, buf...)
	}
	return all
}

// decoded is the manifest as a node sees it.
func decoded(t testing.TB, tree *Tree) *Manifest {
	t.Helper()
	m, err := Decode(readAll(t, tree, ManifestID))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func paths(m *Manifest) []string {
	var ps []string
	for i := range m.Entries {
		ps = append(ps, m.Path(int32(i)))
	}
	slices.Sort(ps)
	return ps
}

func TestScanExcludes(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "a/b/file", "a/keep", "tmp/deep/x", "var/log/one", "var/log/two", "z")
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	m := decoded(t, scan(t, ScanOptions{Root: dir, Excludes: []string{"/tmp", "/var/log/", "/a/keep", "/a/b/../b/file", "/none"}}))
	if d := cmp.Diff([]string{"", "a", "a/b", "tmp", "var", "var/log", "z"}, paths(m)); d != "" {
		t.Error(d)
	}
	for i := range m.Entries {
		if m.Path(int32(i)) == "tmp" && m.Entries[i].Mode != 0o1777 {
			t.Errorf("tmp has mode %#o", m.Entries[i].Mode)
		}
	}
}

// inNamespace runs the test in a mount namespace of its own, by starting the
// test binary once more.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts tmpfs")
	}
	if os.Getenv("STREAM_TEST_NAMESPACE") == t.Name() {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "STREAM_TEST_NAMESPACE="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Fatalf("in its namespace: %v", err)
	}
	return false
}

// TestScanMounts: listed mounts are part of the tree, others are not, and a
// bind mount of the same file system is another mount.
func TestScanMounts(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	dir := t.TempDir()
	mount := func(source, where, kind string, flags uintptr) {
		t.Helper()
		grow(t, dir, where+"/")
		p := filepath.Join(dir, where)
		if err := syscall.Mount(source, p, kind, flags, ""); err != nil {
			t.Fatalf("mount %s: %v", p, err)
		}
		t.Cleanup(func() { syscall.Unmount(p, syscall.MNT_DETACH) })
	}
	mount("none", ".", "tmpfs", 0)
	grow(t, dir, "etc/fstab", "lost+found/junk", "etc/lost+found/kept", "under/hidden")
	mount("none", "home", "tmpfs", 0)
	grow(t, dir, "home/user/file", "home/lost+found/junk")
	mount("none", "home/user/nested", "tmpfs", 0)
	grow(t, dir, "home/user/nested/no")
	mount("none", "proc", "tmpfs", 0)
	grow(t, dir, "proc/no")
	mount(filepath.Join(dir, "etc"), "bind", "", syscall.MS_BIND)
	mount("none", "under", "tmpfs", 0)
	tree := scan(t, ScanOptions{Root: dir, Mounts: []string{"/", "/home"}})
	want := []string{"", "bind", "etc", "etc/fstab", "etc/lost+found", "etc/lost+found/kept", "home", "home/user", "home/user/file", "home/user/nested", "proc", "under"}
	if d := cmp.Diff(want, paths(decoded(t, tree))); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]Usage{{"/", 8 * 4096, 8}, {"/home", 4 * 4096, 4}}, tree.Usage()); d != "" {
		t.Error(d)
	}
}

// TestReadPiece: any part of the contents, in any order, is the bytes of the
// files one after the other.
func TestReadPiece(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "a/1", "a/2", "b/3", "empty/")
	large := bytes.Repeat([]byte("large file "), 300000)
	if err := os.WriteFile(filepath.Join(dir, "b/large"), large, 0o600); err != nil {
		t.Fatal(err)
	}
	tree := scan(t, ScanOptions{Root: dir})
	m, all := decoded(t, tree), readAll(t, tree, ContentsID)
	if int64(len(all)) != m.Contents || m.Contents != int64(len(large))+9 {
		t.Fatalf("%d bytes, the manifest says %d", len(all), m.Contents)
	}
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Type != File {
			continue
		}
		want, err := os.ReadFile(filepath.Join(dir, m.Path(int32(i))))
		if err != nil || !bytes.Equal(all[e.DataOff:e.DataOff+e.Size], want) {
			t.Errorf("%s differs (%v)", m.Path(int32(i)), err)
		}
	}
	for what, err := range map[string]error{
		"piece":  tree.ReadPiece(ContentsID, tree.Streams()[1].Pieces, make([]byte, 5)),
		"buffer": tree.ReadPiece(ContentsID, 0, make([]byte, 5)),
		"stream": tree.ReadPiece(2, 0, make([]byte, 5)),
	} {
		if err == nil {
			t.Errorf("wrong %s: no error", what)
		}
	}
}

// TestChanged: files that move under us give their promised length and are
// named.
func TestChanged(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "appended", "gone/file", "link", "same", "shrunk", "touched")
	tree := scan(t, ScanOptions{Root: dir})
	before := readAll(t, tree, ContentsID)
	if c := tree.Changed(); len(c) != 0 {
		t.Errorf("changed at once: %v", c)
	}
	p := func(n string) string { return filepath.Join(dir, n) }
	f, err := os.OpenFile(p("appended"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("more")
	err = errors.Join(err, f.Close(), os.RemoveAll(p("gone")), os.Remove(p("link")), os.Symlink("same", p("link")),
		os.Truncate(p("shrunk"), 2), os.Chmod(p("touched"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	after := readAll(t, tree, ContentsID)
	want := strings.NewReplacer("gone/file", strings.Repeat("\x00", 9), "link", "\x00\x00\x00\x00", "shrunk", "sh\x00\x00\x00\x00").Replace(string(before))
	if string(after) != want {
		t.Errorf("read %q, want %q", after, want)
	}
	want2 := []string{"appended", "gone/file gone", "link gone", "shrunk", "touched"}
	var got []string
	for _, c := range tree.Changed() {
		s := c.Path
		if c.Gone {
			s += " gone"
		}
		got = append(got, s)
	}
	slices.Sort(got)
	if d := cmp.Diff(want2, got); d != "" {
		t.Error(d)
	}
}

func TestScanErrors(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "file", "d/")
	for _, root := range []string{filepath.Join(dir, "none"), filepath.Join(dir, "file")} {
		if _, err := Scan(context.Background(), ScanOptions{Root: root}); err == nil || !strings.Contains(err.Error(), root) {
			t.Errorf("root %s: %v", root, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Scan(ctx, ScanOptions{Root: dir}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestOpenBeneath(t *testing.T) {
	dir := t.TempDir()
	grow(t, dir, "in/file", "out")
	if err := errors.Join(os.Symlink("/", dir+"/in/root"), os.Symlink("file", dir+"/in/near")); err != nil {
		t.Fatal(err)
	}
	root, err := unix.Open(dir+"/in", unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(root)
	for _, p := range []string{"../out", "/etc/passwd", "root/etc", "near", "file/x", "./../out"} {
		if fd, err := OpenBeneath(root, p, unix.O_RDONLY, 0); err == nil {
			unix.Close(fd)
			t.Errorf("%s: opened", p)
		}
	}
}

func TestImage(t *testing.T) {
	dir := t.TempDir()
	p := filepath.Join(dir, "disk.img")
	data := bytes.Repeat([]byte("0123456789"), 150000)
	if err := os.WriteFile(p, data, 0o600); err != nil {
		t.Fatal(err)
	}
	i, err := OpenImage(3, p)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	s := i.Streams()[0]
	want := wire.NewStream(3, wire.ImageStream, 1500000)
	want.Name = "disk.img"
	if d := cmp.Diff(want, s); d != "" {
		t.Error(d)
	}
	buf := make([]byte, s.Len(1))
	if err := i.ReadPiece(3, 1, buf); err != nil || !bytes.Equal(buf, data[s.PieceSize:][:len(buf)]) {
		t.Errorf("piece 1 differs (%v)", err)
	}
	if err := os.Truncate(p, 5); err != nil {
		t.Fatal(err)
	}
	if i.ReadPiece(3, 1, buf) == nil || i.ReadPiece(2, 0, make([]byte, s.Len(0))) == nil || i.ReadPiece(3, s.Pieces, buf) == nil {
		t.Error("shrunk, wrong stream or wrong piece: no error")
	}
	if err := unix.Mkfifo(dir+"/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, dir + "/fifo", "/dev/null", dir + "/none"} {
		if i, err := OpenImage(0, p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v, %v", p, i, err)
		}
	}
}
