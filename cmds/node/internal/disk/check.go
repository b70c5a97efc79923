package disk

import (
	"context"
	"fmt"
	"maps"
	"math"
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
	_, err := fit(context.Background(), plan, chosen)
	return err
}

// fit is the layout of each disk, laid onto the device chosen for it, and what
// is made of it all.
func fit(ctx context.Context, plan wire.Plan, chosen []Device) (Assignment, error) {
	a := Assignment{Devices: chosen}
	if len(chosen) != len(plan.Disks) {
		return a, fmt.Errorf("check plan: %d devices for %d disks", len(chosen), len(plan.Disks))
	}
	order, err := checkStack(plan)
	if err != nil {
		return a, fmt.Errorf("check plan: %w", err)
	}
	a.order = order
	plan = raise(plan)
	a.stack = plan.Stack
	for i, p := range plan.Disks {
		f, err := p.Layout.Fit(chosen[i].Bytes, chosen[i].Sector)
		if err != nil {
			return a, fmt.Errorf("lay %s onto %s: %w", p.Name, chosen[i], err)
		}
		a.Fitted = append(a.Fitted, f)
	}
	if a.places, err = places(plan, a.Fitted, chosen); err != nil {
		return a, fmt.Errorf("check plan: %w", err)
	}
	for _, check := range []func() error{
		func() error { return checkFilesystems(plan, a.Fitted, a.places) },
		func() error { return checkBlocks(plan, a.places) },
		func() error { return checkBootCode(plan) },
	} {
		if err := check(); err != nil {
			return a, fmt.Errorf("check plan: %w", err)
		}
	}
	return a, checkPrograms(ctx, plan, a.places)
}

func checkFilesystems(plan wire.Plan, fitted []layout.Fitted, at map[string]room) error {
	disks, mounts := map[string]layout.Disk{}, map[string]bool{}
	for _, d := range plan.Disks {
		disks[d.Name] = d.Layout
	}
	used, err := plan.Stack.Uses(disks) // what the stack is made of
	if err != nil {
		return err
	}
	for _, fs := range plan.Filesystems {
		if err := checkPlace(plan, fs, fitted, at); err != nil {
			return fmt.Errorf("file system %s: %w", title(fs), err)
		}
		on := onName(plan, fs)
		if by := used[on]; by != "" {
			return fmt.Errorf("file system %s: %s has one already, or is part of one: %s", title(fs), place(plan, fs), by)
		}
		used[on] = "file system " + title(fs)
		if err := checkOne(fs, at[on].bytes); err != nil {
			return fmt.Errorf("file system %s: %w", title(fs), err)
		}
		for _, m := range mountPoints(fs) {
			if mounts[m.at] {
				return fmt.Errorf("file system %s: %s: mounted twice", title(fs), m.at)
			}
			mounts[m.at] = true
		}
	}
	if !mounts["/"] && (len(plan.Blocks) == 0 || len(plan.Filesystems) > 0) {
		return fmt.Errorf("no file system is mounted on /")
	}
	return nil
}

// checkPlace looks for what the file system is to be on.
func checkPlace(plan wire.Plan, fs wire.Filesystem, fitted []layout.Fitted, at map[string]room) error {
	if fs.On == "" && (fs.Disk < 0 || fs.Disk >= len(fitted)) {
		return fmt.Errorf("disk %d of %d", fs.Disk, len(fitted))
	}
	if _, ok := at[onName(plan, fs)]; ok {
		return nil
	}
	if fs.On != "" {
		return fmt.Errorf("nothing of the plan is called %s", fs.On)
	}
	return fmt.Errorf("no partition %d on %s to hold it", fs.Part, plan.Disks[fs.Disk].Name)
}

// place is how a message names what a file system is on.
func place(plan wire.Plan, fs wire.Filesystem) string {
	if fs.On != "" || fs.Part == 0 {
		return onName(plan, fs)
	}
	return fmt.Sprintf("partition %d of %s", fs.Part, plan.Disks[fs.Disk].Name)
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
	k, ok := kinds()[fs.Type]
	if !ok {
		return fmt.Errorf("type %q: want one of %s", fs.Type, strings.Join(slices.Sorted(maps.Keys(kinds())), ", "))
	}
	if err := k.checkLabel(fs.Label); err != nil {
		return err
	}
	if fs.Type == "swap" {
		if fs.MountPoint != "" {
			return fmt.Errorf("swap can't be mounted")
		}
		if bytes < 10*4096 { // mkswap(8): 10 pages
			return fmt.Errorf("partition of %d bytes: too small for swap", bytes)
		}
		return nil
	}
	if err := checkSubvolumes(fs); err != nil {
		return err
	}
	if len(fs.Subvolumes) == 0 || fs.MountPoint != "" {
		if err := checkMountPoint(fs.MountPoint); err != nil {
			return err
		}
	}
	for _, f := range fs.Features {
		if !k.feature.MatchString(f) {
			return fmt.Errorf("feature %q", f)
		}
	}
	if !powerWithin(fs.BlockSize, 512, 65536) || !powerWithin(fs.InodeSize, 128, 4096) {
		return fmt.Errorf("block size %d, inode size %d: want powers of 2", fs.BlockSize, fs.InodeSize)
	}
	if math.IsNaN(fs.Reserved) || fs.Reserved > 50 { // mke2fs(8), -m
		return fmt.Errorf("%v per cent reserved: want at most 50", fs.Reserved)
	}
	return checkRoom(fs, bytes)
}

func checkMountPoint(at string) error {
	if at == "" || at[0] != '/' || path.Clean(at) != at || strings.ContainsRune(at, 0) {
		return fmt.Errorf("mount point %q: want a clean absolute path", at)
	}
	return nil
}

// powerWithin takes 0, mkfs's default, too.
func powerWithin(n, least, most int) bool {
	return n == 0 || n&(n-1) == 0 && n >= least && n <= most
}

// checkPrograms looks for the programs that the plan will need, and tries the
// file systems, before the disk is touched rather than half-way.
func checkPrograms(ctx context.Context, plan wire.Plan, at map[string]room) error {
	need := []string{"sfdisk", "blkid"}
	if len(plan.Stack.Arrays) > 0 {
		need = append(need, "mdadm")
	}
	if len(plan.Stack.Crypts) > 0 {
		need = append(need, "cryptsetup", "dmsetup")
	}
	if len(plan.Stack.Groups) > 0 {
		need = append(need, "lvm", "dmsetup")
	}
	for _, fs := range plan.Filesystems {
		need = append(need, kinds()[fs.Type].programs...)
		if len(fs.Subvolumes) > 0 {
			need = append(need, "btrfs")
		}
	}
	for _, p := range need {
		if _, err := exec.LookPath(p); err != nil {
			return fmt.Errorf("check programs: stage 2's image lacks one that the plan needs: %w", err)
		}
	}
	for _, fs := range plan.Filesystems {
		if err := tryMkfs(ctx, fs, at[onName(plan, fs)]); err != nil {
			return err
		}
	}
	return nil
}
