package rehearsal

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/images/vmlab"
)

func TestCells(t *testing.T) {
	for _, c := range []struct {
		recipe Recipe
		layout string // name and text of one, without spaces at the lines' beginnings
		fstab  string
	}{
		{Recipe{Mix: Old, Stacking: Plain}, "sda: linux 1200; swap 128; extended fill; logical linux 400; logical linux fill",
			"/dev/sda1 / ext3 defaults 0 1; /dev/sda5 /srv reiserfs defaults 0 2; /dev/sda6 /home jfs defaults 0 2; /dev/sda2 none swap sw 0 0"},
		{Recipe{Mix: Btrfs, Stacking: RAID1, GPT: true, Firmware: vmlab.UEFI}, "layout.yaml: disks:; sda:; table: gpt; partitions:; " +
			"- {type: bios, size: 1M}; - {type: efi, size: 100M, fs: vfat, mount: /boot/efi}; - {type: swap, size: 128M, fs: swap}; " +
			"- {type: raid, size: fill}; sdb:; table: gpt; partitions:; - {type: bios, size: 1M}; - {type: raid, size: fill}; raid:; " +
			`md0: {level: 1, of: [sda4, sdb2], metadata: 1.2, fs: btrfs, subvolumes: {"@": /, "@home": /home}}`,
			"/dev/sda2 /boot/efi vfat umask=0077 0 2; /dev/md0 / btrfs subvol=@ 0 1; /dev/md0 /home btrfs subvol=@home 0 2; /dev/sda3 none swap sw 0 0"},
		{Recipe{Mix: XFS, Stacking: LVM}, "layout.yaml: disks:; sda:; table: mbr; partitions:; - {type: lvm, size: fill}; lvm:; vg0:; of: sda1; volumes:; " +
			"root: {size: 1200M, fs: xfs, mount: /}; swap: {size: 128M, fs: swap}; home: {size: fill, fs: xfs, mount: /home}",
			"/dev/vg0/root / xfs defaults 0 1; /dev/vg0/home /home xfs defaults 0 2; /dev/vg0/swap none swap sw 0 0"},
	} {
		cell := c.recipe.Cell()
		name, want, _ := strings.Cut(c.layout, ": ")
		if got := oneLine(cell.Layouts[name]); got != want {
			t.Errorf("%+v: layout %s:\n%s, want\n%s", c.recipe, name, got, want)
		}
		if got := oneLine(cell.Files["etc/fstab"]); got != c.fstab {
			t.Errorf("%+v: fstab\n%s, want\n%s", c.recipe, got, c.fstab)
		}
		raid := slices.Contains(cell.Without, "usr/share/initramfs-tools/hooks/mdadm")
		if raid != (c.recipe.Stacking != RAID1) {
			t.Errorf("%+v: golden lacks %v", c.recipe, cell.Without)
		}
	}
}

func oneLine(text string) string {
	var out []string
	for line := range strings.Lines(text) {
		out = append(out, strings.TrimSpace(line))
	}
	return strings.Join(out, "; ")
}

// TestConvertedCell: --table and --match are given, and what they make is what
// is wanted.
func TestConvertedCell(t *testing.T) {
	cell := Recipe{Mix: Ext4, Stacking: TwoDisks, Second: vmlab.SCSI, ToGPT: true, Match: []string{"sda:serial=KA0"}}.Cell()
	args := strings.Join(cell.ServeArgs(func(disk string) string { return "desc-" + disk }), " ")
	if want := "-p sda desc-sda -p sdb desc-sdb --table gpt --match sda:serial=KA0"; args != want {
		t.Errorf("arguments %q, want %q", args, want)
	}
	linux, swap, boot := types["linux"][1], types["swap"][1], types["boot"][1]
	for disk, want := range map[string][]Wanted{
		"sda": {{1, []string{linux}, rootMiB}, {2, []string{swap}, 0}, {3, []string{boot}, 1}},
		"sdb": {{1, []string{linux}, 0}, {2, []string{boot}, 1}},
	} {
		if !reflect.DeepEqual(cell.Wanted[disk], want) {
			t.Errorf("%s: %v, want %v", disk, cell.Wanted[disk], want)
		}
	}
	if cell.Disks[0].Bus != "" || cell.Disks[1].Bus != vmlab.SCSI || cell.Layouts["sda"] != "linux 1200\nswap fill\n" {
		t.Errorf("disks %+v, layouts %q", cell.Disks, cell.Layouts)
	}
}
