package disk

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/google/uuid"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// keep leaves the disks as they are when an earlier clone has made them just
// what the plan wants: it checks the file systems, makes the swap areas anew,
// and mounts. An error says what is different, and that everything is to be
// made anew; no file system has lost anything by then.
//
//	tables ─▶ file systems' superblocks ─▶ e2fsck -p ─▶ mkswap, mkfs.vfat ─▶ mount
func keep(ctx context.Context, plan wire.Plan, a Assignment, root string, opt Options) (wire.DiskResult, error) {
	res := wire.DiskResult{Kept: true}
	if len(a.order) > 0 {
		return res, fmt.Errorf("%s is always made anew", a.order[0])
	}
	fitted := make([]layout.Fitted, len(a.Devices))
	for i, d := range a.Devices {
		var err error
		if a.Fitted[i].Table == layout.None {
			return res, fmt.Errorf("%s: a disk that is used as a whole is always made anew", d.Path)
		}
		if fitted[i], err = sameTable(ctx, d, a.Fitted[i]); err != nil {
			return res, fmt.Errorf("%s: %w", d.Path, err)
		}
		res.Disks = append(res.Disks, d.Path)
	}
	for _, fs := range plan.Filesystems {
		dev, err := deviceOf(plan, a.Devices, nil, onName(plan, fs))
		if err != nil {
			return res, err
		}
		r := wire.FilesystemResult{Device: dev, PartID: partIDOf(plan, fs, fitted)}
		if r.PartID == fs.OldPartID && r.PartID != "" {
			return res, fmt.Errorf("%s: it is golden's own: PARTUUID %s", r.Device, r.PartID)
		}
		if r.UUID, err = sameFilesystem(ctx, fs, r.Device, a.places[onName(plan, fs)].bytes); err != nil {
			return res, fmt.Errorf("%s: %w", r.Device, err)
		}
		res.Filesystems = append(res.Filesystems, r)
	}
	var err error
	if res.Blocks, err = placeBlocks(plan, a.Devices, res.Stack); err != nil {
		return res, err
	}
	return res, reuse(ctx, plan, a, res, root, opt)
}

// reuse makes the file systems that are there ready.
func reuse(ctx context.Context, plan wire.Plan, a Assignment, res wire.DiskResult, root string, opt Options) error {
	for i, fs := range plan.Filesystems {
		if anew(fs) {
			continue
		}
		opt.step("checking %s", describeFS(fs, res.Filesystems[i].Device))
		if err := preen(ctx, fs, res.Filesystems[i].Device, filepath.Join(filepath.Dir(root), ".checked")); err != nil {
			return err
		}
	}
	for i, fs := range plan.Filesystems {
		if !anew(fs) {
			continue
		}
		r := res.Filesystems[i]
		if err := mkfs(ctx, fs, r.Device, r.UUID, a.places[onName(plan, fs)]); err != nil {
			return err
		}
	}
	err := mountAll(plan, res.Filesystems, root)
	if err == nil && opt.Seal != "" {
		err = Seal(plan, res, opt.Seal)
	}
	if err == nil { // all that could be different has been looked at
		err = stopBooting(plan, res.Disks)
	}
	if err != nil {
		return errors.Join(err, Unmount(root))
	}
	return nil
}

// anew is what is made again under its UUID all the same. Swap: the memory of
// a machine that was suspended to it must not come back over files that have
// changed. An EFI system partition: it is small, holds no file that golden
// hasn't, and what a power cut did to a FAT nobody knows.
func anew(fs wire.Filesystem) bool { return fs.Type == "swap" || fs.Type == wire.VFAT }

// preen replays the journal and repairs what can be repaired without a
// question. e2fsck(8): 0 nothing was wrong, 1 it was, and is repaired.
func preen(ctx context.Context, fs wire.Filesystem, dev, at string) error {
	if fs.Type == "xfs" || fs.Type == "btrfs" {
		return preenOther(ctx, fs, dev, at)
	}
	err := run(ctx, "", "e2fsck", "-p", dev)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil
	}
	return err
}

// sameFilesystem returns the UUID of what is on dev, a partition of so many
// bytes, if it is what the plan's mkfs would make there.
func sameFilesystem(ctx context.Context, fs wire.Filesystem, dev string, bytes int64) (string, error) {
	found, err := tag(ctx, dev, "TYPE")
	if err != nil {
		return "", err
	}
	switch fs.Type {
	case "swap":
		return swapUUID(ctx, fs, dev, found)
	case wire.VFAT:
		return vfatUUID(ctx, fs, dev, found)
	}
	if slices.Contains([]string{"jfs", "reiserfs", "f2fs"}, fs.Type) {
		return "", fmt.Errorf("%s is always made anew", fs.Type)
	}
	if found != fs.Type {
		return "", fmt.Errorf("it holds %s, want %s", orNothing(found), fs.Type)
	}
	label, err := tag(ctx, dev, "LABEL")
	if err != nil {
		return "", err
	}
	if label != fs.Label {
		return "", fmt.Errorf("its label is %q, want %q", label, fs.Label)
	}
	if fs.Type == "xfs" || fs.Type == "btrfs" {
		return sameOther(ctx, fs, dev, bytes)
	}
	s, err := readSuper(ctx, dev)
	if err != nil {
		return "", err
	}
	if s.uuid == fs.OldUUID {
		return "", fmt.Errorf("it is golden's own: UUID %s", s.uuid)
	}
	return s.uuid, s.same(fs, bytes)
}

// swapUUID is that of the swap area that is there, or a new one: an area is
// made anew in any case.
func swapUUID(ctx context.Context, fs wire.Filesystem, dev, found string) (string, error) {
	if found == "swap" {
		id, err := tag(ctx, dev, "UUID")
		if err != nil {
			return "", err
		}
		if u, err := uuid.Parse(id); err == nil && u != uuid.Nil && u.String() != fs.OldUUID {
			return u.String(), nil
		}
	}
	if found != "" && found != "swap" && found != "swsuspend" {
		return "", fmt.Errorf("it holds %s, want swap", found)
	}
	u, err := uuid.NewRandom()
	return u.String(), err
}

// vfatUUID is that of the EFI system partition that is there.
func vfatUUID(ctx context.Context, fs wire.Filesystem, dev, found string) (string, error) {
	if found != wire.VFAT {
		return "", fmt.Errorf("it holds %s, want %s", orNothing(found), fs.Type)
	}
	id, err := tag(ctx, dev, "UUID")
	if err != nil {
		return "", err
	}
	if !regexp.MustCompile(`^[0-9A-F]{4}-[0-9A-F]{4}$`).MatchString(id) || id == fs.OldUUID {
		return newUUID(fs.Type)
	}
	return id, nil
}

func orNothing(s string) string {
	if s == "" {
		return "nothing that is known"
	}
	return s
}
