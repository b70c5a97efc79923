package rehearsal

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/vmlab"
)

// Mix is which file systems a cell has: what is on "/", "/home" and, where
// there is a third, "/srv".
type Mix []string

// Mixes.
var (
	Ext4  = Mix{"ext4", "ext4"}
	XFS   = Mix{"xfs", "xfs"}
	Btrfs = Mix{"btrfs", "btrfs"} // two subvolumes of one file system
	Old   = Mix{"ext3", "jfs", "reiserfs"}
)

// Stacking is what lies between file systems and partitions.
type Stacking string

// Stackings.
const (
	Plain    Stacking = "plain"
	LVM      Stacking = "lvm"
	RAID1    Stacking = "raid1"
	LUKS     Stacking = "luks" // "/" in a container, with a /boot before it
	TwoDisks Stacking = "two"  // "/home" is on a second disk
)

// Recipe is what a cell is made from.
type Recipe struct {
	Name     string
	Firmware vmlab.Firmware
	GPT      bool
	Mix      Mix
	Stacking Stacking
	Bus      vmlab.Bus // empty: virtio
	Second   vmlab.Bus // of the second disk; empty: Bus
	Sector   int
	Size     int64 // bytes of the node's disk; 0: 3 GiB
	Shrinks  bool  // the layout asks for more than the disk has, and may shrink
	Grows    bool  // the layout has shares of the disk

	ToGPT bool     // golden has an MBR, the clone a GPT all the same (--table)
	Match []string // which disk of the node becomes which of golden's (--match)
}

// piece is a partition or volume on its way into a layout.
type piece struct {
	kind string // "esp", "linux", "swap", "lvm", "raid"
	mib  int64  // 0: what is left
	fs   string // "" for none
	at   string
	name string // of a volume
	size string // in a layout file, where mib doesn't say it all
}

// Sizes in MiB of what is made: golden's files and a clone's new initrd need
// some 700.
const (
	espMiB  = 100
	rootMiB = 1200
	swapMiB = 128
	srvMiB  = 400
	bootMiB = 200

	shrinkingMiB = 6000 // more than the disk of a cell that shrinks
	growingMiB   = 1500 // what a share of the disk is limited to
)

// contents are a cell's file systems and swap.
func (r Recipe) contents() []piece {
	out := []piece{{kind: "linux", mib: rootMiB, fs: r.Mix[0], at: "/", name: "root"}, {kind: "swap", mib: swapMiB, fs: "swap", at: "swap", name: "swap"}}
	if r.Grows {
		out[0].mib, out[0].size = growingMiB, fmt.Sprintf("40%%, max: %dM", growingMiB)
	}
	if len(r.Mix) > 2 {
		out = append(out, piece{kind: "linux", mib: srvMiB, fs: r.Mix[2], at: "/srv", name: "srv"})
	}
	if r.Mix[0] == "btrfs" { // "/home" is a subvolume of the same
		out[0].mib = 0
		slices.Reverse(out) // what takes the rest comes last
		return out
	}
	home := piece{kind: "linux", fs: r.Mix[1], at: "/home", name: "home"}
	if r.Shrinks {
		home.size = fmt.Sprintf("%dM, min: 200M", shrinkingMiB)
	}
	return append(out, home)
}

// parts are the partitions of golden's n-th disk.
func (r Recipe) parts(n int) []piece {
	var out []piece
	if r.GPT && r.yaml() {
		out = append(out, piece{kind: "boot", mib: 1})
	}
	if r.Firmware != vmlab.BIOS && n == 0 {
		out = append(out, piece{kind: "esp", mib: espMiB, fs: "vfat", at: "/boot/efi"})
	}
	all := r.contents()
	switch r.Stacking {
	case LVM:
		return append(out, piece{kind: "lvm"})
	case RAID1:
		for _, p := range all {
			switch {
			case p.kind != "swap":
				out = append(out, piece{kind: "raid", mib: p.mib, at: p.at})
			case n == 0: // a disk of its own is enough for swap
				out = append(out, p)
			}
		}
		return out
	case LUKS: // all files but /boot's are in the container
		return append(out, piece{kind: "linux", mib: bootMiB, fs: "ext4", at: "/boot"}, all[1], piece{kind: "luks"})
	case TwoDisks:
		if n == 1 {
			return all[2:]
		}
		all[1].mib = 0 // a disk's last one takes the rest
		return append(out, all[:2]...)
	}
	return append(out, all...)
}

// numbered is a partition with its place in the table.
type numbered struct {
	piece
	number  int
	logical bool
}

// number gives partitions their numbers: in an MBR with more than four, all
// but the first two lie in an extended one.
func (r Recipe) number(parts []piece) (out []numbered, extended int) {
	for i, p := range parts {
		n := numbered{piece: p, number: i + 1}
		if !r.GPT && len(parts) > 3 && i >= 2 {
			extended = 3
			n.number, n.logical = i+3, true // the first logical one is 5
		}
		out = append(out, n)
	}
	return out, extended
}

// types are how sfdisk prints a partition's type, in an MBR and in a GPT.
var types = map[string][2]string{
	"esp": {"ef", "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"}, "linux": {"83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4"},
	"swap": {"82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"}, "lvm": {"8e", "E6D6D379-F507-44C2-A23C-238F2A3DF928"},
	"luks": {"e8", "CA7D7CCB-63ED-4C53-861C-1742536059CC"},
	"raid": {"fd", "A19D880F-05FC-4D3B-A006-743F0F84911E"}, "boot": {"", "21686148-6449-6E6F-744E-656564454649"},
}

// wanted is the table that the clone has to have.
func (r Recipe) wanted(parts []numbered, extended int) []Wanted {
	kind := 0
	if r.GPT || r.ToGPT {
		kind = 1
	}
	var out []Wanted
	for _, p := range parts {
		if p.logical && (len(out) == 0 || out[len(out)-1].Number < extended) {
			out = append(out, Wanted{Number: extended, Types: []string{"5", "f"}})
		}
		out = append(out, Wanted{Number: p.number, Types: []string{types[p.kind][kind]}, MiB: p.mib})
	}
	return out
}

// yaml tells whether a desc has no words for the layout.
func (r Recipe) yaml() bool {
	plain := r.Stacking == Plain || r.Stacking == TwoDisks
	return !plain || r.Shrinks || r.Grows || r.GPT && r.Firmware == vmlab.BIOS
}

// disks are golden's.
func (r Recipe) disks() []string {
	if r.Stacking == RAID1 || r.Stacking == TwoDisks {
		return []string{"sda", "sdb"}
	}
	return []string{"sda"}
}

// bus is the n-th disk's.
func (r Recipe) bus(n int) vmlab.Bus {
	if n > 0 && r.Second != "" {
		return r.Second
	}
	return r.Bus
}

// Cell makes the cell.
func (r Recipe) Cell() *Cell {
	c := &Cell{Name: r.Name, Firmware: r.Firmware, Golden: r.disks(), Layouts: map[string]string{}, Wanted: map[string][]Wanted{},
		Files: map[string]string{}}
	if r.Size == 0 {
		r.Size = 3 << 30
	}
	arrays := map[string]string{}
	for n, disk := range c.Golden {
		parts, extended := r.number(r.parts(n))
		c.Wanted[disk] = r.wanted(parts, extended)
		// golden-serve adds it, as the golden root has GRUB for a BIOS too; and to
		// each table that it makes a GPT of.
		if r.GPT && n == 0 && !r.yaml() || r.ToGPT {
			c.Wanted[disk] = append(c.Wanted[disk], Wanted{Number: len(parts) + 1, Types: []string{types["boot"][1]}, MiB: 1})
		}
		c.Disks = append(c.Disks, vmlab.Disk{Size: r.Size, Bus: r.bus(n), Sector: r.Sector, Serial: fmt.Sprintf("KA%d", n)})
		if !r.yaml() {
			c.Layouts[disk] = r.desc(parts)
		}
		for _, p := range parts {
			on := fmt.Sprintf("%s%d", disk, p.number)
			switch {
			case p.kind == "luks":
				c.Clone.Crypts = []compare.AttachedCrypt{{Name: "crypt", On: on, Key: Passphrase}}
			case p.kind == "raid":
				c.member(arrays, p.at, on)
			case p.kind == "swap":
				c.Clone.Swap = on
			case p.at != "":
				c.place(p.piece, on)
			}
		}
	}
	for _, p := range r.contents() {
		switch {
		case r.Stacking == LVM && p.kind == "swap":
			c.Clone.Swap = "vg0/swap"
		case r.Stacking == LVM:
			c.place(p, "vg0/"+p.name)
		case r.Stacking == RAID1 && p.kind != "swap":
			c.place(p, arrays[p.at])
		case r.Stacking == LUKS && p.at == "/":
			c.place(p, "mapper/crypt")
		}
	}
	if r.Stacking == LVM {
		c.Clone.Groups = []string{"vg0"}
	}
	if r.ToGPT {
		c.Serve = append(c.Serve, "--table", "gpt")
	}
	for _, m := range r.Match {
		c.Serve = append(c.Serve, "--match", m)
	}
	c.files()
	if r.yaml() {
		c.Layouts["layout.yaml"] = r.layout(c)
	}
	return c
}

// member puts a partition into the array for a mount point.
func (c *Cell) member(arrays map[string]string, at, on string) {
	if arrays[at] == "" {
		arrays[at] = fmt.Sprintf("md%d", len(arrays))
		c.Clone.Arrays = append(c.Clone.Arrays, compare.AttachedArray{Name: arrays[at]})
	}
	i := slices.IndexFunc(c.Clone.Arrays, func(a compare.AttachedArray) bool { return a.Name == arrays[at] })
	c.Clone.Arrays[i].Members = append(c.Clone.Arrays[i].Members, on)
}

func (c *Cell) place(p piece, on string) {
	if p.fs != "btrfs" {
		c.Clone.Places = append(c.Clone.Places, compare.Place{On: on, Type: p.fs, At: p.at})
		return
	}
	c.Clone.Places = append(c.Clone.Places,
		compare.Place{On: on, Type: p.fs, At: "/", Options: "subvol=@"},
		compare.Place{On: on, Type: p.fs, At: "/home", Options: "subvol=@home"})
}

// files are those of golden that name disks.
func (c *Cell) files() {
	var fstab strings.Builder
	for _, p := range c.Clone.Places {
		options, pass := "defaults", 2
		if p.Options != "" {
			options = p.Options
		}
		if p.At == "/" {
			pass = 1
		}
		if p.Type == "vfat" {
			options = "umask=0077"
			c.Files["boot/efi/README.TXT"] = "CAPITALS\n"
		}
		fmt.Fprintf(&fstab, "/dev/%s %s %s %s 0 %d\n", p.On, p.At, p.Type, options, pass)
	}
	fmt.Fprintf(&fstab, "/dev/%s none swap sw 0 0\n", c.Clone.Swap)
	c.Files["etc/fstab"] = fstab.String()
	c.Files["etc/initramfs-tools/conf.d/resume"] = "RESUME=/dev/" + c.Clone.Swap + "\n"
	c.initramfs()
	var conf strings.Builder
	conf.WriteString("HOMEHOST <system>\nMAILADDR root\n")
	for i, a := range c.Clone.Arrays {
		fmt.Fprintf(&conf, "ARRAY /dev/%s metadata=1.2 name=golden:%d UUID=1111111%d:22222222:33333333:44444444\n", a.Name, i, i)
	}
	if len(c.Clone.Arrays) > 0 {
		c.Files["etc/mdadm/mdadm.conf"] = conf.String()
	}
	for _, k := range c.Clone.Crypts {
		c.Files["etc/crypttab"] = fmt.Sprintf("%s /dev/%s none luks\n", k.Name, k.On)
	}
}

// hooks are what golden's initramfs-tools has of a package, and why it may be
// there. A golden node without LVM has not got LVM's, and each costs an
// emulated processor many seconds.
var hooks = map[string]string{
	"lvm2": "lvm", "dmsetup": "lvm luks", "mdadm": "raid1", "crypt*": "luks", "btrfs": "btrfs", "xfs": "xfs", "reiserfsprogs": "reiserfs",
}

// initramfs has golden's initrd hold what the cell needs and no more.
func (c *Cell) initramfs() {
	used := map[string]bool{"lvm": len(c.Clone.Groups) > 0, "raid1": len(c.Clone.Arrays) > 0, "luks": len(c.Clone.Crypts) > 0}
	modules := []string{"virtio_pci", "virtio_blk", "ata_piix", "ahci", "sd_mod", "nvme", "virtio_scsi", "crc32c_generic"}
	for _, p := range c.Clone.Places {
		if used[p.Type] = true; !slices.Contains(modules, p.Type) && p.At == "/" {
			modules = append(modules, strings.Replace(p.Type, "ext3", "ext4", 1))
		}
	}
	if used["lvm"] || used["luks"] {
		modules = append(modules, "dm_mod")
	}
	if used["raid1"] {
		modules = append(modules, "raid1")
	}
	if used["luks"] {
		modules = append(modules, "dm_crypt", "aes_generic", "xts", "sha256_generic", "algif_skcipher")
	}
	c.Files["etc/initramfs-tools/modules"] = strings.Join(modules, "\n") + "\n"
	for name, words := range hooks {
		if !slices.ContainsFunc(strings.Fields(words), func(w string) bool { return used[w] }) {
			c.Without = append(c.Without, "usr/share/initramfs-tools/hooks/"+name, "usr/share/initramfs-tools/scripts/*/"+name)
		}
	}
}

// desc is the layout in the manual's words.
func (r Recipe) desc(parts []numbered) string {
	var b strings.Builder
	open := false
	for _, p := range parts {
		word := p.kind
		switch {
		case word == "esp" && r.GPT:
			word = "efi"
		case word == "esp" || word == "lvm" || word == "raid":
			word = "type" + types[word][0]
		}
		if p.logical {
			if !open {
				fmt.Fprintf(&b, "extended fill\n")
			}
			open = true
			word = "logical " + word
		}
		size := "fill"
		if p.mib != 0 {
			size = fmt.Sprint(p.mib)
		}
		fmt.Fprintf(&b, "%s %s\n", word, size)
	}
	return b.String()
}
