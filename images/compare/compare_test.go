package compare

import (
	"bytes"
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

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: device nodes, trusted xattrs, mounts")
	}
}

// oddTrees makes two equal trees of files that are hard to copy.
func oddTrees(t *testing.T) (golden, clone string) {
	t.Helper()
	needRoot(t)
	for _, at := range []*string{&golden, &clone} {
		dir, err := os.MkdirTemp("", "odd") // not t.TempDir: it can't remove immutable files
		if err != nil {
			t.Fatal(err)
		}
		root := filepath.Join(dir, "root")
		t.Cleanup(func() {
			_ = goldenroot.Remove(root)
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		if err := os.MkdirAll(filepath.Join(root, "srv"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := goldenroot.AddOdd(filepath.Join(root, "srv/odd")); err != nil {
			t.Fatal(err)
		}
		for _, d := range []string{filepath.Join(root, "srv"), root} {
			if err := unix.UtimesNanoAt(unix.AT_FDCWD, d, []unix.Timespec{{Sec: 1}, {Sec: 1}}, 0); err != nil {
				t.Fatal(err)
			}
		}
		*at = root
	}
	return golden, clone
}

func scan(t *testing.T, dir string) Tree {
	t.Helper()
	tree, err := Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestEqualTrees(t *testing.T) {
	golden, clone := oddTrees(t)
	g := scan(t, golden)
	r := Trees(g, scan(t, clone), nil)
	for _, d := range r.Differences {
		t.Error(d)
	}
	if len(g) < 2100 {
		t.Errorf("only %d entries were scanned", len(g))
	}
	long := 0
	for p := range g {
		long = max(long, len(p))
	}
	if long <= unix.PathMax {
		t.Errorf("the longest path has %d bytes; the deep tree was not reached", long)
	}
}

// keepTimes runs f and gives the file and its directory their mtimes back, so
// that only what f did can show.
func keepTimes(t *testing.T, name string, f func() error) {
	t.Helper()
	type kept struct {
		name string
		st   unix.Stat_t
	}
	var all []kept
	for _, n := range []string{name, filepath.Dir(name)} {
		k := kept{name: n}
		if err := unix.Lstat(n, &k.st); err == nil {
			all = append(all, k)
		}
	}
	if err := f(); err != nil {
		t.Fatal(err)
	}
	for _, k := range all {
		_ = unix.UtimesNanoAt(unix.AT_FDCWD, k.name, []unix.Timespec{k.st.Atim, k.st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
	}
}

// Each damage that copying programs are known to do must be seen, and seen as
// what it is.
func TestDamageIsSeen(t *testing.T) {
	golden, clone := oddTrees(t)
	g := scan(t, golden)
	for _, c := range []struct {
		name, file string
		want       []Aspect
		do, undo   func(name string) error
	}{
		{"one byte of the content", "contents/text", []Aspect{Content},
			func(n string) error { return poke(n, 'K') }, func(n string) error { return poke(n, 'k') }},
		{"a nanosecond", "times/nanosecond", []Aspect{Mtime}, mtime(1_700_000_000, 2), mtime(1_700_000_000, 1)},
		{"before 1970 cut to seconds", "times/before-1970", []Aspect{Mtime}, mtime(-36_000_000, 0), mtime(-36_000_000, 250_000_000)},
		{"mode", "modes/f4755", []Aspect{Mode}, chmod(0o755), chmod(0o4755)},
		{"owner", "contents/one", []Aspect{Owner}, chown(1), chown(0)},
		{"big owner cut to 16 bits", "owners/4000000000", []Aspect{Owner}, chown(4_000_000_000 & 0xffff), chown(4_000_000_000)},
		{"user xattr", "xattrs/file", []Aspect{Xattr}, unset("user.empty"), set("user.empty", "")},
		{"trusted xattr of a symlink", "xattrs/link", []Aspect{Xattr}, unset("trusted.on-symlink"), set("trusted.on-symlink", "yes")},
		{"flag", "flags/nodump", []Aspect{Flags}, chattr("-d"), chattr("+d")},
		{"immutable", "flags/immutable", []Aspect{Flags}, chattr("-i"), chattr("+i")},
		{"hole filled", "holes/islands", []Aspect{Allocation}, fill(6<<20, 1<<20), punch(6<<20, 1<<20)},
		{"zeros turned into a hole", "holes/real-zeros", []Aspect{Allocation}, punch(0, 2<<20), fill(0, 2<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			name := filepath.Join(clone, "srv/odd", c.file)
			change := func(f func(string) error) {
				if strings.Contains(c.name, "1970") || c.file == "times/nanosecond" {
					if err := f(name); err != nil {
						t.Fatal(err)
					}
					return
				}
				keepTimes(t, name, func() error { return f(name) })
			}
			change(c.do)
			wantAspects(t, Trees(g, scan(t, clone), nil), "/srv/odd/"+c.file, c.want)
			change(c.undo)
		})
	}
	if r := Trees(g, scan(t, clone), nil); len(r.Differences) > 0 {
		t.Errorf("the damage was not all undone: %v", r.Differences)
	}
}

func wantAspects(t *testing.T, r *Report, file string, want []Aspect) {
	t.Helper()
	var got []Aspect
	for _, d := range r.Differences {
		if d.Path != file {
			t.Errorf("unexpected difference %v", d)
		}
		got = append(got, d.Aspect)
	}
	if !slices.Equal(got, want) {
		t.Errorf("differences of %s: %v, want %v", file, got, want)
	}
}

func poke(name string, b byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteAt([]byte{b}, 9)
	return err
}

func mtime(sec, nsec int64) func(string) error {
	return func(n string) error {
		return unix.UtimesNanoAt(unix.AT_FDCWD, n, []unix.Timespec{{Sec: sec, Nsec: nsec}, {Sec: sec, Nsec: nsec}}, 0)
	}
}

func chmod(mode uint32) func(string) error {
	return func(n string) error { return unix.Chmod(n, mode) }
}

func chown(uid int) func(string) error {
	return func(n string) error { return os.Lchown(n, uid, -1) }
}

func set(key, value string) func(string) error {
	return func(n string) error { return unix.Lsetxattr(n, key, []byte(value), 0) }
}

func unset(key string) func(string) error {
	return func(n string) error { return unix.Lremovexattr(n, key) }
}

func chattr(change string) func(string) error {
	return func(n string) error { return exec.Command("chattr", change, n).Run() }
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

// What is there on one side only, or as something else.
func TestMissingExtraTypeLinks(t *testing.T) {
	golden, clone := oddTrees(t)
	odd := filepath.Join(clone, "srv/odd")
	steps := []func() error{
		func() error { return os.Remove(filepath.Join(odd, "special/socket")) },
		func() error { return os.WriteFile(filepath.Join(odd, "contents/new"), nil, 0o600) },
		func() error { // a fifo in place of a symlink
			name := filepath.Join(odd, "symlinks/dangling")
			if err := os.Remove(name); err != nil {
				return err
			}
			return unix.Mkfifo(name, 0o600)
		},
		func() error { // one of three names becomes a copy
			name := filepath.Join(odd, "hardlinks/sub/c")
			return exec.Command("cp", "-a", "--remove-destination", name, name+".new").Run()
		},
		func() error {
			name := filepath.Join(odd, "hardlinks/sub/c")
			return os.Rename(name+".new", name)
		},
		func() error { // another device number
			name := filepath.Join(odd, "special/char-large")
			if err := os.Remove(name); err != nil {
				return err
			}
			return unix.Mknod(name, unix.S_IFCHR|0o600, int(unix.Mkdev(4000, 1)))
		},
		func() error { // another target of the same length
			name := filepath.Join(odd, "symlinks/newline")
			if err := os.Remove(name); err != nil {
				return err
			}
			return os.Symlink("one\nTWO", name)
		},
	}
	for _, f := range steps {
		if err := f(); err != nil {
			t.Fatal(err)
		}
	}
	seen := map[string]bool{}
	for _, d := range Trees(scan(t, golden), scan(t, clone), nil).Differences {
		if d.Aspect != Mtime {
			seen[strings.TrimPrefix(d.Path, "/srv/odd/")+" "+string(d.Aspect)] = true
		}
	}
	for _, want := range []string{
		"special/socket missing", "contents/new extra", "symlinks/dangling type", "hardlinks/sub/c links",
		"hardlinks/a links", "special/char-large device", "symlinks/newline target",
	} {
		if !seen[want] {
			t.Errorf("not seen: %s", want)
		}
	}
}

func TestRulesAllowOnlyTheirAspects(t *testing.T) {
	rules := CloneRules()
	for _, c := range []struct {
		d    Difference
		want bool
	}{
		{Difference{Path: "/etc/fstab", Aspect: Content}, true},
		{Difference{Path: "/etc/fstab", Aspect: Mode}, false},
		{Difference{Path: "/etc/fstab", Aspect: Missing}, false},
		{Difference{Path: "/etc/ssh/ssh_host_ed25519_key", Aspect: Content}, true},
		{Difference{Path: "/etc/ssh/ssh_host_ed25519_key", Aspect: Owner}, false},
		{Difference{Path: "/etc/ssh/sshd_config", Aspect: Content}, false},
		{Difference{Path: "/boot/grub/i386-pc/core.img", Aspect: Extra}, true},
		{Difference{Path: "/boot/vmlinuz-6.1", Aspect: Content}, false},
		{Difference{Path: "/lost+found", Aspect: Extra}, true},
		{Difference{Path: "/etc", Aspect: Mtime}, true},
		{Difference{Path: "/etc", Aspect: Mode}, false},
		{Difference{Path: "/usr/bin/su", Aspect: Mtime}, false},
	} {
		if got := reason(rules, c.d) != ""; got != c.want {
			t.Errorf("%s %s: expected = %v, want %v", c.d.Path, c.d.Aspect, got, c.want)
		}
	}
}

// A disk image made and filled by the distribution's tools is read as such.
func TestDiskImage(t *testing.T) {
	needRoot(t)
	ctx, dir, golden := t.Context(), t.TempDir(), t.TempDir()
	for _, d := range []string{"home", "srv"} {
		if err := os.Mkdir(filepath.Join(golden, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(golden, "srv/text"), []byte("kamethod\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(dir, "disk1")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 192<<20); err != nil {
		t.Fatal(err)
	}
	sfdisk := exec.Command("sfdisk", "-q", image)
	sfdisk.Stdin = strings.NewReader("label: dos\nstart=2048, size=262144, type=83\nstart=264192, type=5\nstart=266240, type=83\n")
	if out, err := sfdisk.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	parts, err := Table(ctx, image)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if p.Number == 2 {
			continue
		}
		args := []string{"-q", "-F", "-E", "offset=" + itoa(p.Start)}
		if p.Number == 1 {
			args = append(args, "-d", golden) // mke2fs fills the file system itself
		}
		args = append(args, image, itoa(p.Size/1024)+"k")
		if out, err := exec.Command("mkfs.ext4", args...).CombinedOutput(); err != nil {
			t.Fatalf("mkfs.ext4: %v: %s", err, out)
		}
	}
	if parts, err = Table(ctx, image); err != nil {
		t.Fatal(err)
	}
	var shape []string
	for _, p := range parts {
		shape = append(shape, itoa(int64(p.Number))+p.FSType)
		if p.FSType == "ext4" {
			if err := Fsck(ctx, image, p); err != nil {
				t.Error(err)
			}
		}
	}
	if got := strings.Join(shape, " "); got != "1ext4 2 5ext4" {
		t.Fatalf("partitions %q", got)
	}
	loopsBefore := loops(t)
	err = Assembled(ctx, image, parts, map[int]string{1: "/", 5: "/home"}, func(root string) error {
		c := scan(t, root)
		if c["/home/lost+found"] == nil || c["/srv/text"] == nil {
			t.Error("the assembled root lacks a file system")
		}
		b, err := os.ReadFile(filepath.Join(root, "srv/text"))
		if err != nil || !bytes.HasPrefix(b, []byte("kamethod\n")) {
			t.Errorf("content %.20q, %v", b, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if after := loops(t); after != loopsBefore {
		t.Errorf("loop devices before:\n%s\nafter:\n%s", loopsBefore, after)
	}
	// A broken file system must not pass.
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 64<<10), parts[0].Start+64<<10); err != nil {
		t.Fatal(err)
	}
	if Fsck(ctx, image, parts[0]) == nil {
		t.Error("e2fsck found nothing wrong with 64 KiB of metadata overwritten")
	}
}

// loops lists the loop devices on images of this test only: others may come
// and go meanwhile.
func loops(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("losetup", "-n", "-O", "BACK-FILE", "-l").Output()
	if err != nil {
		t.Fatal(err)
	}
	var mine []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "TestDiskImage") {
			mine = append(mine, line)
		}
	}
	return strings.Join(mine, "")
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
