package restore

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// torture fills dir with everything that is hard to copy.
func torture(t *testing.T, dir string) {
	t.Helper()
	p := func(name string) string { return filepath.Join(dir, name) }
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, data string) { t.Helper(); check(os.WriteFile(p(name), []byte(data), 0o644)) }
	mkdir := func(name string) { t.Helper(); check(os.MkdirAll(p(name), 0o755)) }

	tortureLinks(t, dir)
	tortureHoles(t, dir)
	tortureNames(t, dir)

	// Attributes.
	mkdir("attr/default")
	write("attr/plain", "plain")
	command(t, dir, "setfattr", "-n", "user.empty", "attr/plain")
	command(t, dir, "setfattr", "-n", "user.large", "-v", strings.Repeat("v", 3000), "attr/plain")
	command(t, dir, "setfattr", "-n", "user.newline", "-v", "0x0a00ff", "attr/plain")
	command(t, dir, "setfattr", "-n", "trusted.overlay.opaque", "-v", "y", "attr/default")
	command(t, dir, "setfattr", "-n", "security.ima", "-v", "0x0301", "attr/plain")
	command(t, dir, "setfattr", "-h", "-n", "trusted.link", "-v", "l", "link/symlink")
	command(t, dir, "setfacl", "-m", "u:4000000000:rwx,g:12:r", "attr/plain")
	command(t, dir, "setfacl", "-m", "d:u:7:rwx,d:g::r-x", "attr/default")
	write("attr/default/inherits", "x")
	write("attr/ping", "capable")
	check(os.Chown(p("attr/ping"), 33, 44))
	command(t, dir, "setcap", "cap_net_raw+ep", "attr/ping")

	// Owners and modes.
	mkdir("mode/sticky")
	for name, mode := range map[string]uint32{"suid": 0o4755, "sgid": 0o2711, "all": 0o7777, "none": 0, "sticky": 0o1777} {
		if name != "sticky" {
			write("mode/"+name, name)
		}
		check(os.Chown(p("mode/"+name), 4000000000, 3999999999))
		check(unix.Chmod(p("mode/"+name), mode))
	}
	mkdir("mode/setgid")
	check(os.Chown(p("mode/setgid"), 5, 6))
	check(unix.Chmod(p("mode/setgid"), 0o2775))
	write("mode/setgid/inherits", "group 6")
	mkdir("mode/closed")
	write("mode/closed/inside", "x")
	check(unix.Chmod(p("mode/closed"), 0))

	// Nodes.
	mkdir("node")
	check(unix.Mknod(p("node/null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	check(unix.Mknod(p("node/large"), unix.S_IFBLK|0o600, int(unix.Mkdev(259, 1048575))))
	check(unix.Mknod(p("node/whiteout"), unix.S_IFCHR, 0))
	check(unix.Mknod(p("node/socket"), unix.S_IFSOCK|0o700, 0))

	// Times.
	mkdir("time/dir")
	for name, ts := range map[string]unix.Timespec{
		"1968": {Sec: -47000000, Nsec: 123456789}, "2040": {Sec: 2208988800, Nsec: 1}, "2400": {Sec: 13569465600, Nsec: 5},
		"epoch": {}, "dir": {Sec: 1000000000, Nsec: 999999999},
	} {
		if name != "dir" {
			write("time/"+name, name)
		}
		check(unix.UtimesNanoAt(unix.AT_FDCWD, p("time/"+name), []unix.Timespec{ts, ts}, 0))
	}
	tortureFlags(t, dir)
}

func tortureLinks(t *testing.T, dir string) {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p := func(name string) string { return filepath.Join(dir, "link", name) }
	check(os.MkdirAll(p("sub"), 0o755))
	check(os.WriteFile(p("sub/file"), []byte("shared"), 0o644))
	check(os.WriteFile(p("empty"), nil, 0o644))
	check(os.Symlink("../../etc/passwd", p("symlink")))
	check(os.Symlink(strings.Repeat("x/", 2000), p("long")))
	check(os.Symlink("dangling \n\xff", p("odd")))
	check(unix.Lchown(p("symlink"), 77, 88))
	check(unix.UtimesNanoAt(unix.AT_FDCWD, p("symlink"), []unix.Timespec{{Sec: 5, Nsec: 6}, {Sec: 7, Nsec: 8}}, unix.AT_SYMLINK_NOFOLLOW))
	check(unix.Mkfifo(p("fifo"), 0o620))
	check(unix.Mknod(p("device"), unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))))
	check(unix.Mknod(p("sock"), unix.S_IFSOCK|0o600, 0))
	for _, x := range [][2]string{
		{"sub/file", "a-first"}, {"sub/file", "z-last"}, {"sub/file", "sub/next"}, {"empty", "sub/empty"},
		{"symlink", "sub/symlink"}, {"fifo", "sub/fifo"}, {"device", "device2"}, {"sock", "sub/sock"},
	} {
		check(os.Link(p(x[0]), p(x[1])))
	}
}

func tortureHoles(t *testing.T, dir string) {
	t.Helper()
	hole := filepath.Join(dir, "hole")
	if err := os.Mkdir(hole, 0o755); err != nil {
		t.Fatal(err)
	}
	file := func(name string, size int64, at ...int64) *os.File {
		f, err := os.Create(filepath.Join(hole, name))
		if err == nil {
			err = f.Truncate(size)
		}
		for i, off := range at {
			if err == nil {
				_, err = f.WriteAt(bytes.Repeat([]byte{byte('a' + i)}, 4096), off)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	file("all", 10<<20).Close()
	file("gigabyte", 1<<30, 0, 512<<20).Close()
	file("many", 4<<20, 1<<20, 1<<20+8192, 2<<20, 3<<20, 4<<20-4096).Close()
	file("odd", 12345, 8192-4096).Close()
	file("tail", 1<<20, 0).Close()
	f := file("allocated", 1<<20, 0)
	if err := unix.Fallocate(int(f.Fd()), 0, 64<<10, 512<<10); err != nil {
		t.Fatal(err)
	}
	f.Close()
	// Real zeros must stay: a swap file has no holes.
	if err := os.WriteFile(filepath.Join(hole, "zeros"), make([]byte, 300<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	// Larger than a piece, and not a multiple of a block.
	if err := os.WriteFile(filepath.Join(hole, "large"), bytes.Repeat([]byte("0123456789abcde"), 333333), 0o640); err != nil {
		t.Fatal(err)
	}
}

func tortureNames(t *testing.T, dir string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(dir, "name"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{
		"new\nline", "bad\xff\xfeutf8", strings.Repeat("n", 255), "caf\u00e9", "cafe\u0301", `back\slash`, "-rf", " ", "...",
		"\x01\x7f", "$(reboot)", "%s", "lost+found", "quote'\"",
	} {
		if err := os.WriteFile(filepath.Join(dir, "name", n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// 30 directories of 200 bytes: a path of 6 kB.
	fd, err := unix.Open(dir, unix.O_DIRECTORY, 0)
	for i := 0; i < 30 && err == nil; i++ {
		name := "deep"
		if i > 0 {
			name = strings.Repeat("d", 200)
		}
		if err = unix.Mkdirat(fd, name, 0o750); err == nil {
			next := -1
			next, err = unix.Openat(fd, name, unix.O_DIRECTORY, 0)
			unix.Close(fd)
			fd = next
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	f, err := unix.Openat(fd, "file", unix.O_CREAT|unix.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(f)
	if _, err := unix.Write(f, []byte("down here")); err != nil {
		t.Fatal(err)
	}
	if err := unix.Symlinkat("nowhere", fd, "symlink"); err != nil {
		t.Fatal(err)
	}
	if err := unix.Linkat(fd, "file", fd, "hard", 0); err != nil {
		t.Fatal(err)
	}
}

func tortureFlags(t *testing.T, dir string) {
	t.Helper()
	flags := filepath.Join(dir, "flag")
	if err := os.MkdirAll(filepath.Join(flags, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"i", "a", "d", "A", "S", "dir/file"} {
		if err := os.WriteFile(filepath.Join(flags, n), []byte(n), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"i", "a", "d", "A", "S"} {
		command(t, flags, "chattr", "+"+n, n)
	}
	command(t, flags, "chattr", "+id", "dir")
}
