package capture

import (
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/golden/wire"
)

// maker is a program that stage 2 needs, and its package on Debian.
type maker struct{ program, pkg string }

// makers is what makes each type of file system, under all names that a
// stage 2 may have for it.
func makers(kind string) (m maker, names []string) {
	switch kind {
	case "swap":
		return maker{"mkswap", "util-linux"}, nil
	case "ext2", "ext3", "ext4":
		return maker{"mkfs." + kind, "e2fsprogs"}, []string{"mke2fs"}
	case "xfs":
		return maker{"mkfs.xfs", "xfsprogs"}, nil
	case "btrfs":
		return maker{"mkfs.btrfs", "btrfs-progs"}, nil
	case "f2fs":
		return maker{"mkfs.f2fs", "f2fs-tools"}, nil
	case "jfs":
		return maker{"mkfs.jfs", "jfsutils"}, []string{"jfs_mkfs"}
	case "reiserfs":
		return maker{"mkfs.reiserfs", "reiserfsprogs"}, []string{"mkreiserfs"}
	}
	return maker{"mkfs." + kind, "dosfstools"}, []string{"mkfs.fat", "mkdosfs"}
}

// checkPrograms refuses what the nodes' stage 2 could not make: half-way, with
// the disks erased, would be too late.
func (d *describer) checkPrograms(filesystems []wire.Filesystem) error {
	if len(d.opt.Programs) == 0 {
		return nil // not known: each node looks for itself before it erases
	}
	need := func(what string, m maker, names ...string) error {
		if slices.ContainsFunc(append(names, m.program), func(n string) bool { return slices.Contains(d.opt.Programs, n) }) {
			return nil
		}
		return fmt.Errorf("%s: the nodes' image (rescue.sqfs) has no %s: install package %s here, and make image again", what, m.program, m.pkg)
	}
	for _, fs := range filesystems {
		m, names := makers(fs.Type)
		if err := need(want{Filesystem: fs}.String(), m, names...); err != nil {
			return err
		}
		if len(fs.Subvolumes) > 0 {
			if err := need("subvolumes of "+fs.MountPoint, maker{"btrfs", "btrfs-progs"}); err != nil {
				return err
			}
		}
	}
	for _, a := range d.stack.Arrays {
		if err := need("array "+a.Name, maker{"mdadm", "mdadm"}); err != nil {
			return err
		}
	}
	for _, c := range d.stack.Crypts {
		if err := need("container "+c.Name, maker{"cryptsetup", "cryptsetup-bin"}); err != nil {
			return err
		}
	}
	for _, g := range d.stack.Groups {
		if err := need("volume group "+g.Name, maker{"lvm", "lvm2"}, "vgcreate"); err != nil {
			return err
		}
	}
	return nil
}
