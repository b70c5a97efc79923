package compare

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
)

// damage is one thing that copying programs are known to do to a tree.
type damage struct {
	name string
	in   string // the part of the odd tree
	file string // what is damaged
	do   func(name string) error
	want string // what is seen: "file aspect", all of it, ascending
}

var damages = []damage{
	{"a byte of the content, time kept", "contents", "text", poke(9, 'K'), "text content"},
	{"the last byte cut off, time kept", "contents", "noise", cut(5<<20 + 12344), "noise content, noise size"},
	{"a nanosecond of a file's time", "times", "nanosecond", mtime(1_700_000_000, 2), "nanosecond mtime"},
	{"a nanosecond of a directory's time", "hardlinks", "sub", mtime(1_600_000_000, 6), "sub mtime"},
	{"a link's time", "symlinks", "relative", mtime(1_600_000_001, 5), "relative mtime"},
	{"a time before 1970 cut to seconds", "times", "before-1970", mtime(-36_000_000, 0), "before-1970 mtime"},
	{"a time after 2106 cut to 32 bits", "times", "2106+", mtime(1, 3), "2106+ mtime"},
	{"hard link made a copy", "hardlinks", "sub/c", recopy, "Z-first-by-name links, a links, b links, sub/c links"},
	{"fifo's link split", "hardlinks", "sub/fifo2", renode(unix.S_IFIFO|0o600, 0), "fifo links, sub/fifo2 links"},
	{"device's link split", "hardlinks", "device2", renode(unix.S_IFCHR|0o600, unix.Mkdev(1, 5)), "device links, device2 links"},
	{"symbolic link's link split", "hardlinks", "z-link", relink("a"), "link links, sub/link2 links, z-link links"},
	{"capability lost", "xattrs", "capable", unset("security.capability"), "capable xattr"},
	{"trusted attribute lost", "xattrs", "file", unset("trusted.lab"), "file xattr"},
	{"SELinux label changed", "xattrs", "file", set("security.selinux", "system_u:object_r:tmp_t:s0\x00"), "file xattr"},
	{"IMA signature lost", "xattrs", "file", unset("security.ima"), "file xattr"},
	{"empty attribute lost", "xattrs", "file", unset("user.empty"), "file xattr"},
	{"large attribute cut", "xattrs", "file", set("user.long", strings.Repeat("x", 2999)), "file xattr"},
	{"link's attribute lost", "xattrs", "link", unset("trusted.on-symlink"), "link xattr"},
	{"device's attribute lost", "xattrs", "device", unset("trusted.on-device"), "device xattr"},
	{"directory's attribute lost", "xattrs", "sub", unset("trusted.overlay.opaque"), "sub xattr"},
	{"attribute too many", "xattrs", "capable", set("user.new", "1"), "capable xattr"},
	{"default ACL lost", "acls", "sub", unset("system.posix_acl_default"), "sub xattr"},
	{"ACL lost, its mode kept", "acls", "file", dropACL, "file xattr"},
	{"immutable flag lost", "flags", "immutable", chattr("-i"), "immutable flags"},
	{"append-only flag lost", "flags", "append", chattr("-a"), "append flags"},
	{"nodump flag lost", "flags", "nodump", chattr("-d"), "nodump flags"},
	{"noatime flag lost", "flags", "noatime", chattr("-A"), "noatime flags"},
	{"directory's flag lost", "flags", "immutable-directory", chattr("-i"), "immutable-directory flags"},
	{"owner", "contents", "one", chown(1, -1), "one owner"},
	{"group", "contents", "one", chown(-1, 1), "one owner"},
	{"owner cut to 16 bits", "owners", "4000000000", chown(4_000_000_000&0xffff, -1), "4000000000 owner"},
	{"link's owner", "owners", "link-1000", chown(0, -1), "link-1000 owner"},
	{"set-uid lost", "modes", "f4755", chmod(0o755), "f4755 mode"},
	{"a mode bit", "modes", "f0111", chmod(0o110), "f0111 mode"},
	{"sticky bit lost", "modes", "d1777", chmod(0o777), "d1777 mode"},
	{"hole filled", "holes", "islands", fill(6<<20, 1<<20), "islands allocation"},
	{"real zeros made a hole", "holes", "real-zeros", punch(0, 2<<20), "real-zeros allocation"},
	{"reserved space lost", "holes", "preallocated", punch(1<<20, 3<<20), "preallocated allocation"},
	{"device number", "special", "char-large", renode(unix.S_IFCHR|0o600, unix.Mkdev(4000, 1)), "char-large device"},
	{"character device made a block device", "special", "null", renode(unix.S_IFBLK|0o666, unix.Mkdev(1, 3)), "null type"},
	{"whiteout missing", "special", "whiteout", os.Remove, "whiteout missing"},
	{"socket missing", "special", "socket", os.Remove, "socket missing"},
	{"file too many", "contents", "new", func(n string) error { return os.WriteFile(n, nil, 0o600) }, "new extra"},
	{"link's target, as long as before", "symlinks", "newline", relink("one\nTWO"), "newline target"},
	{"link made a file", "symlinks", "to-root", func(n string) error { return errors.Join(os.Remove(n), os.WriteFile(n, nil, 0o777)) }, "to-root type"},
	{"name made valid UTF-8", "names", "bad-utf8-\xff\xfe", rename("bad-utf8-\ufffd"), "bad-utf8-\ufffd extra, bad-utf8-\xff\xfe missing"},
	{"name composed otherwise", "names", "\u00e9-nfc", rename("e\u0301-nfc"), "e\u0301-nfc extra, \u00e9-nfc missing"},
	{"name's newline lost", "names", "new\nline", rename("new line"), "new\nline missing, new line extra"},
}

// TestDamage injects each damage alone into a fresh tree: it is seen, where
// and as what it is, and nothing else is. What other programs see of it is
// written to the log, as the table of docs/fidelity.md; each must be seen by
// one of them at least: our checker isn't the only judge.
func TestDamage(t *testing.T) {
	needRoot(t)
	tools, names := outsiders(), []string{}
	for _, o := range tools {
		names = append(names, o.name)
	}
	var table strings.Builder
	fmt.Fprintf(&table, "| damage | ours | %s |\n|---|%s\n", strings.Join(names, " | "), strings.Repeat("---|", len(names)+1))
	found := 0
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			golden, clone := oddCase(t, d.in), oddCase(t, d.in)
			if r := Trees(scan(t, golden), scan(t, clone), nil); len(r.Differences) > 0 {
				t.Fatalf("undamaged: %v", r.Differences)
			}
			before := seenBy(t, tools, golden, clone)
			name := filepath.Join(clone, d.file)
			if strings.HasSuffix(d.want, "mtime") {
				if err := d.do(name); err != nil {
					t.Fatal(err)
				}
			} else {
				keepTimes(t, name, func() error { return d.do(name) })
			}
			var got []string
			for _, x := range Trees(scan(t, golden), scan(t, clone), nil).Differences {
				got = append(got, strings.TrimPrefix(x.Path, "/")+" "+string(x.Aspect))
			}
			slices.Sort(got)
			if s := strings.Join(got, ", "); s != d.want {
				t.Errorf("seen: %q, want %q", s, d.want)
			} else {
				found++
			}
			row, any := "", false
			for i, sees := range seenBy(t, tools, golden, clone) {
				if before[i] {
					t.Errorf("%s sees a difference between undamaged trees", tools[i].name)
				}
				any = any || sees
				row += map[bool]string{true: " ● |", false: "  |"}[sees]
			}
			if !any && len(tools) == len(outside) {
				t.Error("no other program sees it")
			}
			fmt.Fprintf(&table, "| %s | ● |%s\n", d.name, row)
		})
	}
	t.Logf("%d of %d damages found\n%s", found, len(damages), table.String())
}

// oddCase makes one part of an odd tree and returns its directory.
func oddCase(t *testing.T, name string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "damage") // not t.TempDir: it can't remove immutable files
	if err != nil {
		t.Fatal(err)
	}
	odd := filepath.Join(dir, "srv/odd")
	t.Cleanup(func() {
		if err := goldenroot.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	if err := os.MkdirAll(odd, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := goldenroot.AddCase(odd, name); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(odd, name)
}

// outsider is a program of other people's that compares, or lists for comparison.
type outsider struct {
	name, program string
	args          []string
}

var outside = []outsider{
	{"rsync", "rsync", []string{"-aHAXSn", "--numeric-ids", "--checksum", "--delete", "--modify-window=-1", "-i"}},
	{"find -printf", "find", []string{".", "-type", "d", "-printf", `%y %m %U %G %T@ %P\0`, "-o", "-printf", `%y %m %U %G %T@ %n %s %l %P\0`}},
	{"getfattr", "getfattr", []string{"-Rhd", "-m", "-", "-e", "hex", "."}},
	{"getcap", "getcap", []string{"-r", "."}},
	{"getfacl", "getfacl", []string{"-RPn", "."}},
	{"lsattr", "lsattr", []string{"-aR", "."}},
	{"sha256sum", "find", []string{".", "-type", "f", "-exec", "sha256sum", "{}", "+"}},
	{"find %b", "find", []string{".", "-type", "f", "-printf", `%b %P\0`}},
}

// outsiders are those that are installed.
func outsiders() []outsider {
	var out []outsider
	for _, o := range outside {
		if _, err := exec.LookPath(o.program); err == nil {
			out = append(out, o)
		}
	}
	return out
}

// seenBy says which of them see a difference.
func seenBy(t *testing.T, tools []outsider, golden, clone string) []bool {
	t.Helper()
	run := func(o outsider, dir string, more ...string) []byte {
		cmd := exec.Command(o.program, append(slices.Clone(o.args), more...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output()
		var exit *exec.ExitError
		if err != nil && !(errors.As(err, &exit) && o.program == "lsattr") { // it met a file that has no flags, a device
			t.Fatalf("%s: %v", o.name, err)
		}
		return out
	}
	var sees []bool
	for _, o := range tools {
		switch o.name {
		case "rsync":
			sees = append(sees, len(run(o, "/", golden+"/", clone+"/")) > 0)
		case "find %b":
			sees = append(sees, blocksDiffer(run(o, golden), run(o, clone)))
		default:
			sees = append(sees, lines(run(o, golden)) != lines(run(o, clone)))
		}
	}
	return sees
}

// lines are the output's, sorted: a directory has no order of its own.
func lines(out []byte) string {
	l := bytes.FieldsFunc(out, func(r rune) bool { return r == '\n' || r == 0 })
	slices.SortFunc(l, bytes.Compare)
	return string(bytes.Join(l, []byte{'\n'}))
}

// blocksDiffer says whether a file takes more than 64 blocks more or less.
func blocksDiffer(a, b []byte) bool {
	read := func(out []byte) map[string]int {
		m := map[string]int{}
		for rec := range strings.SplitSeq(string(out), "\x00") {
			n, name, _ := strings.Cut(rec, " ")
			m[name], _ = strconv.Atoi(n)
		}
		return m
	}
	x, y := read(a), read(b)
	for name, n := range x {
		if d := n - y[name]; d > 64 || d < -64 {
			return true
		}
	}
	return len(x) != len(y)
}

// keepTimes runs f and gives the file and its directory their mtimes back, so
// that only what f did can show.
func keepTimes(t *testing.T, name string, f func() error) {
	t.Helper()
	kept := map[string]unix.Timespec{}
	for _, n := range []string{name, filepath.Dir(name)} {
		var st unix.Stat_t
		if unix.Lstat(n, &st) == nil {
			kept[n] = st.Mtim
		}
	}
	if err := f(); err != nil {
		t.Fatal(err)
	}
	for n, m := range kept {
		ts := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, m}
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, n, ts, unix.AT_SYMLINK_NOFOLLOW) // it may be gone
	}
}

func poke(at int64, b byte) func(string) error {
	return func(name string) error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		_, err = f.WriteAt([]byte{b}, at)
		return err
	}
}

func cut(size int64) func(string) error {
	return func(n string) error { return os.Truncate(n, size) }
}

func mtime(sec, nsec int64) func(string) error {
	return func(n string) error {
		ts := []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}
		return unix.UtimesNanoAt(unix.AT_FDCWD, n, ts, unix.AT_SYMLINK_NOFOLLOW)
	}
}

func chmod(mode uint32) func(string) error {
	return func(n string) error { return unix.Chmod(n, mode) }
}

func chown(uid, gid int) func(string) error {
	return func(n string) error { return os.Lchown(n, uid, gid) }
}

func set(key, value string) func(string) error {
	return func(n string) error { return unix.Lsetxattr(n, key, []byte(value), 0) }
}

func unset(key string) func(string) error {
	return func(n string) error { return unix.Lremovexattr(n, key) }
}

// dropACL takes the ACL away, whose mask was the group's bits.
func dropACL(n string) error {
	return errors.Join(unix.Removexattr(n, "system.posix_acl_access"), unix.Chmod(n, 0o660))
}

func chattr(change string) func(string) error {
	return func(n string) error { return exec.Command("chattr", change, n).Run() }
}

func rename(to string) func(string) error {
	return func(n string) error { return os.Rename(n, filepath.Join(filepath.Dir(n), to)) }
}

// recopy puts a copy with all its attributes in the place of a name.
func recopy(n string) error {
	return errors.Join(exec.Command("cp", "-a", n, n+".new").Run(), os.Rename(n+".new", n))
}

// renode makes a node anew.
func renode(mode uint32, dev uint64) func(string) error {
	return func(n string) error {
		return errors.Join(os.Remove(n), unix.Mknod(n, mode, int(dev)), unix.Chmod(n, mode&0o7777))
	}
}

func relink(target string) func(string) error {
	return func(n string) error { return errors.Join(os.Remove(n), os.Symlink(target, n)) }
}

func fill(at, n int64) func(string) error {
	return func(name string) error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		if _, err = f.WriteAt(make([]byte, n), at); err != nil {
			return err
		}
		return f.Sync()
	}
}

func punch(at, n int64) func(string) error {
	return func(name string) error {
		f, err := os.OpenFile(name, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, at, n)
	}
}
