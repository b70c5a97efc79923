package goldenroot

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// AddOdd makes dir and fills it with what is hard to copy. Two calls make two
// equal trees, so that a comparison can be tried out on them.
func AddOdd(dir string) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for _, c := range cases {
		if err := AddCase(dir, c.name); err != nil {
			return err
		}
	}
	return setTime(dir, 1_111_111_111, 111_111_111)
}

// AddCase makes one directory of an odd tree, in dir.
func AddCase(dir, name string) error {
	for _, c := range cases {
		if c.name != name {
			continue
		}
		sub := filepath.Join(dir, name)
		if err := os.Mkdir(sub, 0o755); err != nil {
			return err
		}
		if err := c.fill(sub); err != nil {
			return fmt.Errorf("make odd files: %s: %w", name, err)
		}
		return setTime(sub, 1_234_567_890, 987_654_321)
	}
	return fmt.Errorf("make odd files: no case %q", name)
}

var cases = []struct {
	name string
	fill func(dir string) error
}{
	{"contents", contents}, {"hardlinks", hardLinks}, {"holes", holes}, {"modes", modes},
	{"owners", owners}, {"xattrs", xattrs}, {"acls", acls}, {"symlinks", symlinks},
	{"special", special}, {"names", names}, {"times", times}, {"many", many},
	{"deep", deep}, {"flags", setFlags},
}

// write makes a file with an mtime that is the same every time.
func write(name string, data []byte, mode os.FileMode) error {
	if err := os.WriteFile(name, data, 0o600); err != nil {
		return err
	}
	if err := unix.Chmod(name, uint32(mode)); err != nil { // octal set-id bits, no umask
		return err
	}
	return setTime(name, 1_500_000_000, 123_456_789)
}

func setTime(name string, sec, nsec int64) error {
	ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, name, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set the time of %q: %w", name, err)
	}
	return nil
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b) // never fails
	return b
}

// contents: lengths around a piece's, what compresses and what doesn't.
func contents(dir string) error {
	for name, data := range map[string][]byte{
		"empty": nil, "one": {1}, "piece": noise(1 << 20), "piece+1": noise(1<<20 + 1),
		"piece-1": noise(1<<20 - 1), "noise": noise(5<<20 + 12345), "text": []byte(strings.Repeat("kamethod\n", 300_000)),
	} {
		if err := write(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// hardLinks: of every type that can have several names, in one directory and
// in two, the first name before and after the others.
func hardLinks(dir string) error {
	p := func(name string) string { return filepath.Join(dir, name) }
	if err := os.Mkdir(p("sub"), 0o700); err != nil {
		return err
	}
	if err := write(p("a"), []byte("three names\n"), 0o640); err != nil {
		return err
	}
	if err := write(p("sub/empty"), nil, 0o600); err != nil {
		return err
	}
	if err := os.Symlink("a", p("link")); err != nil {
		return err
	}
	for name, mode := range map[string]uint32{"fifo": unix.S_IFIFO, "socket": unix.S_IFSOCK, "device": unix.S_IFCHR} {
		if err := unix.Mknod(p(name), mode|0o600, int(unix.Mkdev(1, 5))); err != nil {
			return err
		}
	}
	for _, pair := range [][2]string{
		{"a", "b"}, {"a", "sub/c"}, {"a", "Z-first-by-name"}, {"sub/empty", "empty"}, {"link", "sub/link2"}, {"link", "z-link"},
		{"fifo", "sub/fifo2"}, {"socket", "sub/socket2"}, {"device", "device2"},
	} {
		if err := os.Link(p(pair[0]), p(pair[1])); err != nil {
			return err
		}
	}
	return setTimes(p("link"), p("fifo"), p("socket"), p("device"), p("sub"))
}

func setTimes(names ...string) error {
	for _, n := range names {
		if err := setTime(n, 1_600_000_000, 5); err != nil {
			return err
		}
	}
	return nil
}

func modes(dir string) error {
	for _, m := range []os.FileMode{0, 0o111, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777} {
		if err := write(filepath.Join(dir, fmt.Sprintf("f%04o", m)), []byte("mode\n"), m); err != nil {
			return err
		}
	}
	for _, m := range []uint32{0, 0o1777, 0o2775} {
		name := filepath.Join(dir, fmt.Sprintf("d%04o", m))
		if err := os.Mkdir(name, 0o700); err != nil {
			return err
		}
		if err := unix.Chmod(name, m); err != nil {
			return err
		}
		if err := inside(name, m); err != nil {
			return err
		}
	}
	return nil
}

// inside puts a file into a directory that hardly lets anybody in, or that
// hands down its group.
func inside(dir string, mode uint32) error {
	if mode&unix.S_ISGID != 0 {
		if err := os.Lchown(dir, 5, 6); err != nil {
			return err
		}
		if err := unix.Chmod(dir, mode); err != nil { // chown takes set-gid away
			return err
		}
	}
	if err := write(filepath.Join(dir, "file"), []byte("inside\n"), 0o644); err != nil {
		return err
	}
	return setTimes(dir)
}

func owners(dir string) error {
	for _, id := range []int{1000, 65534, 2_200_000, 4_000_000_000} {
		name := filepath.Join(dir, fmt.Sprint(id))
		if err := write(name, []byte("owner\n"), 0o600); err != nil {
			return err
		}
		if err := os.Lchown(name, id, id-1); err != nil {
			return err
		}
	}
	// Set-uid for somebody else: the owner must be set before the mode.
	name := filepath.Join(dir, "setuid-1000")
	if err := write(name, []byte("owner\n"), 0o600); err != nil {
		return err
	}
	if err := os.Lchown(name, 1000, 1000); err != nil {
		return err
	}
	link := filepath.Join(dir, "link-1000")
	if err := os.Symlink("1000", link); err != nil {
		return err
	}
	if err := os.Lchown(link, 1000, 1000); err != nil {
		return err
	}
	if err := unix.Chmod(name, 0o4755); err != nil {
		return err
	}
	return setTimes(link)
}

func symlinks(dir string) error {
	for name, target := range map[string]string{
		"dangling": "/nowhere/at/all", "relative": "../contents/text", "long": strings.Repeat("0123456789abcdef/", 240),
		"newline": "one\ntwo", "to-root": "/", "to-itself": "to-itself", "bad-utf8": "\xff\xfe",
	} {
		link := filepath.Join(dir, name)
		err := os.Symlink(target, link)
		if errors.Is(err, unix.ENAMETOOLONG) {
			continue // XFS takes 1024 bytes
		}
		if err != nil {
			return err
		}
		if err := setTimes(link); err != nil {
			return err
		}
	}
	return nil
}

func special(dir string) error {
	for _, n := range []struct {
		name string
		mode uint32
		dev  uint64
	}{
		{"fifo", unix.S_IFIFO | 0o622, 0},
		{"null", unix.S_IFCHR | 0o666, unix.Mkdev(1, 3)},
		{"char-large", unix.S_IFCHR | 0o600, unix.Mkdev(4000, 1_000_000)},
		{"block", unix.S_IFBLK | 0o660, unix.Mkdev(7, 200)},
		{"block-large", unix.S_IFBLK | 0o600, unix.Mkdev(259, 1<<20-1)}, // a minor number has 20 bits
		{"whiteout", unix.S_IFCHR, 0},                                   // overlayfs marks a removed file so
	} {
		name := filepath.Join(dir, n.name)
		err := unix.Mknod(name, n.mode, int(n.dev))
		if errors.Is(err, unix.EINVAL) && n.dev != 0 {
			continue // XFS takes minor numbers of 18 bits
		}
		if err != nil {
			return err
		}
		if err := unix.Chmod(name, n.mode&0o7777); err != nil {
			return err
		}
		if err := setTimes(name); err != nil {
			return err
		}
	}
	return socket(filepath.Join(dir, "socket"))
}

func socket(name string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		return err
	}
	if err := unix.Chmod(name, 0o755); err != nil {
		return err
	}
	return setTimes(name)
}

func names(dir string) error {
	for _, name := range []string{
		"new\nline", "bad-utf8-\xff\xfe", strings.Repeat("n", 255), "-rf", `back\slash`, "  spaces  ", "quote'\"`$(id)",
		"\u00e9-nfc", "e\u0301-nfd", "\x01control", "*", "trailing.", "...", "$HOME", "%s%n", "lost+found",
		" ", "\x7f", "Case", "case",
	} {
		if err := write(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func times(dir string) error {
	for name, t := range map[string][2]int64{
		"nanosecond": {1_700_000_000, 1}, "before-1970": {-36_000_000, 250_000_000}, "epoch": {0, 0},
		"1901": {-2_147_483_648, 0}, "2040": {2_208_988_800, 999_999_999}, "2106+": {4_294_967_297, 3}, "2400": {13_569_465_600, 5},
	} {
		file := filepath.Join(dir, name)
		if err := write(file, nil, 0o600); err != nil {
			return err
		}
		if err := setTime(file, t[0], t[1]); err != nil {
			return err
		}
	}
	return nil
}

// many: a directory large enough to need an index.
func many(dir string) error {
	for i := range 2000 {
		if err := write(filepath.Join(dir, fmt.Sprintf("file-number-%06d", i)), []byte(fmt.Sprint(i)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// deep: a path of 6000 bytes, longer than PATH_MAX (4096).
func deep(dir string) error {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	fds := []int{fd}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	name := strings.Repeat("d", 200)
	for range 30 {
		if err := unix.Mkdirat(fd, name, 0o755); err != nil {
			return err
		}
		fd, err = unix.Openat(fd, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		fds = append(fds, fd)
	}
	file, err := unix.Openat(fd, "bottom", unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	defer unix.Close(file)
	if _, err := unix.Write(file, []byte("bottom\n")); err != nil {
		return err
	}
	ts := []unix.Timespec{{Sec: 1_000_000_000, Nsec: 7}, {Sec: 1_000_000_000, Nsec: 7}}
	if err := unix.Symlinkat("nowhere", fd, "link"); err != nil {
		return err
	}
	if err := unix.Linkat(fd, "bottom", fd, "second", 0); err != nil {
		return err
	}
	for _, n := range []string{"bottom", "link"} {
		if err := unix.UtimesNanoAt(fd, n, ts, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
	}
	for i := len(fds) - 2; i >= 0; i-- {
		if err := unix.UtimesNanoAt(fds[i], name, ts, 0); err != nil {
			return err
		}
	}
	return nil
}
