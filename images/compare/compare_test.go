package compare

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
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
