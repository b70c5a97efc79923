package disk

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// kind is what is particular to a type of file system.
type kind struct {
	programs []string       // that make it
	label    int            // bytes that a label can have
	feature  *regexp.Regexp // a word of wire.Filesystem.Features
	args     func(fs wire.Filesystem, dev, uuid string, size room) []string
	try      func(fs wire.Filesystem, dev string, size room) []string // arguments that go through the motions on an empty file; nil: it has nothing to choose
}

// kinds are the types that can be made. Labels: ext2_fs.h s_volume_name, the
// swap header's volume_name, xfs_format.h XFSLABEL_MAX, btrfs_tree.h
// BTRFS_LABEL_SIZE, f2fs_fs.h volume_name (512 UTF-16 units), jfs_superblock.h
// s_label, reiserfs_fs.h s_label; FAT: Microsoft's specification.
func kinds() map[string]kind {
	word, flag, none := regexp.MustCompile(`^\^?[a-z0-9_][a-z0-9_-]*$`), regexp.MustCompile(`^[a-z0-9-]+=[0-9]+$`), regexp.MustCompile(`^$`)
	all := map[string]kind{
		"xfs":      {[]string{"mkfs.xfs"}, 12, flag, xfsArgs, tryXFS},
		"btrfs":    {[]string{"mkfs.btrfs"}, 255, word, btrfsArgs, trySmall(btrfsArgs)},
		"f2fs":     {[]string{"mkfs.f2fs"}, 512, word, f2fsArgs, trySmall(f2fsArgs)},
		"jfs":      {[]string{"mkfs.jfs", "jfs_tune"}, 16, none, jfsArgs, nil},
		"reiserfs": {[]string{"mkfs.reiserfs"}, 16, none, reiserArgs, nil},
		"swap":     {[]string{"mkswap"}, 16, none, swapArgs, nil},
		wire.VFAT:  {[]string{"mkfs.vfat"}, 11, none, vfatArgs, tryVFAT},
	}
	for _, ext := range []string{"ext2", "ext3", "ext4"} {
		all[ext] = kind{[]string{"mkfs." + ext}, 16, word, extArgs, tryExt}
	}
	return all
}

func (k kind) checkLabel(label string) error {
	if len(label) > k.label || strings.ContainsAny(label, "\x00\n") {
		return fmt.Errorf("label %q: want at most %d bytes", label, k.label)
	}
	if k.label == 11 && strings.Trim(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_ ") != "" {
		return fmt.Errorf("label %q: want at most 11 capital letters and digits", label)
	}
	return nil
}
