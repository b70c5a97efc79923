package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// sameOther returns the UUID of the xfs or btrfs that is on dev, if it fills
// the device as mkfs would have it. Which features it has isn't compared: its
// files have been read with them.
func sameOther(ctx context.Context, fs wire.Filesystem, dev string, bytes int64) (string, error) {
	var out []byte
	var err error
	fields := []string{"dblocks", "blocksize", "inodesize"}
	if fs.Type == "xfs" {
		out, err = output(ctx, "xfs_db", "-r", "-c", "sb 0", "-c", "print dblocks", "-c", "print blocksize", "-c", "print inodesize", dev)
	} else {
		fields = []string{"total_bytes", "sectorsize", "num_devices"}
		out, err = output(ctx, "btrfs", "inspect-internal", "dump-super", dev)
	}
	if err != nil {
		return "", err
	}
	v, err := numbersOf(string(out), fields)
	if err != nil {
		return "", fmt.Errorf("%s: %w", fs.Type, err)
	}
	have, block, third := v[0], v[1], v[2]
	if fs.Type == "xfs" {
		if have > bytes/max(block, 1) {
			return "", fmt.Errorf("the file system has %d blocks of %d bytes, its partition %d bytes", have, block, bytes)
		}
		have *= block
	}
	switch {
	// mkfs.xfs may leave a last group out that is below its least size, 16 MiB.
	case have > bytes || have < bytes-17*mib:
		return "", fmt.Errorf("the file system has %s, its partition %s", amount(have, bytes), amount(bytes, have))
	case fs.BlockSize > 0 && block != int64(fs.BlockSize):
		return "", fmt.Errorf("it has blocks of %d bytes, want %d", block, fs.BlockSize)
	case fs.Type == "xfs" && fs.InodeSize > 0 && third != int64(fs.InodeSize):
		return "", fmt.Errorf("it has inodes of %d bytes, want %d", third, fs.InodeSize)
	case fs.Type == "btrfs" && third != 1:
		return "", fmt.Errorf("it is over %d devices", third)
	}
	id, err := tag(ctx, dev, "UUID")
	if err != nil {
		return "", err
	}
	if u, err := uuid.Parse(id); err != nil || u == uuid.Nil || u.String() == fs.OldUUID {
		return "", fmt.Errorf("it is golden's own, or has none: UUID %q", id)
	}
	return id, nil
}

// numbersOf finds lines such as "dblocks = 76800" and "total_bytes  314572800".
func numbersOf(text string, fields []string) ([]int64, error) {
	var all []int64
	for _, f := range fields {
		m := regexp.MustCompile(`(?m)^` + f + `\s+(?:=\s+)?(\d{1,18})$`).FindStringSubmatch(text)
		if m == nil {
			return nil, fmt.Errorf("no %s in %q", f, tail(text))
		}
		n, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		all = append(all, n)
	}
	return all, nil
}

// preenOther has the kernel replay the journal, and a program that writes
// nothing judge what there is then: an xfs or btrfs that isn't sound is better
// made anew than repaired.
func preenOther(ctx context.Context, fs wire.Filesystem, dev, at string) error {
	if err := os.MkdirAll(at, 0o700); err != nil {
		return err
	}
	options := ""
	if fs.Type == "btrfs" {
		options = "subvolid=5"
	}
	if err := unix.Mount(dev, at, fs.Type, 0, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", dev, at, err)
	}
	var err error
	if fs.Type == "btrfs" {
		err = sameSubvolumes(ctx, fs, at)
	}
	if err := errors.Join(err, unmountOne(at)); err != nil {
		return fmt.Errorf("%s: %w", dev, err)
	}
	if fs.Type == "xfs" {
		return run(ctx, "", "xfs_repair", "-n", dev)
	}
	return run(ctx, "", "btrfs", "check", "--readonly", dev)
}

// sameSubvolumes wants just the plan's subvolumes, and its default.
func sameSubvolumes(ctx context.Context, fs wire.Filesystem, at string) error {
	out, err := output(ctx, "btrfs", "subvolume", "list", at)
	if err != nil {
		return err
	}
	var have, want []string
	for line := range strings.Lines(string(out)) {
		if _, path, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " path "); ok {
			have = append(have, path)
		}
	}
	standard := "ID 5 (FS_TREE)"
	for _, v := range fs.Subvolumes {
		want = append(want, v.Path)
		if v.Default {
			standard = " path " + v.Path
		}
	}
	slices.Sort(have)
	slices.Sort(want)
	if !slices.Equal(have, want) {
		return fmt.Errorf("it has the subvolumes %q, want %q", have, want)
	}
	if out, err = output(ctx, "btrfs", "subvolume", "get-default", at); err != nil {
		return err
	}
	if !strings.HasSuffix(strings.TrimSpace(string(out)), strings.TrimSpace(standard)) {
		return fmt.Errorf("its default is %q, want %q", strings.TrimSpace(string(out)), standard)
	}
	return nil
}
