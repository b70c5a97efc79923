package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// reads is the file systems that a boot loader can take a kernel from, and
// whether it finds volumes, arrays and containers. GRUB 2 knows them all, but
// for LUKS2 with Argon2 (GRUB manual, "cryptomount").
var reads = map[string]struct {
	types []string
	stack string // what of the stack: "", "raid1"
}{
	loaderLegacy:   {[]string{"ext2", "ext3", "xfs", "jfs", "reiserfs", wire.VFAT}, "raid1"}, // GNU GRUB 0.97, stage2/fsys_*
	loaderLILO:     {[]string{"ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", wire.VFAT}, "raid1"},
	loaderExtlinux: {[]string{"ext2", "ext3", "ext4", "xfs", "btrfs", wire.VFAT}, "raid1"}, // syslinux 6, extlinux(1)
}

// readableBy refuses a /boot that the boot loader couldn't read.
func (d *describer) readableBy(kind string, boot wire.Filesystem) error {
	for _, c := range d.cryptsUnder(boot.On) {
		switch {
		case kind == loaderGRUB && c.version == 1:
			d.note("/boot is encrypted: GRUB asks each clone's console for the passphrase")
		case kind != loaderSystemd:
			return fmt.Errorf("/boot (%s) is in the encrypted container %s (LUKS%d), which %s can't open: make /boot a file system of its own, outside of it", boot.MountPoint, c.name, c.version, kind)
		}
	}
	r, ok := reads[kind]
	if !ok {
		return nil
	}
	if !slices.Contains(r.types, boot.Type) {
		return fmt.Errorf("/boot (%s) is %s, which %s can't read: want %s", boot.MountPoint, boot.Type, kind, strings.Join(r.types, ", "))
	}
	if boot.On != "" && !d.mirror(boot.On) {
		return fmt.Errorf("/boot (%s) is on %s, which %s can't read: want a partition, or an array of level 1", boot.MountPoint, boot.On, kind)
	}
	return nil
}

type openedBy struct {
	name    string
	version int
}

// cryptsUnder is the containers below a thing of the stack. Version 0 is
// cryptsetup's own, 2 since 2018.
func (d *describer) cryptsUnder(name string) []openedBy {
	var list []openedBy
	for _, c := range d.stack.Crypts {
		if "mapper/"+c.Name == name {
			o := openedBy{c.Name, c.Version}
			if o.version == 0 {
				o.version = 2
			}
			list = append(list, o)
		}
	}
	for _, ref := range d.madeOf(name) {
		list = append(list, d.cryptsUnder(ref)...)
	}
	return list
}

// mirror says whether a thing of the stack is an array whose every member is
// the file system: level 1 with its metadata at the end (md(4)).
func (d *describer) mirror(name string) bool {
	for _, a := range d.stack.Arrays {
		if a.Name == name {
			return a.Level == 1 && (a.Metadata == "0.90" || a.Metadata == "1.0")
		}
	}
	return false
}
