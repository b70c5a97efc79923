package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/kamethod/kamethod/golden/internal/layoutfile"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// DescribeDisk is the layout of the disk dev, "sda" or "/dev/sda", or of a disk
// in a file: what golden-serve desc prints.
func DescribeDisk(dev string) (layout.Disk, error) {
	t, err := diskTable(context.Background(), diskPath(dev))
	if err != nil {
		return layout.Disk{}, err
	}
	return layout.FromTable(t)
}

// diskPath is the path of a disk: a device's name stands below /dev, if it is
// there, and a file of that name is meant where it isn't.
func diskPath(dev string) string {
	if filepath.IsAbs(dev) || strings.HasPrefix(dev, ".") {
		return dev
	}
	path := "/dev/" + dev
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if st, err := os.Stat(dev); err == nil && st.Mode().IsRegular() {
			return dev
		}
	}
	return path
}

func diskTable(ctx context.Context, path string) (layout.Fitted, error) {
	if _, err := os.Stat(path); err != nil {
		return layout.Fitted{}, fmt.Errorf("describe disk: %w", err)
	}
	t, err := readTable(ctx, path)
	if err == nil {
		_, err = layout.FromTable(t)
	}
	if err != nil {
		return layout.Fitted{}, fmt.Errorf("describe disk %s: %w", path, err)
	}
	return t, nil
}

// DescribeLayout is a disk with what is on its partitions, as a layout file
// has it. Nothing of it has to be mounted. What is made of partitions isn't
// looked into: Describe does that, on the running machine.
func DescribeLayout(ctx context.Context, dev string) (layoutfile.File, error) {
	path := diskPath(dev)
	t, err := diskTable(ctx, path)
	if whole, perr := probe(ctx, path); err != nil && perr == nil && holds(whole.kind) {
		t, err = layout.Fitted{Table: layout.None}, nil
	}
	if err != nil {
		return layoutfile.File{}, err
	}
	d := layout.Disk{Table: layout.None}
	if t.Table != layout.None {
		if d, err = layout.FromTable(t); err != nil {
			return layoutfile.File{}, err // diskTable saw it already
		}
	}
	f := layoutfile.File{Disks: []wire.DiskPlan{{Name: roleOf(path), Layout: d}}}
	f.Filesystems, err = found(ctx, path, t)
	return f, err
}

// holds says whether a layout file can name what blkid calls so.
func holds(kind string) bool { return kind == "swap" || known(kind) }

// found is the file systems on a disk.
func found(ctx context.Context, path string, t layout.Fitted) ([]wire.Filesystem, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	parts := t.Parts
	if t.Table == layout.None {
		parts = []layout.FittedPart{{}} // number 0: the disk
	}
	var all []wire.Filesystem
	seen := map[string]bool{} // mount points: a file has each once
	for _, p := range parts {
		if p.Kind == layout.Extended {
			continue
		}
		s, err := probeAt(ctx, path, p.Start*t.SectorSize, p.Count*t.SectorSize)
		if err != nil {
			return nil, err
		}
		if !holds(s.kind) {
			continue
		}
		fs := wire.Filesystem{Part: p.Number, Type: s.kind, Label: s.label}
		if at := mountedFrom(mounts, layout.PartitionName(path, p.Number)); s.kind != "swap" && !seen[at] {
			fs.MountPoint = at
			seen[at] = at != ""
		}
		all = append(all, fs)
	}
	return all, nil
}

// roleOf is what a disk is called in a layout: its name below /dev, and sda for
// one in a file.
func roleOf(path string) string {
	if name, ok := strings.CutPrefix(path, "/dev/"); ok {
		return name
	}
	return "sda"
}

// mountedFrom is where a device is mounted as a whole; empty if nowhere.
func mountedFrom(mounts []*mountinfo.Info, dev string) string {
	if real, err := filepath.EvalSymlinks(dev); err == nil {
		dev = real
	}
	for _, m := range mounts {
		if m.Root == "/" && m.Source == dev {
			return m.Mountpoint
		}
	}
	return ""
}

// probeAt looks at a stretch of a disk, so that its partitions need no devices
// of their own; no size is up to its end.
func probeAt(ctx context.Context, path string, offset, size int64) (signature, error) {
	out, err := output(ctx, "blkid", "--probe", "--output", "udev",
		"--offset", strconv.FormatInt(offset, 10), "--size", strconv.FormatInt(size, 10), path)
	if exitStatus(err) == 2 {
		return signature{}, nil // blkid(8): nothing found, or several things at once
	}
	if err != nil {
		return signature{}, fmt.Errorf("probe %s at %d: %w", path, offset, err)
	}
	return parseSignature(out), nil
}
