package disk

import (
	"context"
	"fmt"
	"os/exec"
	"path"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// Check refuses a plan that these devices can't carry out: a layout larger
// than its disk, files larger than their file system, a file system that can't
// be made here. It writes nothing.
func Check(plan wire.Plan, chosen []Device) error {
	_, err := fit(plan, chosen)
	return err
}

// fit is the layout of each disk, laid onto the device chosen for it.
func fit(plan wire.Plan, chosen []Device) ([]layout.Fitted, error) {
	if len(chosen) != len(plan.Disks) {
		return nil, fmt.Errorf("check plan: %d devices for %d disks", len(chosen), len(plan.Disks))
	}
	var all []layout.Fitted
	for i, p := range plan.Disks {
		f, err := p.Layout.Fit(chosen[i].Bytes, chosen[i].Sector)
		if err != nil {
			return nil, fmt.Errorf("lay %s onto %s: %w", p.Name, chosen[i], err)
		}
		all = append(all, f)
	}
	for _, check := range []func() error{
		func() error { return checkFilesystems(plan, all) },
		func() error { return checkBlocks(plan, all) },
		func() error { return checkBootCode(plan) },
	} {
		if err := check(); err != nil {
			return nil, fmt.Errorf("check plan: %w", err)
		}
	}
	return all, checkPrograms(plan, all)
}

func checkFilesystems(plan wire.Plan, fitted []layout.Fitted) error {
	type place struct{ disk, part int }
	places, mounts := map[place]bool{}, map[string]bool{}
	for _, fs := range plan.Filesystems {
		if fs.Disk < 0 || fs.Disk >= len(fitted) {
			return fmt.Errorf("file system %s: disk %d of %d", title(fs), fs.Disk, len(fitted))
		}
		part, ok := find(fitted[fs.Disk], fs.Part)
		if !ok || part.Kind == layout.Extended {
			return fmt.Errorf("file system %s: no partition %d on %s to hold it", title(fs), fs.Part, plan.Disks[fs.Disk].Name)
		}
		if at := (place{fs.Disk, fs.Part}); places[at] {
			return fmt.Errorf("file system %s: partition %d of %s has one already", title(fs), fs.Part, plan.Disks[fs.Disk].Name)
		}
		places[place{fs.Disk, fs.Part}] = true
		if err := checkOne(fs, part.Count*fitted[fs.Disk].SectorSize); err != nil {
			return fmt.Errorf("file system %s: %w", title(fs), err)
		}
		if fs.MountPoint != "" && mounts[fs.MountPoint] {
			return fmt.Errorf("file system %s: mounted twice", title(fs))
		}
		mounts[fs.MountPoint] = true
	}
	if !mounts["/"] && (len(plan.Blocks) == 0 || len(plan.Filesystems) > 0) {
		return fmt.Errorf("no file system is mounted on /")
	}
	return nil
}

func find(f layout.Fitted, number int) (layout.FittedPart, bool) {
	i := slices.IndexFunc(f.Parts, func(p layout.FittedPart) bool { return p.Number == number })
	if i < 0 {
		return layout.FittedPart{}, false
	}
	return f.Parts[i], true
}

// title is how a message names a file system.
func title(fs wire.Filesystem) string {
	if fs.MountPoint != "" {
		return fs.MountPoint
	}
	return fs.Type
}

// checkOne checks the words that will become arguments of programs, and
// whether the files fit.
func checkOne(fs wire.Filesystem, bytes int64) error {
	if fs.Type == "swap" {
		if fs.MountPoint != "" {
			return fmt.Errorf("swap can't be mounted")
		}
		return checkLabel(fs.Label)
	}
	if !slices.Contains([]string{"ext2", "ext3", "ext4", wire.VFAT}, fs.Type) {
		return fmt.Errorf("type %q: want ext2, ext3, ext4, vfat or swap", fs.Type)
	}
	if fs.MountPoint == "" || fs.MountPoint[0] != '/' || path.Clean(fs.MountPoint) != fs.MountPoint || strings.ContainsRune(fs.MountPoint, 0) {
		return fmt.Errorf("mount point %q: want a clean absolute path", fs.MountPoint)
	}
	if fs.Type == wire.VFAT {
		return checkVFAT(fs, bytes)
	}
	for _, f := range fs.Features {
		if f == "" || strings.Trim(f, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("feature %q", f)
		}
	}
	if !powerWithin(fs.BlockSize, 1024, 65536) || !powerWithin(fs.InodeSize, 128, 4096) {
		return fmt.Errorf("block size %d, inode size %d: want powers of 2", fs.BlockSize, fs.InodeSize)
	}
	if err := checkLabel(fs.Label); err != nil {
		return err
	}
	return checkRoom(fs, bytes)
}

// checkVFAT takes what an EFI system partition can be. A label has 11 bytes,
// no small letters and little else (Microsoft's FAT specification).
func checkVFAT(fs wire.Filesystem, bytes int64) error {
	if len(fs.Label) > 11 || strings.Trim(fs.Label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_ ") != "" {
		return fmt.Errorf("label %q: want at most 11 capital letters and digits", fs.Label)
	}
	if fs.NeedBytes < 0 || fs.NeedInodes < 0 || fs.NeedInodes > bytes>>9 {
		return fmt.Errorf("needs %d bytes, %d files: impossible", fs.NeedBytes, fs.NeedInodes)
	}
	// Two tables of 4 bytes for each cluster of 512 are a 64th; a cluster is
	// lost to each file's end, and 4 KiB are common.
	free := bytes - bytes/64 - 64<<10 - fs.NeedInodes*4096
	if fs.NeedBytes > free {
		return fmt.Errorf("the files take %d bytes, a partition of %d MB has room for %d", fs.NeedBytes, bytes>>20, max(free, 0))
	}
	return nil
}

// checkLabel takes what ext and swap can hold: 16 bytes
// (ext2_fs.h s_volume_name, swap header volume_name).
func checkLabel(label string) error {
	if len(label) > 16 || strings.ContainsAny(label, "\x00\n") {
		return fmt.Errorf("label %q: want at most 16 bytes", label)
	}
	return nil
}

// powerWithin takes 0, mkfs's default, too.
func powerWithin(n, least, most int) bool {
	return n == 0 || n&(n-1) == 0 && n >= least && n <= most
}

// checkPrograms looks for the programs that the plan will need, and tries the
// file systems, before the disk is touched rather than half-way.
func checkPrograms(plan wire.Plan, fitted []layout.Fitted) error {
	need := []string{"sfdisk"}
	for _, fs := range plan.Filesystems {
		need = append(need, maker(fs.Type))
	}
	for _, p := range need {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("check programs: %w", err)
		}
	}
	for _, fs := range plan.Filesystems {
		if fs.Type == "swap" {
			continue
		}
		f := fitted[fs.Disk]
		part, _ := find(f, fs.Part) // checkFilesystems saw it
		if err := tryMkfs(context.Background(), fs, roomOf(f, part)); err != nil {
			return err
		}
	}
	return nil
}

func maker(fstype string) string {
	if fstype == "swap" {
		return "mkswap"
	}
	return "mkfs." + fstype
}
