package disk

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// sparse makes a file of so many bytes, all of them a hole.
func sparse(t *testing.T, bytes int64) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fs")
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Truncate(file, bytes)); err != nil {
		t.Fatal(err)
	}
	return file
}

// programs skips where one of them isn't installed.
func programs(t *testing.T, names ...string) {
	t.Helper()
	for _, p := range names {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
}

// judges tell without a question and without writing whether a file system is
// sound.
func judges() map[string][]string {
	return map[string][]string{
		"ext2": {"e2fsck", "-fn"}, "ext3": {"e2fsck", "-fn"}, "ext4": {"e2fsck", "-fn"},
		"xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--readonly"}, "jfs": {"fsck.jfs", "-n"},
		"f2fs": {"fsck.f2fs"}, "reiserfs": {"reiserfsck", "--check", "-y", "-q"}, wire.VFAT: {"fsck.fat", "-n"},
	}
}

// TestKinds makes one of each type, with features of its own, and has its own
// program, and blkid, judge.
func TestKinds(t *testing.T) {
	for name, c := range map[string]struct {
		fs   wire.Filesystem
		show []string // a program that shows what was wanted
		want []string
	}{
		"ext4":      {wire.Filesystem{Type: "ext4", Label: "-label of 16 b.", Features: []string{"has_journal", "extent", "metadata_csum"}, Reserved: 1.5, BlockSize: 4096}, []string{"dumpe2fs", "-h"}, []string{`Reserved block count: +1966\b`, "metadata_csum", "Block size: +4096"}},
		"ext3":      {wire.Filesystem{Type: "ext3", Label: "l", Reserved: -1}, []string{"dumpe2fs", "-h"}, []string{`Reserved block count: +0\b`}},
		"xfs":       {wire.Filesystem{Type: "xfs", Label: "-123456789ab", Features: []string{"crc=1", "finobt=1", "reflink=0", "ftype=1", "sparse=1"}, InodeSize: 1024, BlockSize: 2048}, []string{"xfs_db", "-r", "-c", "info"}, []string{"reflink=0", "bigtime=0", "inobtcount=0", "isize=1024", `data +=.*bsize=2048`}},
		"xfs v4":    {wire.Filesystem{Type: "xfs", Features: []string{"crc=0", "finobt=0", "ftype=0"}, InodeSize: 256}, []string{"xfs_db", "-r", "-c", "info"}, []string{"crc=0", "ftype=0", "isize=256"}},
		"btrfs":     {wire.Filesystem{Type: "btrfs", Label: "label of a btrfs, which may be long", Features: []string{"extref", "skinny-metadata"}, BlockSize: 4096}, []string{"btrfs", "inspect-internal", "dump-super"}, []string{`sectorsize\s+4096`, `compat_ro_flags\s+0x0\b`}},
		"btrfs new": {wire.Filesystem{Type: "btrfs", Features: []string{"extref", "skinny-metadata", "no-holes", "free-space-tree"}}, []string{"btrfs", "inspect-internal", "dump-super"}, []string{"NO_HOLES", "FREE_SPACE_TREE"}},
		"f2fs":      {wire.Filesystem{Type: "f2fs", Label: "label", Features: []string{"extra_attr", "inode_checksum"}}, []string{"dump.f2fs", "-d", "1"}, []string{"superblock features = .*extra_attr.*inode_checksum"}},
		"jfs":       {wire.Filesystem{Type: "jfs", Label: "-jfs", BlockSize: 4096}, []string{"jfs_tune", "-l"}, []string{"Aggregate block size:\\s+4096"}},
		"reiserfs":  {wire.Filesystem{Type: "reiserfs", Label: "-reiser", BlockSize: 4096}, []string{"debugreiserfs"}, []string{"Blocksize: 4096"}},
		"swap":      {wire.Filesystem{Type: "swap", Label: "-swap"}, nil, nil},
		"vfat":      {wire.Filesystem{Type: wire.VFAT, Label: "ESP"}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			k := kinds()[c.fs.Type]
			programs(t, k.programs...)
			for _, p := range [][]string{judges()[c.fs.Type], c.show} {
				if p != nil {
					programs(t, p[0])
				}
			}
			file := sparse(t, 512<<20)
			size := room{512 << 20, 512}
			if err := checkOne(withMount(c.fs), size.bytes); err != nil {
				t.Fatal(err)
			}
			if err := tryMkfs(t.Context(), c.fs, size); err != nil {
				t.Fatal(err)
			}
			id, err := newUUID(c.fs.Type)
			if err != nil {
				t.Fatal(err)
			}
			if err := mkfs(t.Context(), c.fs, file, id, size); err != nil {
				t.Fatal(err)
			}
			for tag, want := range map[string]string{"UUID": id, "TYPE": c.fs.Type, "LABEL": c.fs.Label} {
				out, _ := exec.Command("blkid", "-p", "-s", tag, "-o", "value", file).Output()
				if strings.TrimSuffix(string(out), "\n") != want {
					t.Errorf("blkid: %s is %q, want %q", tag, out, want)
				}
			}
			if j := judges()[c.fs.Type]; j != nil {
				must(t, j[0], append(j[1:], file)...)
			}
			if c.show == nil {
				return
			}
			out := must(t, c.show[0], append(c.show[1:], file)...)
			for _, w := range c.want {
				if !regexp.MustCompile(w).MatchString(out) {
					t.Errorf("no %s in:\n%s", w, out)
				}
			}
		})
	}
}

func withMount(fs wire.Filesystem) wire.Filesystem {
	if fs.Type != "swap" {
		fs.MountPoint = "/"
	}
	return fs
}

// TestKindsRefused: what a type can't have is refused without a device.
func TestKindsRefused(t *testing.T) {
	long := strings.Repeat("x", 600)
	for _, c := range []struct {
		fs   wire.Filesystem
		size int64
		want string
	}{
		{wire.Filesystem{Type: "xfs", Label: long[:13]}, 0, "at most 12"},
		{wire.Filesystem{Type: "ext4", Label: long[:17]}, 0, "at most 16"},
		{wire.Filesystem{Type: "jfs", Label: long[:17]}, 0, "at most 16"},
		{wire.Filesystem{Type: "reiserfs", Label: long[:17]}, 0, "at most 16"},
		{wire.Filesystem{Type: "btrfs", Label: long[:256]}, 0, "at most 255"},
		{wire.Filesystem{Type: "btrfs", Label: "a\nb"}, 0, "label"},
		{wire.Filesystem{Type: "f2fs", Label: long}, 0, "at most 512"},
		{wire.Filesystem{Type: wire.VFAT, Label: "small"}, 0, "capital"},
		{wire.Filesystem{Type: "xfs", Features: []string{"uuid=x,crc=1"}}, 0, "feature"},
		{wire.Filesystem{Type: "xfs", Features: []string{"reflink"}}, 0, "feature"},
		{wire.Filesystem{Type: "btrfs", Features: []string{"-f"}}, 0, "feature"},
		{wire.Filesystem{Type: "jfs", Features: []string{"x"}}, 0, "feature"},
		{wire.Filesystem{Type: "ext4", Reserved: 51}, 0, "51 per cent"},
		{wire.Filesystem{Type: "xfs"}, 299 << 20, "too small for xfs"},
		{wire.Filesystem{Type: "btrfs"}, 108 << 20, "too small for btrfs"},
		{wire.Filesystem{Type: "f2fs"}, 63 << 20, "too small for f2fs"},
		{wire.Filesystem{Type: "jfs"}, 15 << 20, "too small for jfs"},
		{wire.Filesystem{Type: "reiserfs"}, 39 << 20, "too small for reiserfs"},
		{wire.Filesystem{Type: "swap"}, 36 << 10, "too small for swap"},
		{wire.Filesystem{Type: "xfs", NeedBytes: 1 << 62}, 0, "impossible"},
		{wire.Filesystem{Type: "ext4", Subvolumes: []wire.Subvolume{{Path: "@"}}}, 0, "1 subvolumes on a ext4"},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "../x"}}}, 0, `"../x"`},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "/x"}}}, 0, `"/x"`},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "a/b"}, {Path: "a"}}}, 0, "one inside it"},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "a"}, {Path: "a"}}}, 0, "named twice"},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "a,subvolid=5", Mounted: true, MountPoint: "/x"}}}, 0, "mount option"},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "a", Mounted: true, MountPoint: "/../x"}}}, 0, `"/../x"`},
		{wire.Filesystem{Type: "btrfs", Subvolumes: []wire.Subvolume{{Path: "a", Default: true}, {Path: "b", Default: true}}}, 0, "2 subvolumes are the default"},
	} {
		if c.size == 0 {
			c.size = 1 << 30
		}
		if err := checkOne(withMount(c.fs), c.size); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %s", c.fs, err, c.want)
		}
	}
	for _, fs := range []wire.Filesystem{
		{Type: "xfs", Features: []string{"reflink=7"}}, {Type: "xfs", Features: []string{"antigravity=1"}}, {Type: "btrfs", Features: []string{"antigravity"}},
		{Type: "f2fs", Features: []string{"antigravity"}}, {Type: "xfs", BlockSize: 512, Features: []string{"crc=1"}},
	} {
		t.Run(fs.Type+" "+strings.Join(fs.Features, ","), func(t *testing.T) {
			programs(t, kinds()[fs.Type].programs...)
			if err := checkOne(withMount(fs), 1<<30); err != nil {
				t.Fatal(err)
			}
			if err := tryMkfs(t.Context(), fs, room{1 << 30, 512}); err == nil || !strings.Contains(err.Error(), "can't be made here") {
				t.Errorf("%+v: got %v", fs, err)
			}
		})
	}
}

// free asks the programs how many bytes a file system has for files.
func free(t *testing.T, fstype, file string) int64 {
	t.Helper()
	count := func(out, form string, unit int64) int64 {
		m := regexp.MustCompile(form).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no %s in %s", form, out)
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n * unit
	}
	switch fstype {
	case "jfs":
		return count(must(t, "fsck.jfs", "-n", "-f", file), `(\d+) kilobytes are available`, 1024)
	case "reiserfs":
		return count(must(t, "debugreiserfs", file), `Free blocks .*: (\d+)`, 4096)
	case "f2fs":
		return count(must(t, "dump.f2fs", "-d", "1", file), `user_block_count\s+\[0x\s*[0-9a-f]+ : (\d+)\]`, 4096)
	}
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dev := must(t, "losetup", "--find", "--show", file)
	defer must(t, "losetup", "--detach", dev)
	at := t.TempDir()
	if err := unix.Mount(dev, at, fstype, 0, ""); err != nil {
		t.Skipf("this kernel doesn't mount %s: %v", fstype, err)
	}
	defer unix.Unmount(at, 0)
	var st unix.Statfs_t
	if err := unix.Statfs(at, &st); err != nil {
		t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// TestCapacity holds the estimates against what the programs make: never more
// than that, and not far below it.
func TestCapacity(t *testing.T) {
	for _, fstype := range []string{"xfs", "btrfs", "f2fs", "jfs", "reiserfs"} {
		for _, mb := range []int64{310, 512, 1000, 2048, 8 << 10, 40 << 10, 200 << 10} {
			t.Run(fmt.Sprintf("%s %d", fstype, mb), func(t *testing.T) {
				programs(t, kinds()[fstype].programs...)
				fs := wire.Filesystem{Type: fstype}
				file := sparse(t, mb<<20)
				if err := mkfs(t.Context(), fs, file, tryUUID, room{mb << 20, 512}); err != nil {
					t.Fatal(err)
				}
				real, got := free(t, fstype, file), capacity(fs, mb<<20)
				if got > real || float64(got) < 0.85*float64(real) {
					t.Errorf("room for %d MB, it has %d", got>>20, real>>20)
				}
			})
		}
	}
}

// TestLeast fills file systems of the least size for their files to the brim:
// all fit.
func TestLeast(t *testing.T) {
	const files, each = 3000, 20000
	for _, fs := range []wire.Filesystem{{Type: "ext4"}, {Type: "ext2"}, {Type: "xfs"}, {Type: "btrfs"}} {
		t.Run(fs.Type, func(t *testing.T) {
			programs(t, kinds()[fs.Type].programs...)
			fs.NeedInodes, fs.NeedBytes = files+40, files*(each+4095)/4096*4096+40*4096
			n := least(fs)
			if capacity(fs, n) < fs.NeedBytes || fs.Type != "xfs" && fs.Type != "btrfs" && capacity(fs, n-mib) >= fs.NeedBytes || n%mib != 0 {
				t.Fatalf("least is %d: room for %d, %d below it, of %d", n, capacity(fs, n), capacity(fs, n-mib), fs.NeedBytes)
			}
			name, _ := loop(t, n, "512")
			dev, at := "/dev/"+name, t.TempDir()
			if err := mkfs(t.Context(), fs, dev, tryUUID, room{n, 512}); err != nil {
				t.Fatal(err)
			}
			err := unix.Mount(dev, at, fs.Type, 0, "")
			if errors.Is(err, unix.ENODEV) {
				err = unix.Mount(dev, at, "ext4", 0, "")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Unmount(at, 0)
			content := make([]byte, each)
			for i := range files {
				dir := filepath.Join(at, fmt.Sprint(i%40))
				content[0] = byte(i) | 1
				if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), content, 0o600)); err != nil {
					t.Fatalf("file %d of %d on %d MiB: %v", i, files, n/mib, err)
				}
			}
			f, err := os.Open(at)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := unix.Syncfs(int(f.Fd())); err != nil {
				t.Errorf("%d MiB: %v", n/mib, err)
			}
		})
	}
}

// TestRaise: partitions, arrays and volumes shrink to their files, and a
// machine where those don't fit is refused.
func TestRaise(t *testing.T) {
	part := func(size int64) layout.Part { return layout.Part{Size: size << 20, Min: 1 << 20} }
	plan := wire.Plan{
		Disks: []wire.DiskPlan{{Name: "sda", Layout: gptOf(part(2000), part(4000))}},
		Stack: layout.Stack{Groups: []layout.Group{{Name: "vg", Devices: []string{"sda2"}, Volumes: []layout.Volume{
			{Name: "a", Size: 3000 << 20, Min: 1 << 20}, {Name: "b", Size: 900 << 20, Min: 1 << 20},
		}}}},
		Filesystems: []wire.Filesystem{
			{Disk: 0, Part: 1, Type: "ext4", MountPoint: "/", NeedBytes: 300 << 20, NeedInodes: 1000},
			{On: "vg/a", Type: "ext4", MountPoint: "/a", NeedBytes: 500 << 20, NeedInodes: 1000},
			{On: "vg/b", Type: "swap"},
		},
	}
	if _, err := exec.LookPath("lvm"); err != nil {
		t.Skip("lvm is not installed")
	}
	for mb, want := range map[int64]bool{8000: true, 2000: true, 1100: true, 800: false, 500: false} {
		a, err := fit(t.Context(), plan, []Device{{Name: "vda", Path: "/dev/vda", Bytes: mb << 20, Sector: 512}})
		if (err == nil) != want {
			t.Errorf("%d MB: %v", mb, err)
			continue
		}
		if err != nil {
			if !strings.Contains(err.Error(), "at least") {
				t.Errorf("%d MB: %v", mb, err)
			}
			continue
		}
		for name, need := range map[string]int64{"sda1": least(plan.Filesystems[0]), "vg/a": least(plan.Filesystems[1])} {
			if a.places[name].bytes < need {
				t.Errorf("%d MB: %s gets %d bytes, its files need %d", mb, name, a.places[name].bytes, need)
			}
		}
	}
}
