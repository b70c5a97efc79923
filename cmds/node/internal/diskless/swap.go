package diskless

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unsafe"

	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
	"golang.org/x/sys/unix"
)

// Times for disks to turn up once their drivers are there.
const (
	quietDisks = 2 * time.Second
	lateDisks  = 30 * time.Second
)

// Swap uses the swap areas that are on this machine's disks already, and
// writes nothing else there. The drivers of the disks are those of the new
// root. It gives the devices that are used.
func (r *Root) Swap(ctx context.Context, say func(format string, args ...any)) ([]string, error) {
	release, err := drivers.Release()
	if err != nil {
		return nil, err
	}
	x, err := drivers.Open(r.NewRoot, release)
	switch {
	case errors.Is(err, os.ErrNotExist):
		say("ka.swap=local: what golden has sent has no modules of kernel %s: only disks with drivers in the kernel itself are seen", release)
	case err != nil:
		return nil, err
	default:
		cmdline, err := os.ReadFile("/proc/cmdline")
		if err != nil {
			return nil, fmt.Errorf("read the kernel command line: %w", err)
		}
		rep, err := drivers.NewLoader(x, string(cmdline)).Settle(ctx, quietDisks, lateDisks)
		if err != nil {
			return nil, err
		}
		for _, err := range rep.Failed {
			say("ka.swap=local: %v", err)
		}
	}
	return swapOn("/sys/class/block", "/dev", swapon, say)
}

// swapOn looks for swap areas on disks and their partitions.
func swapOn(sys, dev string, on func(path string) error, say func(format string, args ...any)) ([]string, error) {
	list, err := os.ReadDir(sys)
	if err != nil {
		return nil, fmt.Errorf("list the disks: %w", err)
	}
	var used []string
	for _, e := range list {
		// Without a device below it, a disk is made of memory, or of others: a
		// member of an array has no swap area of its own.
		base := filepath.Join(sys, e.Name())
		if !onDisk(base) || held(base) {
			continue
		}
		path := filepath.Join(dev, e.Name())
		yes, err := isSwap(path)
		if disk := diskOf(base); yes && disk != "" {
			err = ownDisk(filepath.Join(dev, disk))
		}
		if err != nil {
			say("ka.swap=local: %v", err) // a drive without a disc in it
			continue
		}
		if !yes {
			continue
		}
		if err := on(path); err != nil {
			say("ka.swap=local: %v", err)
			continue
		}
		used = append(used, path)
	}
	slices.Sort(used)
	return used, nil
}

// onDisk: a disk has a device; a partition is below its disk.
func onDisk(base string) bool {
	if _, err := os.Stat(filepath.Join(base, "device")); err == nil {
		return true
	}
	if _, err := os.Stat(filepath.Join(base, "partition")); err != nil {
		return false
	}
	_, err := os.Stat(filepath.Join(base, "..", "device"))
	if err == nil {
		return true
	}
	real, err := filepath.EvalSymlinks(base)
	if err != nil {
		return false
	}
	_, err = os.Stat(filepath.Join(filepath.Dir(real), "device"))
	return err == nil
}

// diskOf names the disk that a partition is on; empty: it is no partition.
func diskOf(base string) string {
	if _, err := os.Stat(filepath.Join(base, "partition")); err != nil {
		return ""
	}
	real, err := filepath.EvalSymlinks(base)
	if err != nil {
		return ""
	}
	return filepath.Base(filepath.Dir(real))
}

// ownDisk refuses a disk that is part of a RAID as a whole: its partitions are
// the RAID's.
func ownDisk(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("look for a RAID: %w", err)
	}
	defer f.Close()
	member, err := isMember(f)
	if member {
		return fmt.Errorf("look for a swap area: %s is a part of a RAID, with all that is on it", path)
	}
	return err
}

// held tells whether something is made of a device.
func held(base string) bool {
	list, err := os.ReadDir(filepath.Join(base, "holders"))
	return err == nil && len(list) > 0
}

// maxPage is the largest page of any processor (64 KiB): the magic of a swap
// area is at the end of its first page.
const maxPage = 64 << 10

// isSwap tells whether the device is a swap area for pages of this machine's
// size: include/linux/swap.h, union swap_header. One with a machine asleep in
// it ("S1SUSPEND") is none.
func isSwap(path string) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, fmt.Errorf("look for a swap area: %w", err)
	}
	defer f.Close()
	page := os.Getpagesize()
	if page > maxPage {
		return false, fmt.Errorf("look for a swap area: pages of %d bytes", page)
	}
	head := make([]byte, page)
	if _, err := f.ReadAt(head, 0); err != nil {
		return false, nil // too small for one, or no disc in the drive
	}
	if !isSwapHeader(head) {
		return false, nil
	}
	member, err := isMember(f)
	if err != nil {
		return false, err
	}
	if member {
		return false, fmt.Errorf("look for a swap area: %s is a part of a RAID", path)
	}
	return true, nil
}

// isMember tells whether a device is a part of an array of md(4), which isn't
// running here. Where its superblock is at the end, a mirror's swap area begins
// on the first page of each half, and to write to one alone would break it.
func isMember(f *os.File) (bool, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, fmt.Errorf("look for a RAID on %s: %w", f.Name(), err)
	}
	for _, at := range []int64{
		size&^(64<<10-1) - 64<<10,     // 0.90: linux/raid/md_p.h, MD_NEW_SIZE_SECTORS
		(size - 8<<10) &^ (4<<10 - 1), // 1.0, 1.1 and 1.2: drivers/md/md.c, super_1_load
		0,
		4 << 10,
	} {
		magic := make([]byte, 4)
		if at < 0 || at+int64(len(magic)) > size {
			continue
		}
		if _, err := f.ReadAt(magic, at); err != nil {
			return false, fmt.Errorf("look for a RAID on %s: %w", f.Name(), err)
		}
		// 0xa92b4efc (MD_SB_MAGIC); 0.90 is in the byte order of who made it.
		if bytes.Equal(magic, []byte{0xfc, 0x4e, 0x2b, 0xa9}) || bytes.Equal(magic, []byte{0xa9, 0x2b, 0x4e, 0xfc}) {
			return true, nil
		}
	}
	return false, nil
}

func isSwapHeader(page []byte) bool {
	const magic = "SWAPSPACE2"
	if len(page) < 1536 || !bytes.HasSuffix(page, []byte(magic)) {
		return false
	}
	// info.version, and info.last_page, which a hibernated image's has too:
	// the magic tells the two apart.
	version := page[1024:1028]
	return bytes.Equal(version, []byte{1, 0, 0, 0}) || bytes.Equal(version, []byte{0, 0, 0, 1})
}

// swapon is swapon(2): x/sys has no call of its own for it.
func swapon(path string) error {
	p, err := unix.BytePtrFromString(path)
	if err != nil {
		return err
	}
	const noFlags = 0
	if _, _, e := unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(p)), noFlags, 0); e != 0 {
		return fmt.Errorf("swapon %s: %w", strings.TrimSpace(path), e)
	}
	return nil
}
