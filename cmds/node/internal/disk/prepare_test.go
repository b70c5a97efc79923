package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

const gib = 1 << 30

func desc(t *testing.T, text string) layout.Disk {
	t.Helper()
	d, err := layout.ParseDesc(strings.NewReader(text), "desc")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// manual is a plan on the manual's desc, with / , /var and swap.
func manual(t *testing.T, first string) wire.Plan {
	return wire.Plan{
		Disks: []wire.DiskPlan{{Name: "sda", Layout: desc(t, first+"\nextended fill\nlogical swap 64\nlogical linux fill")}},
		Filesystems: []wire.Filesystem{
			{Part: 6, Type: "ext3", MountPoint: "/var", InodeSize: 128, NeedBytes: 1 << 20, NeedInodes: 200000},
			{Part: 5, Type: "swap", Label: "-swap"},
			{Part: 1, Type: "ext4", Label: "golden root", MountPoint: "/", NeedBytes: 100 << 20, Features: []string{"has_journal", "extent", "filetype", "sparse_super", "large_file", "ext_attr", "dir_index"}},
		},
	}
}

func prepare(t *testing.T, plan wire.Plan, name string) (wire.DiskResult, string) {
	t.Helper()
	root := filepath.Join(t.TempDir(), "mnt", "disk")
	var steps []string
	res, err := Prepare(t.Context(), plan, root, Options{Devices: []string{name}, Progress: func(s string) { steps = append(steps, s) }})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(steps, "\n"))
	}
	t.Cleanup(func() {
		if err := Unmount(root); err != nil {
			t.Error(err)
		}
	})
	if len(steps) == 0 {
		t.Error("no progress told")
	}
	return res, root
}

// TestPrepareMBR makes the manual's disk over one that is full of what other
// systems leave behind, and has blkid, dumpe2fs, e2fsck and sfdisk judge.
func TestPrepareMBR(t *testing.T) {
	name, _ := loop(t, gib, "512")
	dev := "/dev/" + name
	dirty(t, dev)
	plan := manual(t, "linux 300")
	res, root := prepare(t, plan, name)

	if len(res.Disks) != 1 || res.Disks[0] != dev {
		t.Errorf("disks %v", res.Disks)
	}
	for i, fs := range plan.Filesystems {
		got := res.Filesystems[i]
		for tag, want := range map[string]string{"UUID": got.UUID, "TYPE": fs.Type, "LABEL": fs.Label, "PART_ENTRY_UUID": got.PartID} {
			out, _ := exec.Command("blkid", "-p", "-s", tag, "-o", "value", got.Device).Output()
			if strings.TrimRight(string(out), "\n") != want {
				t.Errorf("%s: blkid %s is %q, want %q", got.Device, tag, out, want)
			}
		}
	}
	var at []string
	for _, p := range []string{"", "/var"} {
		at = append(at, must(t, "findmnt", "-n", "-o", "SOURCE", root+p))
	}
	if at[0] != dev+"p1" || at[1] != dev+"p6" {
		t.Errorf("mounted: %v", at)
	}
	super := must(t, "dumpe2fs", "-h", dev+"p1")
	if strings.Contains(super, "metadata_csum") || !strings.Contains(super, "extent") {
		t.Errorf("features of golden were not kept:\n%s", super)
	}
	super = must(t, "dumpe2fs", "-h", dev+"p6")
	if !strings.Contains(super, "Inode size:	          128") || inodes(t, super) < 200000 {
		t.Errorf("inode size or count: %s", super)
	}
	if err := os.WriteFile(root+"/var/file", []byte("x"), 0o600); err != nil {
		t.Error(err)
	}
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("findmnt", "-n", root).Output(); err == nil {
		t.Errorf("still mounted: %s", out)
	}
	must(t, "e2fsck", "-fn", dev+"p1")
	must(t, "e2fsck", "-fn", dev+"p6")
	if out := must(t, "wipefs", "-n", "-O", "TYPE", "--noheadings", dev); out != "dos" {
		t.Errorf("signatures on the disk: %q, want dos alone", out)
	}
	if out := must(t, "sfdisk", "--verify", dev); !strings.Contains(out, "No errors") {
		t.Error(out)
	}
	// The same disk once more: the partitions are there already.
	_, root = prepare(t, manual(t, "linux 200"), name)
	if size := must(t, "blockdev", "--getsize64", dev+"p1"); size != "209715200" {
		t.Errorf("second layout: partition 1 has %s bytes", size)
	}
	_ = root
}

func inodes(t *testing.T, super string) int {
	t.Helper()
	for _, line := range strings.Split(super, "\n") {
		if rest, ok := strings.CutPrefix(line, "Inode count:"); ok {
			n := 0
			for _, c := range strings.TrimSpace(rest) {
				n = n*10 + int(c-'0')
			}
			return n
		}
	}
	t.Fatalf("no inode count in %s", super)
	return 0
}

// dirty leaves a GPT with its backup, an LVM-like partition with an xfs magic,
// and an ext4 over the whole disk's start on the device.
func dirty(t *testing.T, dev string) {
	t.Helper()
	cmd := exec.Command("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", dev)
	cmd.Stdin = strings.NewReader("label: gpt\nsize=100MiB\nsize=200MiB\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	must(t, "partx", "--add", dev)
	must(t, "mkswap", dev+"p1")
	must(t, "mkfs.ext4", "-q", "-F", dev+"p2")
	if out := must(t, "wipefs", "-n", "-O", "TYPE", "--noheadings", dev); !strings.Contains(out, "gpt") {
		t.Fatalf("nothing to wipe: %s", out)
	}
}

func gpt(t *testing.T) wire.Plan {
	return wire.Plan{
		Disks: []wire.DiskPlan{{Name: "nvme0n1", Layout: layout.Disk{Table: layout.GPT, Parts: []layout.Part{
			{Number: 1, Kind: layout.Primary, GUID: layout.GUIDBIOSBoot, Name: "BIOS boot", Size: 1 << 20},
			{Number: 2, Kind: layout.Primary, GUID: layout.GUIDLinux, Name: "root", Fill: true},
			{Number: 3, Kind: layout.Primary, GUID: layout.GUIDSwap, Size: 64 << 20},
		}}}},
		Filesystems: []wire.Filesystem{
			{Part: 2, Type: "ext4", MountPoint: "/"}, {Part: 3, Type: "swap"},
		},
	}
}

func TestPrepareGPT(t *testing.T) {
	for _, sector := range []string{"512", "4096"} {
		t.Run(sector, func(t *testing.T) {
			name, _ := loop(t, gib, sector)
			dev := "/dev/" + name
			res, root := prepare(t, gpt(t), name)
			if err := os.WriteFile(root+"/etc", nil, 0o600); err != nil {
				t.Error(err)
			}
			if out := must(t, "sgdisk", "-v", dev); !strings.Contains(out, "No problems found") {
				t.Error(out)
			}
			if out := must(t, "sgdisk", "-i", "1", dev); !strings.Contains(out, layout.GUIDBIOSBoot) || !strings.Contains(out, "'BIOS boot'") {
				t.Error(out)
			}
			if out := must(t, "blkid", "-p", "-s", "PART_ENTRY_UUID", "-o", "value", dev+"p2"); out != res.Filesystems[0].PartID {
				t.Errorf("PARTUUID %s, want %s", out, res.Filesystems[0].PartID)
			}
			if err := Unmount(root); err != nil {
				t.Fatal(err)
			}
			must(t, "e2fsck", "-fn", dev+"p2")
		})
	}
}

func hash(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return string(h.Sum(nil))
}

// TestRefusedUntouched: what can't be done is refused with the disk as it was.
func TestRefusedUntouched(t *testing.T) {
	name, file := loop(t, 140<<20, "512")
	dev := "/dev/" + name
	dirtySmall := exec.Command("mkfs.ext4", "-q", "-F", dev)
	if out, err := dirtySmall.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	before := hash(t, file)
	for what, c := range map[string]struct {
		change func(*wire.Plan)
		want   []string
	}{
		"layout too large": {func(p *wire.Plan) { *p = manual(t, "linux 300") }, []string{"the layout takes 399 MB", "139 MB", dev}},
		"files too large":  {func(p *wire.Plan) { p.Filesystems[2].NeedBytes = 500 << 20 }, []string{"/: the files take 500 MB", "of 30 MB"}},
		"too many inodes":  {func(p *wire.Plan) { p.Filesystems[2].NeedInodes = 500000 }, []string{"/: the files take", "500000 inodes"}},
		"unknown type":     {func(p *wire.Plan) { p.Filesystems[0].Type = "zfs" }, []string{`"zfs"`, "ext4"}},
		"no such part":     {func(p *wire.Plan) { p.Filesystems[0].Part = 3 }, []string{"no partition 3", "sda"}},
		"extended":         {func(p *wire.Plan) { p.Filesystems[0].Part = 2 }, []string{"no partition 2"}},
		"part twice":       {func(p *wire.Plan) { p.Filesystems[0].Part = 1 }, []string{"partition 1 of sda has one already"}},
		"disk index":       {func(p *wire.Plan) { p.Filesystems[0].Disk = 1 }, []string{"disk 1 of 1"}},
		"mount point":      {func(p *wire.Plan) { p.Filesystems[0].MountPoint = "/../../etc" }, []string{`"/../../etc"`}},
		"no root":          {func(p *wire.Plan) { p.Filesystems[2].MountPoint = "/srv" }, []string{"no file system is mounted on /"}},
		"feature":          {func(p *wire.Plan) { p.Filesystems[2].Features = []string{"x -O y"} }, []string{`feature "x -O y"`}},
		"label":            {func(p *wire.Plan) { p.Filesystems[2].Label = strings.Repeat("x", 17) }, []string{"at most 16"}},
		"feature unknown":  {func(p *wire.Plan) { p.Filesystems[2].Features = []string{"antigravity"} }, []string{"antigravity"}},
	} {
		plan := manual(t, "linux 30")
		plan.Filesystems[2].NeedBytes = 1 << 20
		plan.Filesystems[0].NeedInodes = 0
		c.change(&plan)
		_, err := Prepare(t.Context(), plan, t.TempDir(), Options{Devices: []string{name}})
		if err == nil {
			t.Fatalf("%s: accepted", what)
		}
		for _, w := range c.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: %v: want %q in it", what, err, w)
			}
		}
		if hash(t, file) != before {
			t.Fatalf("%s: refused, but the disk has changed", what)
		}
	}
}

// TestCancelledUntouched: a node that is told to stop before it began leaves
// its disk alone.
func TestCancelledUntouched(t *testing.T) {
	name, file := loop(t, 128<<20, "512")
	must(t, "mkfs.ext4", "-q", "-F", "/dev/"+name)
	before := hash(t, file)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Prepare(ctx, gpt(t), t.TempDir(), Options{Devices: []string{name}})
	if !errors.Is(err, context.Canceled) || hash(t, file) != before {
		t.Errorf("got %v, changed: %v", err, hash(t, file) != before)
	}
}

// TestFailedMount: when a mount fails, the ones before it are undone, and the
// error says which.
func TestFailedMount(t *testing.T) {
	name, _ := loop(t, gib, "512")
	root := t.TempDir()
	plan := manual(t, "linux 300")
	plan.Filesystems[0].MountPoint = "/" + strings.Repeat("x", 300) // longer than a name may be
	_, err := Prepare(t.Context(), plan, root, Options{Devices: []string{name}})
	if err == nil || !strings.Contains(err.Error(), "mount /dev/"+name+"p6") {
		t.Errorf("got %v", err)
	}
	if out, err := exec.Command("findmnt", "-n", "-S", "/dev/"+name+"p1").Output(); err == nil {
		t.Errorf("still mounted: %s", out)
	}
}

func TestMountedDiskRefused(t *testing.T) {
	name, file := loop(t, 100<<20, "512")
	must(t, "mkfs.ext4", "-q", "-F", "/dev/"+name)
	at := t.TempDir()
	must(t, "mount", "/dev/"+name, at)
	defer must(t, "umount", at)
	plan := manual(t, "linux 20")
	_, err := Prepare(t.Context(), plan, t.TempDir(), Options{Devices: []string{name}})
	if err == nil || !strings.Contains(err.Error(), "mounted on "+at) {
		t.Errorf("got %v", err)
	}
	// And where the mount isn't seen, the kernel says no.
	if f, err := openDisk("/dev/" + name); err == nil {
		f.Close()
		t.Error("a mounted disk could be taken")
	}
	_ = file
}

func TestProgramErrorNamesCause(t *testing.T) {
	err := run(context.Background(), "", "mkfs.ext4", "-q", "/no/such/device")
	if err == nil || !strings.Contains(err.Error(), "does not exist") && !strings.Contains(err.Error(), "No such file") {
		t.Errorf("got %v", err)
	}
}

// TestRoom holds the estimate of a file system's room against what mke2fs
// makes: never more than that, and not far below it.
func TestRoom(t *testing.T) {
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("mkfs.ext4 is not installed: it is the judge here")
	}
	for _, c := range []struct {
		fs    wire.Filesystem
		bytes int64
	}{
		{wire.Filesystem{Type: "ext4"}, 64 << 20}, {wire.Filesystem{Type: "ext4"}, 300 << 20},
		{wire.Filesystem{Type: "ext4"}, 2 * gib}, {wire.Filesystem{Type: "ext4"}, 40 * gib}, {wire.Filesystem{Type: "ext3"}, 1 * gib},
		{wire.Filesystem{Type: "ext2"}, 1 * gib}, {wire.Filesystem{Type: "ext4", NeedInodes: 900000}, 2 * gib}, {wire.Filesystem{Type: "ext4"}, 500 * gib},
	} {
		file := filepath.Join(t.TempDir(), "fs")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, c.bytes); err != nil {
			t.Fatal(err)
		}
		args := extArgs(c.fs, file, "11111111-2222-4333-8444-555555555555", room{c.bytes, 512})
		must(t, "mkfs."+c.fs.Type, args...)
		super := must(t, "dumpe2fs", "-h", file)
		real := number(t, super, "Free blocks:") * number(t, super, "Block size:")
		got := guess(c.fs, c.bytes).usable()
		if got > real || float64(got) < 0.97*float64(real) {
			t.Errorf("%+v on %d bytes: room for %d, mke2fs leaves %d", c.fs, c.bytes, got, real)
		}
		os.Remove(file)
	}
}

func number(t *testing.T, super, key string) int64 {
	t.Helper()
	_, rest, ok := strings.Cut(super, key)
	if !ok {
		t.Fatalf("no %s", key)
	}
	var n int64
	for _, c := range strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]) {
		n = n*10 + int64(c-'0')
	}
	return n
}
