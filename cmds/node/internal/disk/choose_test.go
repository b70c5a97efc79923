package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/sys/mountinfo"

	"github.com/kamethod/kamethod/golden/wire"
)

func TestChoose(t *testing.T) {
	dev := func(name string) Device { return Device{Name: name, Path: "/dev/" + name, Bytes: gib, Sector: 512} }
	usb := dev("sdb")
	usb.Removable = true
	used := dev("sdc")
	used.InUse = "mounted on /mnt"
	card := dev("mmcblk0")
	card.Bytes = 0
	ro := dev("sdd")
	ro.ReadOnly = true
	for _, c := range []struct {
		plan, want string
		devs       []Device
		err        string
	}{
		{"sda", "sda", []Device{dev("sda")}, ""},
		{"sda", "vda", []Device{dev("vda")}, ""},
		{"sda", "sda", []Device{dev("nvme0n1"), dev("sda")}, ""},
		{"sda", "nvme0n1", []Device{dev("nvme0n1"), usb, used, card, ro}, ""},
		{"sda sdb", "sda nvme0n1", []Device{dev("nvme0n1"), dev("sda")}, ""},
		{"sda sdb", "sda sdb", []Device{dev("sda"), dev("sdb"), dev("sdc")}, ""},
		{"sda", "", []Device{dev("vda"), dev("vdb")}, "ambiguous: sda could be any of /dev/vda (1024 MB), /dev/vdb (1024 MB)"},
		{"sda sdb", "vda vdb", []Device{dev("vda"), dev("vdb")}, ""},
		{"sdb sda", "nvme1n1 nvme0n1", []Device{dev("nvme0n1"), dev("nvme1n1")}, ""},
		{"cciss/c0d0 cciss/c0d1", "sdz sdaa", []Device{dev("sdaa"), dev("sdz")}, ""},
		{"sda sdb", "", []Device{dev("vda"), dev("vdb"), dev("vdc")}, "ambiguous: sda, sdb"},
		{"sda sdb", "", []Device{dev("vda"), dev("nvme0n1")}, "ambiguous: sda, sdb"},
		{"sda nvme0n1", "", []Device{dev("vda"), dev("vdb")}, "ambiguous: sda, nvme0n1"},
		{"sda sda", "", []Device{dev("vda"), dev("vdb")}, "ambiguous"},
		{"sda sdb", "", []Device{dev("sda")}, "no disk for sdb"},
		{"sdb", "", []Device{usb, used}, "no disk for sdb: /dev/sdb (1024 MB) left: removable; /dev/sdc (1024 MB) left: in use: mounted on /mnt"},
		{"sda", "", nil, "no disk for sda: no disk found"},
		{"", "", []Device{dev("sda")}, "the plan has none"},
	} {
		var plan wire.Plan
		for _, n := range strings.Fields(c.plan) {
			plan.Disks = append(plan.Disks, wire.DiskPlan{Name: n})
		}
		got, why, err := Choose(plan, c.devs)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %s", c.plan, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.plan, err)
			continue
		}
		var names []string
		for _, d := range got {
			names = append(names, d.Name)
		}
		if strings.Join(names, " ") != c.want || len(why) != len(c.devs) {
			t.Errorf("%s: got %v, want %s: %q", c.plan, names, c.want, why)
		}
	}
}

// TestChooseSays: a disk on USB is nobody's by chance, and a name that could
// have been another one's is pointed out.
func TestChooseSays(t *testing.T) {
	dev := func(name, bus string) Device {
		return Device{Name: name, Path: "/dev/" + name, Bytes: gib, Sector: 512, Bus: bus}
	}
	plan := wire.Plan{Disks: []wire.DiskPlan{{Name: "sda"}}}
	for _, c := range []struct {
		devs      []Device
		took, say string
	}{
		{[]Device{dev("sda", "usb")}, "", "no disk for sda: /dev/sda (1024 MB) left: on USB: name it with --match"},
		{[]Device{dev("sda", "usb"), dev("sdb", "ata")}, "sdb", "/dev/sda (1024 MB) left: on USB: name it with --match"},
		{[]Device{dev("sda", "ata"), dev("sdb", "ata")}, "sda", "/dev/sdb (1024 MB) fits as well; --match says which"},
		{[]Device{dev("sda", "ata"), dev("sdb", "usb"), dev("nvme0n1", "nvme")}, "sda", "/dev/sda (1024 MB) taken for sda: same name;"},
	} {
		got, why, err := Choose(plan, c.devs)
		said := strings.Join(why, ";") + ";"
		if err != nil {
			said = err.Error()
		}
		if (err == nil) != (c.took != "") || err == nil && got[0].Name != c.took || !strings.Contains(said, c.say) {
			t.Errorf("%v: %v: %s: want %s, %s", c.devs, got, said, c.took, c.say)
		}
	}
	plan.Disks[0].Match.Bus = "usb"
	if got, why, err := Choose(plan, []Device{dev("sda", "ata"), dev("sdb", "usb")}); err != nil || got[0].Name != "sdb" || len(why) != 2 {
		t.Errorf("by a hint: %v, %v, %v", got, why, err)
	}
}

func TestPartitionNames(t *testing.T) {
	for path, want := range map[string]string{
		"/dev/sda": "/dev/sda3", "/dev/nvme0n1": "/dev/nvme0n1p3", "/dev/mmcblk0": "/dev/mmcblk0p3", "/dev/vda": "/dev/vda3", "/dev/cciss/c0d0": "/dev/cciss/c0d0p3",
	} {
		if got := (Device{Path: path}).Partition(3); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

// TestInventory reads a sysfs as other machines have it.
func TestInventory(t *testing.T) {
	sys := t.TempDir()
	put := func(disk string, files map[string]string) {
		for name, text := range files {
			path := filepath.Join(sys, "block", disk, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	basic := map[string]string{"size": "2048", "queue/logical_block_size": "512", "removable": "0", "ro": "0", "queue/rotational": "1", "dev": "999:0"}
	for _, d := range []string{"sda", "nvme0n1", "mmcblk0", "cciss!c0d0", "loop0", "ram0", "zram0", "dm-0", "md0", "sr0", "fd0", "mmcblk0boot0", "mmcblk0rpmb"} {
		put(d, basic)
	}
	put("sda", map[string]string{"device/model": "QEMU HARDDISK   ", "sda1/partition": "1", "sda1/dev": "999:1", "sda1/holders/dm-0/x": ""})
	put("nvme0n1", map[string]string{"queue/logical_block_size": "4096", "device/serial": "S1234", "ro": "1", "removable": "1"})
	got, err := Inventory(sys)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, d := range got {
		names = append(names, d.Path)
	}
	if s := strings.Join(names, " "); s != "/dev/cciss/c0d0 /dev/mmcblk0 /dev/nvme0n1 /dev/sda" {
		t.Errorf("disks: %s", s)
	}
	want := Device{Name: "nvme0n1", Path: "/dev/nvme0n1", Bytes: 1 << 20, Sector: 4096, Serial: "S1234", ReadOnly: true, Removable: true, Rotational: true}
	want.ByPath = []string{filepath.Join(sys, "block/nvme0n1")}
	if d := cmp.Diff(want, got[2]); d != "" {
		t.Error(d)
	}
	if got[3].Model != "QEMU HARDDISK" || got[3].InUse != "" || !slices.Equal(got[3].Holders, []string{"dm-0"}) {
		t.Errorf("got %+v", got[3])
	}
	// What is made of it is in use.
	mounts, err := mountinfo.GetMounts(mountinfo.SingleEntryFilter("/proc"))
	if err != nil || len(mounts) == 0 {
		t.Fatalf("no /proc: %v", err)
	}
	put("dm-0", map[string]string{"dev": fmt.Sprintf("%d:%d", mounts[0].Major, mounts[0].Minor)})
	if got, err = Inventory(sys); err != nil || got[3].InUse != "part of dm-0, mounted on /proc" || got[3].Holders != nil {
		t.Errorf("%v: got %+v", err, got[3])
	}
	put("sdb", map[string]string{"size": "many"})
	if _, err := Inventory(sys); err == nil || !strings.Contains(err.Error(), "sdb") {
		t.Errorf("got %v", err)
	}
}
