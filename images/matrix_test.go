package images

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// recipes are the cells of the matrix {BIOS, UEFI} × {MBR, GPT} × {ext4, xfs,
// btrfs, ext3+jfs+reiserfs} × {plain, LVM, RAID 1}: 12 of its 48, chosen so
// that any two values of different kinds are in one of them together.
var recipes = []rehearsal.Recipe{
	{Name: "bios-mbr-ext4-plain-smaller", Mix: rehearsal.Ext4, Stacking: rehearsal.Plain, Size: 2 << 30, Shrinks: true, Bus: vmlab.SCSI},
	{Name: "uefi-gpt-ext4-lvm", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.Ext4, Stacking: rehearsal.LVM},
	{Name: "bios-gpt-ext4-raid1", GPT: true, Mix: rehearsal.Ext4, Stacking: rehearsal.RAID1},
	{Name: "uefi-gpt-xfs-plain-larger", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.XFS, Stacking: rehearsal.Plain, Size: 8 << 30, Grows: true, Bus: vmlab.AHCI},
	{Name: "bios-mbr-xfs-lvm", Mix: rehearsal.XFS, Stacking: rehearsal.LVM},
	{Name: "uefi-mbr-xfs-raid1", Firmware: vmlab.UEFI, Mix: rehearsal.XFS, Stacking: rehearsal.RAID1},
	{Name: "bios-gpt-btrfs-plain", GPT: true, Mix: rehearsal.Btrfs, Stacking: rehearsal.Plain},
	{Name: "uefi-mbr-btrfs-lvm", Firmware: vmlab.UEFI, Mix: rehearsal.Btrfs, Stacking: rehearsal.LVM},
	{Name: "uefi-gpt-btrfs-raid1", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.Btrfs, Stacking: rehearsal.RAID1},
	{Name: "uefi-mbr-old-plain", Firmware: vmlab.UEFI, Mix: rehearsal.Old, Stacking: rehearsal.Plain},
	{Name: "bios-gpt-old-lvm", GPT: true, Mix: rehearsal.Old, Stacking: rehearsal.LVM},
	{Name: "bios-mbr-old-raid1", Mix: rehearsal.Old, Stacking: rehearsal.RAID1},

	// And what isn't in the matrix.
	{Name: "nvme-4096", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.Ext4, Stacking: rehearsal.Plain, Bus: vmlab.NVMe, Sector: 4096},
	// Its disks are vda and sda: without hints golden's sda would come onto the
	// latter, which is the second one. And golden's MBRs become GPTs.
	{Name: "two-disks", Mix: rehearsal.Ext4, Stacking: rehearsal.TwoDisks, Second: vmlab.SCSI, ToGPT: true,
		Match: []string{"sda:serial=KA0,bus=virtio", "sdb:serial=KA1,size>=1G"}},
	{Name: "luks", GPT: true, Mix: rehearsal.Ext4, Stacking: rehearsal.LUKS},
}

// always are the three that are most unlike each other: no two of them have
// the same file systems or stack. make test runs these.
var always = []string{"bios-mbr-old-raid1", "uefi-gpt-ext4-lvm", "bios-gpt-btrfs-plain"}

// chosen tells whether a cell is to run: those of CELL, all with VMTEST=1, or
// those of make test.
func chosen(name string) bool {
	if only := os.Getenv("CELL"); only != "" {
		return strings.Contains(name, only)
	}
	return os.Getenv("VMTEST") != "" || slices.Contains(always, name)
}

// TestMatrix clones a machine of each kind: `make vmtest`. An emulated machine
// keeps one processor busy, so as many run at a time as there are.
func TestMatrix(t *testing.T) {
	found := 0
	for _, r := range recipes {
		if !chosen(r.Name) {
			continue
		}
		found++
		t.Run(r.Name, func(t *testing.T) {
			t.Parallel()
			started, cell := time.Now(), r.Cell()
			t.Logf("CELL %s: %s", r.Name, cell)
			playClone(t, rehearsal.Config{Nodes: 1, Cell: cell, Timeout: 30 * time.Minute})
			t.Logf("CELL %s: %.0f s", r.Name, time.Since(started).Seconds())
		})
	}
	if found == 0 {
		t.Errorf("CELL=%s: there is no such cell", os.Getenv("CELL"))
	}
}

// TestMatrixPlans has golden-serve make the plan of each cell, which it must
// not refuse: then it waits for nodes, and none comes.
func TestMatrixPlans(t *testing.T) {
	r := newRoom(t, 1)
	writeAll(t, r.dir, map[string]string{
		"images/rescue.sqfs": "x", "images/tftp/pxelinux.0": "x", "images/tftp/ldlinux.c32": "x",
		"images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
	})
	for _, recipe := range recipes {
		c := recipe.Cell()
		root := filepath.Join(r.dir, recipe.Name)
		files := map[string]string{"usr/bin/true": "", "sbin/init": "", "boot/vmlinuz": "", "boot/efi/EFI/x": "", "home/x": "", "srv/x": "",
			"usr/lib/grub/i386-pc/modinfo.sh": "", "usr/lib/grub/x86_64-efi/modinfo.sh": "", "etc/hostname": "golden\n"}
		maps.Copy(files, c.Files)
		writeAll(t, root, files)
		name := func(layout string) string { return filepath.Join(r.dir, recipe.Name+"-"+layout) }
		for layout, text := range c.Layouts {
			writeAll(t, r.dir, map[string]string{filepath.Base(name(layout)): text})
		}
		writeAll(t, r.dir, map[string]string{filepath.Base(name("passphrase")): rehearsal.Passphrase + "\n"})
		args := append([]string{"-n", "1", "--images", "images", "--yes", "--dhcp", "off", "--wait", "1s", "--root", root}, c.ServeArgs(name)...)
		p := r.start(r.name, r.golden, "golden-serve", args...)
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), "too few nodes came: 0 of 1") {
			t.Errorf("%s:\n%s\n%v", recipe.Name, p.out, c.Layouts)
		}
	}
}
