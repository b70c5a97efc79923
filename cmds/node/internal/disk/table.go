package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
)

// writeTable wipes the disk, writes the table and sees to it that the kernel
// has just these partitions.
func writeTable(ctx context.Context, d Device, f layout.Fitted) error {
	if err := wipe(d, f); err != nil {
		return err
	}
	if f.Table == layout.None {
		if err := reread(d, f); err != nil {
			return fmt.Errorf("reread table of %s: %w", d.Path, err)
		}
		return nil
	}
	// sfdisk isn't to tell the kernel: it fails where the kernel can't read
	// tables itself, and reread below does it either way.
	err := run(ctx, f.Script(), "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", d.Path)
	if err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	if err := reread(d, f); err != nil {
		return fmt.Errorf("reread table of %s: %w", d.Path, err)
	}
	return waitNodes(ctx, d, f)
}

func wipe(d Device, f layout.Fitted) error {
	file, err := openDisk(d.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := wipeAll(file, 0, d.Bytes); err != nil {
		return err
	}
	for _, p := range f.Parts {
		if err := wipeAll(file, p.Start*f.SectorSize, p.Count*f.SectorSize); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("wipe %s: %w", d.Path, err)
	}
	return file.Close()
}

// reread makes the kernel's partitions those of the table. The kernel reads
// the table itself where it has a parser for it; where it hasn't, or reads it
// in another way, it is told each partition.
func reread(d Device, f layout.Fitted) error {
	file, err := os.Open(d.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	for try := 0; ; try++ {
		_, err = unix.IoctlRetInt(int(file.Fd()), unix.BLKRRPART)
		if err != unix.EBUSY || try == 10 {
			break
		}
		time.Sleep(200 * time.Millisecond) // something probes the disk
	}
	// EINVAL: a device that isn't scanned for partitions, such as a loop.
	// EBUSY: something holds a partition; the others can be told all the same,
	// and if it is one that has to change, that fails below.
	if err != nil && err != unix.EINVAL && err != unix.EBUSY {
		return fmt.Errorf("BLKRRPART: %w", err)
	}
	have, err := known(d)
	if err != nil {
		return err
	}
	for _, h := range have {
		if h.agrees(f) {
			continue
		}
		if err := blkpg(file, unix.BLKPG_DEL_PARTITION, unix.BlkpgPartition{Pno: int32(h.number)}); err != nil {
			return fmt.Errorf("forget partition %d: %w", h.number, err)
		}
	}
	for _, p := range f.Parts {
		if slices.ContainsFunc(have, func(h kernelPart) bool { return h.number == p.Number && h.agrees(f) }) {
			continue
		}
		length := p.Count * f.SectorSize
		if p.Kind == layout.Extended {
			// The kernel shows just its first two sectors, enough
			// for a boot loader (block/partitions/msdos.c).
			length = max(1024, f.SectorSize)
		}
		part := unix.BlkpgPartition{Pno: int32(p.Number), Start: p.Start * f.SectorSize, Length: length}
		if err := blkpg(file, unix.BLKPG_ADD_PARTITION, part); err != nil {
			return fmt.Errorf("add partition %d: %w", p.Number, err)
		}
	}
	return nil
}

// blkpg is the ioctl of linux/blkpg.h.
func blkpg(f *os.File, op int32, part unix.BlkpgPartition) error {
	arg := unix.BlkpgIoctlArg{Op: op, Datalen: int32(unsafe.Sizeof(part)), Data: (*byte)(unsafe.Pointer(&part))}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKPG, uintptr(unsafe.Pointer(&arg)))
	if errno != 0 {
		return errno
	}
	return nil
}

// kernelPart is a partition as the kernel has it, in units of 512 bytes.
type kernelPart struct {
	number       int
	start, count int64
}

func known(d Device) ([]kernelPart, error) {
	files, err := filepath.Glob(filepath.Join("/sys/block", d.sysName(), "*", "partition"))
	if err != nil {
		return nil, err
	}
	var parts []kernelPart
	for _, f := range files {
		var p kernelPart
		dir := filepath.Dir(f)
		if p.number, err = strconv.Atoi(attr(dir, "partition")); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if p.start, err = strconv.ParseInt(attr(dir, "start"), 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		if p.count, err = strconv.ParseInt(attr(dir, "size"), 10, 64); err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// agrees says whether the table has just this partition.
func (h kernelPart) agrees(f layout.Fitted) bool {
	p, ok := find(f, h.number)
	unit := f.SectorSize / 512
	return ok && h.start == p.Start*unit && (p.Kind == layout.Extended || h.count == p.Count*unit)
}

// waitNodes waits until /dev has every partition.
func waitNodes(ctx context.Context, d Device, f layout.Fitted) error {
	for _, p := range f.Parts {
		if err := waitNode(ctx, d.Partition(p.Number)); err != nil {
			return err
		}
	}
	return nil
}
