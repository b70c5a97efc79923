package restore

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// noise is bytes that no other seed gives.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// beforeUpdate adds to golden what changeGolden changes.
func beforeUpdate(t *testing.T, dir string) {
	t.Helper()
	up := filepath.Join(dir, "up")
	for _, d := range []string{"dir-file/a/b", "dir-link/a", "dir-fifo", "gone/deep/er", "frozen", "stays", "empty-soon"} {
		if err := os.MkdirAll(filepath.Join(up, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for i, f := range []string{"same", "one-byte", "longer", "shorter", "gone/f", "gone/deep/er/f", "dir-file/a/b/f", "dir-link/a/f", "dir-fifo/f",
		"file-dir", "file-link", "file-fifo", "frozen/changed", "frozen/gone", "frozen/same", "empty-soon/x", "split-1", "join-1", "join-2", "grow-1",
		"shrink-1", "hole-more", "xattr-gone", "xattr-new", "xattr-other", "acl-gone", "mode", "owner", "time", "cap-gone", "suid", "flag-gone", "flag-new", "emptied", "stays/a", "stays/b"} {
		if err := os.WriteFile(filepath.Join(up, f), noise(uint64(i), 300_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	link := func(a, b string) error { return os.Link(filepath.Join(up, a), filepath.Join(up, b)) }
	err := errors.Join(os.WriteFile(up+"/large", noise(50, 5_000_000), 0o644), link("split-1", "split-2"), link("shrink-1", "shrink-2"), link("shrink-1", "stays/shrink-3"),
		os.Symlink("/etc", up+"/link-dir"), os.Symlink("/etc/passwd", up+"/link-file"), os.Symlink("a", up+"/link-link"),
		unix.Mkfifo(up+"/fifo-file", 0o600), unix.Mknod(up+"/dev", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 3))),
		os.WriteFile(up+"/empty-file", nil, 0o600), os.Chmod(up+"/suid", 0o755|os.ModeSetuid))
	if err != nil {
		t.Fatal(err)
	}
	command(t, up, "setfattr", "-n", "user.gone", "-v", "x", "xattr-gone", "stays")
	command(t, up, "setfattr", "-n", "user.other", "-v", "x", "xattr-other")
	command(t, up, "setfacl", "-m", "u:7:rwx", "acl-gone")
	command(t, up, "setcap", "cap_net_raw+ep", "cap-gone")
	command(t, up, "chattr", "+i", "flag-gone", "frozen/changed", "frozen/gone", "frozen/same")
	command(t, up, "chattr", "+i", "frozen")
	sparseFile(t, up+"/hole-same", 0, 1<<20)
	sparseFile(t, up+"/hole-moved", 0, 1<<20)
	sparseFile(t, up+"/hole-filled", 0)
}

func sparseFile(t *testing.T, path string, at ...int64) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = f.Truncate(4 << 20)
	}
	for _, off := range at {
		if err == nil {
			_, err = f.WriteAt(noise(uint64(off), 8192), off)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// changeGolden changes all that can change.
func changeGolden(t *testing.T, dir string) {
	t.Helper()
	up := filepath.Join(dir, "up")
	p := func(n string) string { return filepath.Join(up, n) }
	command(t, up, "chattr", "-i", "flag-gone", "frozen")
	command(t, up, "chattr", "-i", "frozen/changed", "frozen/gone")
	edit := func(name string, off int64, data []byte) {
		t.Helper()
		f, err := os.OpenFile(p(name), os.O_RDWR, 0)
		if err == nil {
			_, err = f.WriteAt(data, off)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	// Content.
	edit("one-byte", 150_000, []byte{0})
	edit("large", 2_500_000, []byte{0})
	edit("longer", 300_000, []byte("more"))
	edit("frozen/changed", 9, []byte("changed"))
	edit("stays/shrink-3", 9, []byte("changed through a link"))
	edit("hole-filled", 1<<20, noise(77, 4096))
	sparseFile(t, p("hole-moved"), 8192, 2<<20)
	command(t, up, "fallocate", "-p", "-o", "65536", "-l", "65536", "hole-more")
	err := errors.Join(os.Truncate(p("shorter"), 1000), os.Truncate(p("emptied"), 0), os.WriteFile(p("empty-file"), []byte("full"), 0o600),
		// Added and removed.
		os.WriteFile(p("added"), noise(99, 2_000_000), 0o640), os.MkdirAll(p("new/dir"), 0o711), os.WriteFile(p("new/dir/f"), []byte("f"), 0o600),
		os.RemoveAll(p("gone")), os.Remove(p("frozen/gone")), os.Remove(p("empty-soon/x")),
		// Retyped.
		os.RemoveAll(p("dir-file")), os.WriteFile(p("dir-file"), []byte("now a file"), 0o600),
		os.RemoveAll(p("dir-link")), os.Symlink("/outside", p("dir-link")),
		os.RemoveAll(p("dir-fifo")), unix.Mkfifo(p("dir-fifo"), 0o640),
		os.Remove(p("file-dir")), os.MkdirAll(p("file-dir/sub"), 0o755), os.WriteFile(p("file-dir/sub/f"), []byte("x"), 0o600),
		os.Remove(p("file-link")), os.Symlink("x", p("file-link")),
		os.Remove(p("file-fifo")), unix.Mkfifo(p("file-fifo"), 0o600),
		os.Remove(p("link-dir")), os.Mkdir(p("link-dir"), 0o755), os.WriteFile(p("link-dir/f"), []byte("x"), 0o600),
		os.Remove(p("link-file")), os.WriteFile(p("link-file"), []byte("x"), 0o600),
		os.Remove(p("link-link")), os.Symlink("b", p("link-link")),
		os.Remove(p("fifo-file")), os.WriteFile(p("fifo-file"), []byte("x"), 0o600),
		os.Remove(p("dev")), unix.Mknod(p("dev"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))),
		// Hard links.
		os.Remove(p("split-2")), os.WriteFile(p("split-2"), noise(40, 300_000), 0o600),
		os.Remove(p("join-2")), os.Link(p("join-1"), p("join-2")), os.Link(p("grow-1"), p("stays/grow-2")), os.Remove(p("shrink-2")),
		// Attributes.
		os.Chmod(p("mode"), 0o751), os.Chown(p("owner"), 12, 34), os.Chmod(p("suid"), 0o755), os.Chmod(p("stays"), 0o700),
		os.Chtimes(p("time"), time.Time{}, time.Unix(5, 6)),
	)
	if err != nil {
		t.Fatal(err)
	}
	command(t, up, "setfattr", "-x", "user.gone", "xattr-gone", "stays")
	command(t, up, "setfattr", "-n", "user.other", "-v", "y", "xattr-other")
	command(t, up, "setfattr", "-n", "user.new", "-v", "n", "xattr-new")
	command(t, up, "setfacl", "-b", "acl-gone")
	command(t, up, "setcap", "-r", "cap-gone")
	command(t, up, "chattr", "+i", "flag-new", "frozen")
	command(t, filepath.Join(dir, "odd/flags"), "chattr", "-a", "append")
}

// changeClone does what a machine does in its life, and mounts two file
// systems where golden has nothing; it returns where.
func changeClone(t *testing.T, dir string) []string {
	t.Helper()
	up := filepath.Join(dir, "up")
	err := errors.Join(os.MkdirAll(dir+"/own/a/b/c", 0o755), os.WriteFile(dir+"/own/a/b/c/f", noise(3, 100_000), 0o600),
		os.WriteFile(up+"/stays/b", []byte("another b"), 0o600), os.WriteFile(up+"/stays/own", []byte("own"), 0o600),
		os.Symlink("/etc/passwd", up+"/own-link"), os.Link(up+"/stays/a", up+"/own-name-of-a"),
		os.Remove(up+"/mode"), os.MkdirAll(up+"/mode/is/now/a/directory", 0o755),
		os.WriteFile(dir+"/own/frozen", nil, 0o600), os.MkdirAll(dir+"/foreign", 0o755), os.MkdirAll(up+"/foreign", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	command(t, dir, "chattr", "+i", "own/frozen", "own/a/b")
	command(t, up, "setfattr", "-n", "user.own", "-v", "x", "stays/a", "stays")
	command(t, up, "setfacl", "-m", "u:9:rwx", "time")
	mounted := []string{dir + "/foreign", up + "/foreign"}
	for _, m := range mounted {
		command(t, "/", "mount", "-t", "tmpfs", "none", m)
		t.Cleanup(func() { syscall.Unmount(m, syscall.MNT_DETACH) })
		if err := os.WriteFile(m+"/precious", []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return mounted
}
