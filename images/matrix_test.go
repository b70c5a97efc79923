package images

import (
	"os"
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
	{Name: "bios-mbr-ext4-plain", Mix: rehearsal.Ext4, Stacking: rehearsal.Plain},
	{Name: "uefi-gpt-ext4-lvm", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.Ext4, Stacking: rehearsal.LVM},
	{Name: "bios-gpt-ext4-raid1", GPT: true, Mix: rehearsal.Ext4, Stacking: rehearsal.RAID1},
	{Name: "uefi-gpt-xfs-plain", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.XFS, Stacking: rehearsal.Plain},
	{Name: "bios-mbr-xfs-lvm", Mix: rehearsal.XFS, Stacking: rehearsal.LVM},
	{Name: "uefi-mbr-xfs-raid1", Firmware: vmlab.UEFI, Mix: rehearsal.XFS, Stacking: rehearsal.RAID1},
	{Name: "bios-gpt-btrfs-plain", GPT: true, Mix: rehearsal.Btrfs, Stacking: rehearsal.Plain},
	{Name: "uefi-mbr-btrfs-lvm", Firmware: vmlab.UEFI, Mix: rehearsal.Btrfs, Stacking: rehearsal.LVM},
	{Name: "uefi-gpt-btrfs-raid1", Firmware: vmlab.UEFI, GPT: true, Mix: rehearsal.Btrfs, Stacking: rehearsal.RAID1},
	{Name: "uefi-mbr-old-plain", Firmware: vmlab.UEFI, Mix: rehearsal.Old, Stacking: rehearsal.Plain},
	{Name: "bios-gpt-old-lvm", GPT: true, Mix: rehearsal.Old, Stacking: rehearsal.LVM},
	{Name: "bios-mbr-old-raid1", Mix: rehearsal.Old, Stacking: rehearsal.RAID1},
}

// TestMatrix clones a machine of each kind, one after the other: `make vmtest`.
func TestMatrix(t *testing.T) {
	only := os.Getenv("CELL")
	if only == "" && os.Getenv("VMTEST") == "" {
		t.Skip("make vmtest runs it: VMTEST=1 or CELL=name")
	}
	found := false
	for _, r := range recipes {
		if only != "" && !strings.Contains(r.Name, only) {
			continue
		}
		found = true
		t.Run(r.Name, func(t *testing.T) {
			started, cell := time.Now(), r.Cell()
			t.Log(cell)
			playClone(t, rehearsal.Config{Nodes: 1, Cell: cell})
			t.Logf("CELL %s: %.0f s", r.Name, time.Since(started).Seconds())
		})
	}
	if !found {
		t.Errorf("CELL=%s: there is no such cell", only)
	}
}
