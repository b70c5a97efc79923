package capture

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/layout"
)

// output runs a program that only looks, and returns what it prints.
func output(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return out.String(), nil
}

// readTable is the partition table that is on a disk.
func readTable(ctx context.Context, dev string) (layout.Fitted, error) {
	out, err := output(ctx, "sfdisk", "--json", dev)
	if err != nil {
		return layout.Fitted{}, fmt.Errorf("read partition table: %w", err)
	}
	return layout.ParseTable([]byte(out), dev)
}

// signature is what blkid finds on a device.
type signature struct{ kind, uuid, label, partID string }

// probe reads the device itself, not a cache.
func probe(ctx context.Context, dev string) (signature, error) {
	out, err := output(ctx, "blkid", "--probe", "--output", "udev", dev)
	if err != nil {
		if exit := exitStatus(err); exit == 2 {
			return signature{}, nil // blkid(8): nothing found
		}
		return signature{}, fmt.Errorf("probe %s: %w", dev, err)
	}
	return parseSignature(out), nil
}

func parseSignature(out string) (s signature) {
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "ID_FS_TYPE":
			s.kind = value
		case "ID_FS_UUID_ENC":
			s.uuid = unhex(value)
		case "ID_FS_LABEL_ENC":
			s.label = unhex(value)
		case "ID_PART_ENTRY_UUID":
			s.partID = value
		}
	}
	return s
}

// unhex undoes blkid's \x20 for what udev allows in no name.
func unhex(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) && s[i+1] == 'x' {
			if n, err := strconv.ParseUint(s[i+2:i+4], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// find is the device with a tag, UUID=... or its like; empty if there is none.
func find(ctx context.Context, tag, value string) string {
	out, err := output(ctx, "blkid", "--cache-file", "/dev/null", "--output", "device", "--match-token", tag+"="+value)
	if err != nil {
		return ""
	}
	dev, _, _ := strings.Cut(out, "\n")
	return dev
}

// sysPartition is the disk and the number of a partition, by what sysfs says.
func sysPartition(dev string) (string, int) {
	real, err := filepath.EvalSymlinks(dev)
	if err != nil {
		return "", 0
	}
	return sysDir("/sys/class/block/" + filepath.Base(real))
}

// sysDir takes a block device's folder in sysfs; no number means it is no
// partition.
func sysDir(path string) (string, int) {
	dir, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", 0
	}
	text, err := os.ReadFile(filepath.Join(dir, "partition"))
	if err != nil {
		return strings.ReplaceAll(filepath.Base(dir), "!", "/"), 0
	}
	n, _ := strconv.Atoi(strings.TrimSpace(string(text)))
	return strings.ReplaceAll(filepath.Base(filepath.Dir(dir)), "!", "/"), n
}

// keepFeatures leaves out what mkfs can't be told: the states that a file
// system gets in use, and what needs a number besides (bigalloc, mmp) or
// belongs to one file system alone (encrypt, casefold, stable_inodes).
func keepFeatures(have []string) []string {
	known := []string{
		"has_journal", "ext_attr", "resize_inode", "dir_index", "sparse_super2", "orphan_file", "fast_commit",
		"filetype", "meta_bg", "extent", "64bit", "flex_bg", "ea_inode", "metadata_csum_seed", "large_dir", "inline_data",
		"sparse_super", "large_file", "huge_file", "uninit_bg", "dir_nlink", "extra_isize", "quota", "metadata_csum", "project", "verity",
	}
	return slices.DeleteFunc(slices.Clone(have), func(f string) bool { return !slices.Contains(known, f) })
}
