package capture

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// details sets the golden file system's identifiers, and what the clone's
// mkfs shall have from it.
func (d *describer) details(ctx context.Context, w *want) error {
	dev := w.device()
	s, err := probe(ctx, dev)
	if err != nil {
		return err
	}
	w.OldUUID, w.Label, w.OldPartID = s.uuid, s.label, s.partID
	if ext(s.kind) {
		w.Type = s.kind // the kernel's ext4 says ext4 for all three
	}
	read, ok := readers[w.Type]
	if !ok {
		return nil
	}
	if w.Type == "xfs" && w.MountPoint != "" && w.node != "" {
		dev = w.MountPoint // all that xfs_info took before xfsprogs 4.20
	}
	out, err := output(ctx, read.program, append(slices.Clone(read.args), dev)...)
	switch {
	case err == nil:
		err = read.parse(&w.Filesystem, out)
	case !ext(w.Type):
		// Golden runs without it; a boot loader that is older than the
		// node's mkfs may not, so that a person has to know.
		d.note("%s: its features can't be read, mkfs's defaults are taken: %v", w, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read features of %s: %w", dev, err)
	}
	return nil
}

// reader is a program that tells what a file system is like, and what reads
// that. The device's path comes after its arguments.
type reader struct {
	program string
	args    []string
	parse   func(fs *wire.Filesystem, out string) error
}

var readers = map[string]reader{
	"ext2":     {"dumpe2fs", []string{"-h"}, parseExt},
	"ext3":     {"dumpe2fs", []string{"-h"}, parseExt},
	"ext4":     {"dumpe2fs", []string{"-h"}, parseExt},
	"xfs":      {"xfs_info", nil, parseXFS},
	"btrfs":    {"btrfs", []string{"inspect-internal", "dump-super"}, parseBtrfs},
	"f2fs":     {"dump.f2fs", []string{"-d", "1"}, parseF2FS},
	"jfs":      {"jfs_tune", []string{"-l"}, parseJFS},
	"reiserfs": {"debugreiserfs", nil, parseReiser},
}

// known says whether a clone can be given such a file system, and filled.
func known(kind string) bool { return readers[kind].program != "" || kind == wire.VFAT }

const knownWords = "ext2, ext3, ext4, xfs, btrfs, f2fs, jfs, reiserfs and an EFI system partition"

// fields reads lines of a word, a mark and a value.
func fields(out, mark string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(out) {
		key, value, ok := strings.Cut(line, mark)
		if key = strings.TrimSpace(key); ok && m[key] == "" {
			m[key] = strings.TrimSpace(value)
		}
	}
	return m
}

// number takes a field's first word, a decimal number of sane size.
func number(m map[string]string, key string) (int, error) {
	word, _, _ := strings.Cut(m[key], " ")
	n, err := strconv.Atoi(word)
	if err != nil || n < 0 || n > 1<<30 {
		return 0, fmt.Errorf("%s: %q", key, m[key])
	}
	return n, nil
}

// parseExt reads dumpe2fs -h.
func parseExt(fs *wire.Filesystem, out string) (err error) {
	m := fields(out, ":")
	fs.Features = keepFeatures(strings.Fields(m["Filesystem features"]))
	if fs.InodeSize, err = number(m, "Inode size"); err != nil {
		return err
	}
	if fs.BlockSize, err = number(m, "Block size"); err != nil {
		return err
	}
	all, err := strconv.ParseFloat(m["Block count"], 64)
	kept, err2 := strconv.ParseFloat(m["Reserved block count"], 64)
	if err != nil || err2 != nil || all <= 0 || kept < 0 {
		return fmt.Errorf("reserved block count: %q of %q", m["Reserved block count"], m["Block count"])
	}
	fs.Reserved = reserved(kept, all)
	return nil
}

// reserved is per cent as mke2fs -m was told: a tenth is as fine as people go.
// None is -1, since 0 leaves it to mkfs. More than 50 mke2fs takes from nobody.
func reserved(kept, all float64) float64 {
	p := float64(int(kept/all*1000+0.5)) / 10
	if kept == 0 || p == 0 {
		return -1
	}
	return min(p, 50)
}

// parseXFS reads xfs_info: words such as reflink=1, a line for each part. The
// same word may stand in several (bsize, sectsz).
func parseXFS(fs *wire.Filesystem, out string) (err error) {
	m, words := map[string]string{}, regexp.MustCompile(`([a-z0-9-]+)=([0-9]+)\b`)
	section := ""
	for line := range strings.Lines(out) {
		if name, _, ok := strings.Cut(line, "="); ok && strings.TrimSpace(name) != "" {
			section, _, _ = strings.Cut(strings.TrimSpace(name), " ")
		}
		for _, w := range words.FindAllStringSubmatch(line, -1) {
			if _, seen := m[section+" "+w[1]]; !seen {
				m[section+" "+w[1]] = w[2]
			}
		}
	}
	// realtime =external: its files lie on another device.
	if strings.Contains(out, "realtime =/") || strings.Contains(out, "realtime =external") {
		return fmt.Errorf("an xfs with a realtime device can't be cloned as files: leave it out with -x %s", fs.MountPoint)
	}
	if fs.InodeSize, err = number(m, "meta-data isize"); err != nil {
		return err
	}
	if fs.BlockSize, err = number(m, "data bsize"); err != nil {
		return err
	}
	// mkfs.xfs(8), -m and -i; ftype is what the naming line has, -n.
	for _, w := range []string{"crc", "finobt", "reflink", "rmapbt", "bigtime", "inobtcount", "sparse", "nrext64"} {
		if v, ok := m["meta-data "+w]; ok {
			fs.Features = append(fs.Features, w+"="+v)
		}
	}
	if v, ok := m["naming ftype"]; ok {
		fs.Features = append(fs.Features, "ftype="+v)
	}
	return nil
}

// parseBtrfs reads btrfs inspect-internal dump-super. The words are those of
// mkfs.btrfs -O.
func parseBtrfs(fs *wire.Filesystem, out string) (err error) {
	m := map[string]string{}
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) > 1 && m[f[0]] == "" {
			m[f[0]] = f[1]
		}
	}
	if n, err := number(m, "num_devices"); err != nil || n != 1 {
		return fmt.Errorf("a btrfs over %s devices can't be cloned as files: leave it out with -x %s", m["num_devices"], fs.MountPoint)
	}
	if fs.BlockSize, err = number(m, "sectorsize"); err != nil {
		return err
	}
	// fs/btrfs/fs.h: mixed-backref and big-metadata are always on.
	for flag, word := range map[string]string{
		"EXTENDED_IREF": "extref", "SKINNY_METADATA": "skinny-metadata", "NO_HOLES": "no-holes", "MIXED_GROUPS": "mixed-bg",
		"FREE_SPACE_TREE": "free-space-tree", "BLOCK_GROUP_TREE": "block-group-tree", "RAID1C34": "raid1c34",
	} {
		if regexp.MustCompile(`[(|\s]` + flag + `[)|\s]`).MatchString(out) {
			fs.Features = append(fs.Features, word)
		}
	}
	slices.Sort(fs.Features)
	return nil
}

// parseF2FS reads dump.f2fs -d 1: "Info: superblock features = 2828 :  extra_attr ...".
func parseF2FS(fs *wire.Filesystem, out string) error {
	m := regexp.MustCompile(`(?m)^Info: superblock features = [0-9a-f]+ :(.*)$`).FindStringSubmatch(out)
	if m == nil {
		return fmt.Errorf("dump.f2fs: no superblock features in %q", shorten(out))
	}
	// mkfs.f2fs(8), -O; encrypt, casefold and ro belong to one file system
	// alone, or let none be filled.
	keep := []string{"extra_attr", "project_quota", "inode_checksum", "flexible_inline_xattr", "quota", "inode_crtime", "lost_found", "verity", "sb_checksum", "compression"}
	for _, w := range strings.Fields(m[1]) {
		if slices.Contains(keep, w) {
			fs.Features = append(fs.Features, w)
		}
	}
	return nil
}

// parseJFS reads jfs_tune -l. A journal on another device is made inline.
func parseJFS(fs *wire.Filesystem, out string) (err error) {
	fs.BlockSize, err = number(fields(out, ":"), "Aggregate block size")
	return err
}

// parseReiser reads debugreiserfs. The format, 3.5 or 3.6, is mkfs's own: 3.6
// has all that 3.5 has.
func parseReiser(fs *wire.Filesystem, out string) (err error) {
	fs.BlockSize, err = number(fields(out, ":"), "Blocksize")
	return err
}

// shorten is the beginning of a text, for messages.
func shorten(s string) string { return s[:min(len(s), 80)] }

// fileOptions is what of a file system's mount options decides what is written
// to it: the rest is the clone's own fstab's.
func fileOptions(kind string, options []string) string {
	keep := map[string][]string{
		"btrfs":    {"compress", "compress-force", "nodatacow", "nodatasum"},
		"f2fs":     {"compress_algorithm", "compress_extension", "nocompress_extension", "compress_log_size", "compress_chksum", "compress_mode"},
		"reiserfs": {"acl", "user_xattr", "attrs"},
		"ext2":     {"acl", "user_xattr"},
		"ext3":     {"acl", "user_xattr"},
	}[kind]
	var out []string
	for _, o := range options {
		name, _, _ := strings.Cut(o, "=")
		if slices.Contains(keep, name) && !slices.Contains(out, o) && regexp.MustCompile(`^[a-z_-]+(=[0-9A-Za-z_.:*-]+)?$`).MatchString(o) {
			out = append(out, o)
		}
	}
	return strings.Join(out, ",")
}
