package disk

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// TestInVM runs what needs md, the device mapper and the rarer file systems
// under the nodes' kernel, with the programs of stage 2's image.
func TestInVM(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	vmtest.Run(t, vmtest.Machine{
		Run: "^TestVM",
		Disks: []vmlab.Disk{
			{Size: 1600 << 20}, {Size: 1600 << 20}, {Size: 1200 << 20, Bus: vmlab.NVMe, Sector: 4096, Serial: "NV1"},
			{Size: 1100 << 20, Bus: vmlab.AHCI, Serial: "SATA1"}, {Size: 500 << 20, Bus: vmlab.SCSI, Serial: "SCSI1"},
			{Size: 500 << 20, Bus: vmlab.SCSI, Serial: "BADTABLE", Faults: []vmlab.Fault{{Op: "write", Sectors: []int64{0}}}},
			{Size: 500 << 20, Bus: vmlab.SCSI, Serial: "BADMKFS", Faults: []vmlab.Fault{{Op: "write", Sectors: []int64{2048 + 2*8193}}}}, // a copy of the superblock
			{Size: 500 << 20, Bus: vmlab.SCSI, Serial: "GONE"},
		},
		Memory:  1024,
		Timeout: 15 * time.Minute,
	})
}

func inVM(t *testing.T) {
	t.Helper()
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
}

const vmPass = "correct horse"

func gptOf(parts ...layout.Part) layout.Disk {
	for i := range parts {
		parts[i].Number, parts[i].Kind = i+1, layout.Primary
		if parts[i].GUID == "" {
			parts[i].GUID = layout.GUIDLinux
		}
	}
	return layout.Disk{Table: layout.GPT, Parts: parts}
}

// vmStack is a golden node with two mirrored disks, a container on one of the
// mirrors, volumes in that, and a disk that is a physical volume as a whole.
func vmStack() wire.Plan {
	disk := func() layout.Disk {
		return gptOf(layout.Part{GUID: layout.GUIDESP, Size: 40 << 20}, layout.Part{Size: 100 << 20}, layout.Part{Fill: true})
	}
	return wire.Plan{
		Disks: []wire.DiskPlan{
			{Name: "sda", Layout: disk()}, {Name: "sdb", Layout: disk()}, {Name: "sdc", Layout: layout.Disk{Table: layout.None}, Match: layout.Match{Serial: "NV1"}},
		},
		Stack: layout.Stack{
			Arrays: []layout.Array{
				{Name: "md0", Level: 1, Members: []string{"sda2", "sdb2"}, Metadata: "1.0"},
				{Name: "md/big", Level: 1, Members: []string{"sda3", "sdb3"}},
			},
			Crypts: []layout.Crypt{{Name: "crypt", Device: "md/big", Version: 2}, {Name: "safe", Device: "vg1/safe", Version: 1}},
			Groups: []layout.Group{
				{Name: "vg0", Devices: []string{"mapper/crypt"}, Volumes: []layout.Volume{
					{Name: "root", Size: 400 << 20}, {Name: "swap-1", Size: 64 << 20}, {Name: "var", Size: 100 << 20}, {Name: "home", Fill: true},
				}},
				{Name: "vg1", Devices: []string{"sdc"}, Extent: 1 << 20, Volumes: []layout.Volume{
					{Name: "data", Percent: 40}, {Name: "safe", Size: 200 << 20}, {Name: "rest", Fill: true},
				}},
			},
		},
		Secrets: []wire.Secret{{Crypt: "crypt", Passphrase: []byte(vmPass)}, {Crypt: "safe", Passphrase: []byte(vmPass)}},
		Filesystems: []wire.Filesystem{
			{On: "vg0/root", Type: "xfs", MountPoint: "/", Label: "root", NeedBytes: 100 << 20, NeedInodes: 3000},
			{On: "md0", Type: "ext3", MountPoint: "/boot", BlockSize: 1024, InodeSize: 128, Reserved: -1},
			{Disk: 0, Part: 1, Type: wire.VFAT, MountPoint: "/boot/efi"},
			{On: "vg0/swap-1", Type: "swap", Label: "swap"},
			{On: "vg0/var", Type: "jfs", MountPoint: "/var", Label: "var"},
			{On: "vg0/home", Type: "btrfs", MountPoint: "/home", Subvolumes: []wire.Subvolume{
				{Path: "@", MountPoint: "/home", Mounted: true}, {Path: "@/sub/inner", MountPoint: "/home/sub/inner"}, {Path: "opt", MountPoint: "/opt", Mounted: true, Default: true},
			}},
			{On: "vg1/data", Type: "reiserfs", MountPoint: "/data", Label: "data"},
			{On: "vg1/rest", Type: "f2fs", MountPoint: "/rest", Label: "rest"},
			{On: "mapper/safe", Type: "ext4", MountPoint: "/safe"},
		},
	}
}

func vmPrepare(t *testing.T, plan wire.Plan, root string, disks ...string) wire.DiskResult {
	t.Helper()
	res, err := Prepare(t.Context(), plan, root, Options{Devices: disks, Progress: func(s string) { t.Log(s) }})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// TestVM1Stack makes it, writes files, takes it apart, and finds them after the
// programs of the golden system have put it together again.
func TestVM1Stack(t *testing.T) {
	inVM(t)
	root := filepath.Join(t.TempDir(), "mnt")
	plan := vmStack()
	res := vmPrepare(t, plan, root, "vda", "vdb", "nvme0n1")
	if got := strings.Join(res.Disks, " "); got != "/dev/vda /dev/vdb /dev/nvme0n1" {
		t.Fatalf("disks %s", got)
	}
	stackIs(t, res)
	for i, fs := range plan.Filesystems {
		r := res.Filesystems[i]
		for tag, want := range map[string]string{"UUID": r.UUID, "TYPE": fs.Type, "LABEL": fs.Label} {
			got, err := exec.Command("blkid", "-p", "-s", tag, "-o", "value", r.Device).Output()
			if strings.TrimSpace(string(got)) != want {
				t.Errorf("%s on %s: %s is %q, want %q: %v", fs.Type, r.Device, tag, got, want, err)
			}
		}
		if (r.PartID != "") != (fs.Type == wire.VFAT) {
			t.Errorf("%s: PARTUUID %q", fs.Type, r.PartID)
		}
	}
	mark(t, root, "/", "/boot", "/boot/efi", "/var", "/home", "/home/sub/inner", "/opt", "/data", "/rest", "/safe")
	if err := Unmount(root, res.Disks...); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"vda", "vdb", "nvme0n1"} {
		if h := holdersOf("/sys", "/sys/block/"+d); len(h) > 0 {
			t.Errorf("%s is held by %v", d, h)
		}
	}
	for _, name := range []string{"/dev/vg0", "/dev/vg1", "/dev/mapper/crypt", "/dev/mapper/vg0-root"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is there still", name)
		}
	}
	assemble(t)
	for i, fs := range plan.Filesystems {
		if fs.MountPoint == "" {
			continue
		}
		for _, m := range mountPoints(fs) {
			at := t.TempDir()
			if err := unix.Mount(res.Filesystems[i].Device, at, fs.Type, unix.MS_RDONLY, joinOptions(mountOptions(fs), m.options)); err != nil {
				t.Fatalf("mount %s: %v", m.at, err)
			}
			if !marked(at, "") {
				t.Errorf("%s: the file is gone", m.at)
			}
			if err := unmountOne(at); err != nil {
				t.Fatal(err)
			}
		}
	}
	judge(t, plan, res)
}

// stackIs asks the programs for what was reported.
func stackIs(t *testing.T, res wire.DiskResult) {
	t.Helper()
	ids := map[string]wire.StackResult{}
	for _, r := range res.Stack {
		ids[r.Name] = r
	}
	if len(ids) != 13 {
		t.Errorf("stack: %+v", res.Stack)
	}
	for _, md := range []string{"md0", "md/big"} {
		detail := must(t, "mdadm", "--detail", ids[md].Device)
		if !strings.Contains(detail, "UUID : "+ids[md].UUID) || !strings.Contains(detail, "raid1") {
			t.Errorf("%s: %+v: %s", md, ids[md], detail)
		}
		t.Log(detail)
	}
	if got := must(t, "cryptsetup", "luksUUID", ids["md/big"].Device); got != ids["mapper/crypt"].UUID {
		t.Errorf("LUKS %s, reported %s", got, ids["mapper/crypt"].UUID)
	}
	if dump := must(t, "cryptsetup", "luksDump", ids["vg1/safe"].Device); !strings.Contains(dump, "Version:       \t1") {
		t.Errorf("not LUKS1: %s", dump)
	}
	if got := must(t, "lvm", "vgs", "--config", "activation{udev_sync=0 udev_rules=0}", "--noheadings", "-o", "vg_uuid", "vg0"); !strings.Contains(got, ids["vg0"].UUID) {
		t.Errorf("group %q, reported %+v", got, ids["vg0"])
	}
	if got := must(t, "lvm", "lvs", "--noheadings", "-o", "lv_uuid,vg_extent_size", "vg1/data"); !strings.Contains(got, ids["vg1/data"].UUID) || !strings.Contains(got, "1.00m") {
		t.Errorf("volume %q, reported %+v", got, ids["vg1/data"])
	}
}

// assemble puts the stack together as a booting system does.
func assemble(t *testing.T) {
	t.Helper()
	out, _ := exec.Command("mdadm", "--assemble", "--scan", "--homehost=other").CombinedOutput()
	t.Logf("%s", out)
	open := func(dev, name string) {
		cmd := exec.Command("cryptsetup", "open", "--type=luks", dev, name, "--key-file=-")
		cmd.Stdin = strings.NewReader(vmPass)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("open %s: %v: %s", dev, err, out)
		}
	}
	open("/dev/md/big", "crypt")
	must(t, "lvm", "vgchange", "-ay", "--config", "activation{udev_sync=0 udev_rules=0}")
	open("/dev/vg1/safe", "safe")
}

// judge has each type's own program look at what was written.
func judge(t *testing.T, plan wire.Plan, res wire.DiskResult) {
	t.Helper()
	for i, fs := range plan.Filesystems {
		program, ok := map[string][]string{
			"ext3": {"e2fsck", "-fn"}, "ext4": {"e2fsck", "-fn"}, "xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--readonly"},
			"jfs": {"fsck.jfs", "-n"}, "f2fs": {"fsck.f2fs"}, "reiserfs": {"reiserfsck", "--check", "-y", "-q"}, wire.VFAT: {"fsck.fat", "-n"},
		}[fs.Type]
		if ok {
			must(t, program[0], append(program[1:], res.Filesystems[i].Device)...)
		}
	}
}

// TestVM2Again: what TestVM1Stack has left assembled is taken apart, and made
// into something else; but not where a part of it lies elsewhere.
func TestVM2Again(t *testing.T) {
	inVM(t)
	one := wire.Plan{
		Disks:       []wire.DiskPlan{{Name: "sda", Layout: gptOf(layout.Part{Fill: true})}},
		Filesystems: []wire.Filesystem{{Disk: 0, Part: 1, Type: "ext4", MountPoint: "/"}},
	}
	_, err := Prepare(t.Context(), one, t.TempDir(), Options{Devices: []string{"vda"}})
	if err == nil || !strings.Contains(err.Error(), "which is also made of vdb: that is none of the plan's disks") {
		t.Fatalf("got %v", err)
	}
	at := t.TempDir()
	if err := unix.Mount("/dev/vg0/var", at, "jfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := Prepare(t.Context(), one, t.TempDir(), Options{Devices: []string{"vda", "vdb"}}); err == nil || !strings.Contains(err.Error(), "mounted on "+at) {
		t.Errorf("got %v", err)
	}
	if err := unmountOne(at); err != nil {
		t.Fatal(err)
	}
	p, err := unix.BytePtrFromString("/dev/vg0/swap-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), 0, 0); errno != 0 {
		t.Fatalf("swapon: %v", errno)
	}

	root := filepath.Join(t.TempDir(), "mnt")
	three := func() layout.Disk { return gptOf(layout.Part{Size: 300 << 20}, layout.Part{Fill: true}) }
	plan := wire.Plan{
		Disks: []wire.DiskPlan{{Name: "sda", Layout: three()}, {Name: "sdb", Layout: three()}, {Name: "sdc", Layout: three(), Match: layout.Match{Serial: "NV1", Bus: "nvme"}}},
		Stack: layout.Stack{
			Arrays: []layout.Array{
				{Name: "md5", Level: 5, Members: []string{"sda1", "sdb1", "sdc1"}, Chunk: 64 << 10},
				{Name: "md9", Level: 10, Members: []string{"sda2", "sdb2"}, Metadata: "0.90"},
			},
			Groups: []layout.Group{{Name: "vg0", Devices: []string{"md9", "sdc2"}, Volumes: []layout.Volume{
				{Name: "all", Fill: true}, {Name: "striped", Size: 200 << 20, Stripes: 2},
			}}},
		},
		Filesystems: []wire.Filesystem{
			{On: "md5", Type: "ext4", MountPoint: "/", Reserved: 1},
			{On: "vg0/all", Type: "ext2", MountPoint: "/all"},
			{On: "vg0/striped", Type: "ext4", MountPoint: "/striped"},
		},
	}
	res := vmPrepare(t, plan, root, "vda", "vdb", "nvme0n1")
	mark(t, root, "/", "/all", "/striped")
	if err := Unmount(root, res.Disks...); err != nil {
		t.Fatal(err)
	}
	out, _ := exec.Command("mdadm", "--assemble", "--scan").CombinedOutput()
	t.Logf("%s", out)
	must(t, "lvm", "vgchange", "-ay", "--config", "activation{udev_sync=0 udev_rules=0}")
	if got := must(t, "lvm", "lvs", "--noheadings", "-o", "lv_name,stripes", "vg0"); !regexp.MustCompile(`striped +2`).MatchString(got) {
		t.Errorf("volumes: %s", got)
	}
	judge(t, plan, res)

	// As a whole, by hints, over all that: nothing old shows.
	whole := wire.Plan{
		Disks:       []wire.DiskPlan{{Name: "sda", Layout: layout.Disk{Table: layout.None}, Match: layout.Match{Path: "virtio-pci-*", MaxBytes: 1 << 30}}},
		Filesystems: []wire.Filesystem{{Disk: 0, Part: 0, Type: "ext4", MountPoint: "/"}},
	}
	if _, err := Prepare(t.Context(), whole, root, Options{Devices: []string{"vda", "vdb"}}); err == nil || !strings.Contains(err.Error(), "it has 1677721600 bytes, want at most") {
		t.Errorf("got %v", err)
	}
	for _, d := range []string{"vda", "vdb", "nvme0n1"} {
		if err := release(t.Context(), Options{}, []string{d}); err != nil {
			t.Fatal(err)
		}
	}
	whole.Disks[0].Match = layout.Match{}
	vmPrepare(t, whole, root, "vda")
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
	if out := must(t, "wipefs", "--noheadings", "-O", "TYPE", "/dev/vda"); out != "ext4" {
		t.Errorf("wipefs finds %q, want ext4", out)
	}
	if left, _ := filepath.Glob("/sys/block/vda/vda*"); len(left) > 0 {
		t.Errorf("partitions %v are there still", left)
	}
}

// TestVM3Places: what sysfs of real controllers gives.
func TestVM3Places(t *testing.T) {
	inVM(t)
	devs, err := Inventory("/sys")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devs {
		t.Logf("%+v", d)
	}
	find := func(name string) Device {
		i := slices.IndexFunc(devs, func(d Device) bool { return d.Name == name || d.Serial == name })
		if i < 0 {
			t.Fatalf("no %s", name)
		}
		return devs[i]
	}
	for name, want := range map[string][3]string{
		"vda": {"virtio", "virtio-pci-0000:", ""}, "NV1": {"nvme", "-nvme-1", "."}, "SATA1": {"ata", "-ata-1", "."}, "SCSI1": {"scsi", "-scsi-0:0:", ""},
	} {
		d := find(name)
		if d.Bus != want[0] || !slices.ContainsFunc(d.ByPath, func(p string) bool { return strings.Contains(p, want[1]) }) || want[2] != "" && !strings.Contains(d.WWN, want[2]) {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// serial is the name of the disk with that number.
func serial(t *testing.T, number string) string {
	t.Helper()
	devs, err := Inventory("/sys")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(devs, func(d Device) bool { return d.Serial == number })
	if i < 0 {
		t.Fatalf("no disk %s", number)
	}
	return devs[i].Name
}

// TestVM4Kept is the update of an xfs and a btrfs.
func TestVM4Kept(t *testing.T) {
	inVM(t)
	name := serial(t, "SATA1")
	plan := wire.Plan{
		Disks: []wire.DiskPlan{{Name: "hda", Layout: desc(t, "linux 400\nlinux fill")}},
		Filesystems: []wire.Filesystem{
			{Part: 1, Type: "xfs", MountPoint: "/"},
			{Part: 2, Type: "btrfs", MountPoint: "/home", Subvolumes: []wire.Subvolume{{Path: "@home", MountPoint: "/home", Mounted: true}}},
		},
	}
	_, root := prepare(t, plan, name)
	mark(t, root, "/", "/home")
	res, root, said := again(t, plan, name)
	if !res.Kept || !marked(root, "/") || !marked(root, "/home") {
		t.Errorf("not kept:\n%s", said)
	}
}
