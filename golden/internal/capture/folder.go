package capture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// fromFolder finds out from the fstab of a system in a folder which file
// systems it has. Where it lies now says nothing about its disks.
func (d *describer) fromFolder(ctx context.Context) ([]want, error) {
	name := filepath.Join(d.opt.Root, "etc/fstab")
	entries, err := readFstab(d.opt.Root)
	if err != nil {
		return nil, err
	}
	var wants []want
	for _, e := range entries {
		w, err := d.fromEntry(ctx, e, fmt.Sprintf("%s:%d", name, e.line))
		if err != nil {
			return nil, err
		}
		if w == nil {
			continue
		}
		for _, other := range wants {
			if w.MountPoint != "" && w.MountPoint == other.MountPoint {
				return nil, fmt.Errorf("%s: %s: %s mounts something there already", w.source, w.MountPoint, other.source)
			}
		}
		wants = append(wants, *w)
	}
	if wants, err = d.joinSubvolumes(d.takeLeft(wants)); err != nil {
		return nil, err
	}
	wants = d.complete(d.renameOnlyDisk(wants, "the fstab"), name)
	return d.takeLayout(wants), nil
}

// readFstab reads the fstab of the system under root; none is none.
func readFstab(root string) ([]entry, error) {
	// Not by its own path: it may be a link, which is to be followed
	// inside the folder only.
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, fmt.Errorf("read fstab: %w", err)
	}
	defer r.Close()
	f, err := r.Open("etc/fstab")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read fstab: %w", err)
	}
	defer f.Close()
	return parseFstab(f, filepath.Join(root, "etc/fstab"))
}

// fromEntry is what an fstab entry wants; nil if nothing of a clone's.
func (d *describer) fromEntry(ctx context.Context, e entry, source string) (*want, error) {
	if why := e.why(); why != "" {
		if !noDisk(e.kind) {
			d.note("%s: %s on %s left out: %s", source, e.spec, e.file, why)
		}
		return nil, nil
	}
	if d.asBlocks(d.stackName(e.spec)) {
		d.note("%s: %s comes as blocks, not as files (-D)", source, e.spec)
		return nil, d.leave(e, source)
	}
	w := want{source: source}
	w.Type = e.kind
	if e.kind != "swap" {
		w.MountPoint = filepath.Clean(e.file)
		if d.excluded(w.MountPoint) {
			d.note("%s: %s left out: excluded", source, w.MountPoint)
			return nil, nil
		}
		if !known(e.kind) || e.kind == wire.VFAT && !efiPlace(w.MountPoint) {
			return nil, fmt.Errorf("%s: %s is %s: only %s can be cloned as files: exclude it with -x %s, copy it as blocks with -D %s, or change it", source, w.MountPoint, e.kind, knownWords, w.MountPoint, e.spec)
		}
		w.Options = fileOptions(e.kind, e.options)
	}
	if e.kind == "btrfs" {
		sub, named, err := subvolOf(e.options)
		if err != nil {
			return nil, fmt.Errorf("%s: %s: %w", source, w.MountPoint, err)
		}
		w.subvol, w.bare = sub, !named
	}
	if err := d.locate(ctx, &w, e.spec); err != nil {
		return nil, fmt.Errorf("%s: %w", source, err)
	}
	if slices.Contains(d.skip, w.disk) {
		d.note("%s: %s left out: its disk %s is (-X)", source, w, w.disk)
		return nil, d.leave(e, source)
	}
	return &w, nil
}

// leave leaves out of the scan what an entry mounts: in the folder its files
// look like those of the file system around.
func (d *describer) leave(e entry, source string) error {
	at := filepath.Clean(e.file)
	switch {
	case e.kind == "swap":
		return nil
	case at == "/":
		return fmt.Errorf("%s: / can't be left out (-D, -X): its files are what is cloned", source)
	}
	d.left = append(d.left, at)
	return nil
}

// locate sets what the device field of an entry says about the place: its
// partition where it can be known, and the name that the clone will replace.
func (d *describer) locate(ctx context.Context, w *want, spec string) error {
	tag, value, tagged := strings.Cut(spec, "=")
	for link, t := range map[string]string{"/dev/disk/by-uuid/": "UUID", "/dev/disk/by-label/": "LABEL", "/dev/disk/by-partuuid/": "PARTUUID"} {
		if rest, ok := strings.CutPrefix(spec, link); ok {
			tag, value, tagged, w.OldDevice = t, rest, true, spec
		}
	}
	if !tagged {
		w.OldDevice = spec
		name := d.stackName(spec)
		if !isStacked(name) {
			w.disk, w.number = layout.SplitPartition(name)
			return nil
		}
		if !d.hasPlace(name) && !d.mounted(w.MountPoint) {
			return fmt.Errorf("%s: no array, container or volume of the layout is called %s: a folder has none to look at: give a layout file that has it, -p LAYOUT.yaml, or its mount point in that", spec, name)
		}
		w.On = name
		return nil
	}
	switch tag {
	case "UUID":
		w.OldUUID = value
	case "LABEL":
		w.Label = value
	case "PARTUUID":
		w.OldPartID = value
	}
	dev := find(ctx, tag, value)
	if dev == "" {
		return nil
	}
	if disk, n := sysPartition(dev); d.diskIndex(disk) >= 0 {
		w.disk, w.number = disk, n
	}
	return nil
}

// renameOnlyDisk lets a system whose disk is vda be described by a desc for
// sda, where there is just one of each: only the numbers count then.
func (d *describer) renameOnlyDisk(wants []want, who string) []want {
	var foreign []string
	for _, w := range wants {
		if w.disk != "" && !slices.Contains(foreign, w.disk) {
			foreign = append(foreign, w.disk)
		}
	}
	if len(d.disks) != 1 || len(foreign) != 1 || foreign[0] == d.disks[0].Name {
		return wants
	}
	d.note("%s calls the disk %s, the desc is for %s: taken for the same", who, foreign[0], d.disks[0].Name)
	for i := range wants {
		if wants[i].disk != "" {
			wants[i].disk = d.disks[0].Name
		}
	}
	return wants
}

// complete adds what an fstab doesn't say: a root, and swap where the desc has
// a partition for it.
func (d *describer) complete(wants []want, source string) []want {
	if !slices.ContainsFunc(wants, func(w want) bool { return w.MountPoint == "/" }) {
		root := want{source: source + ": (no entry)"}
		root.Type, root.MountPoint = "ext4", "/"
		d.note("%s has no entry for /: the first linux partition becomes it, as ext4", source)
		wants = append([]want{root}, wants...)
	}
	return wants
}
