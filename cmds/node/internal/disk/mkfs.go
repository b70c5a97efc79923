package disk

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// room is the size of a partition.
type room struct{ bytes, sector int64 }

func roomOf(f layout.Fitted, p layout.FittedPart) room {
	return room{bytes: p.Count * f.SectorSize, sector: f.SectorSize}
}

// newUUID makes an identifier for a file system of that type: a UUID, or the
// 32 bits that FAT has in its place, as blkid prints them.
func newUUID(fstype string) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil || fstype != wire.VFAT {
		return id.String(), err
	}
	return fmt.Sprintf("%02X%02X-%02X%02X", id[0], id[1], id[2], id[3]|1), nil // 0 is none
}

// mkfs makes the file system or swap area on dev, a partition of that size,
// with the UUID given.
func mkfs(ctx context.Context, fs wire.Filesystem, dev, uuid string, size room) error {
	if err := run(ctx, "", maker(fs.Type), mkfsArgs(fs, dev, uuid, size)...); err != nil {
		return fmt.Errorf("make %s: %w", title(fs), err)
	}
	return nil
}

func mkfsArgs(fs wire.Filesystem, dev, uuid string, size room) []string {
	if fs.Type == wire.VFAT {
		return vfatArgs(fs, dev, uuid, size)
	}
	if fs.Type == "swap" {
		args := []string{"-f", "-U", uuid}
		if fs.Label != "" {
			args = append(args, "-L", fs.Label)
		}
		return append(args, dev)
	}
	// The inode tables are zeroed by the kernel in the background after the
	// mount; the journal is zeroed now, as an old one there could be taken
	// for this one's after a crash.
	args := []string{"-q", "-F", "-U", uuid, "-E", "lazy_itable_init=1,lazy_journal_init=0"}
	if fs.Label != "" {
		args = append(args, "-L", fs.Label)
	}
	if len(fs.Features) > 0 {
		args = append(args, "-O", "none,"+strings.Join(fs.Features, ","))
	}
	if fs.BlockSize > 0 {
		args = append(args, "-b", strconv.Itoa(fs.BlockSize))
	}
	if fs.InodeSize > 0 {
		args = append(args, "-I", strconv.Itoa(fs.InodeSize))
	}
	if g := guess(fs, size.bytes); g.explicit {
		args = append(args, "-N", strconv.FormatInt(g.inodes, 10))
	}
	return append(args, dev)
}

// maxFAT16 is how many clusters a FAT has at most that isn't a FAT32
// (Microsoft's FAT specification, "FAT type determination").
const maxFAT16 = 65524

// vfatArgs makes the EFI system partition a FAT32 wherever that can be one:
// UEFI wants it (UEFI specification, section 13.3), and a small one that
// mkfs.fat would make a FAT16 is not taken by every firmware.
func vfatArgs(fs wire.Filesystem, dev, uuid string, size room) []string {
	args := []string{"-i", strings.ReplaceAll(uuid, "-", "")}
	if fs.Label != "" {
		args = append(args, "-n", fs.Label)
	}
	// A sixteenth more than the clusters, for the FATs themselves.
	if sectors := size.bytes / size.sector; sectors > (maxFAT16+1)*17/16 {
		args = append(args, "-F", "32")
		if sectors < 8*maxFAT16 { // else mkfs.fat's own clusters leave enough of them
			args = append(args, "-s", "1")
		}
	}
	return append(args, dev)
}

// tryMkfs has mkfs go through the motions (-n) on a file of the partition's
// size that is only in memory, and empty: features that this mkfs doesn't know
// and sizes that it won't do show before a disk is touched. mkfs.fat has no
// such option, so that it makes one there, which is little.
func tryMkfs(ctx context.Context, fs wire.Filesystem, size room) error {
	fd, err := unix.MemfdCreate("mkfs", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("try mkfs: %w", err)
	}
	file := os.NewFile(uintptr(fd), "mkfs")
	defer file.Close()
	if err := file.Truncate(size.bytes); err != nil {
		return fmt.Errorf("try mkfs: %w", err)
	}
	// The program's path to our descriptor: it has its own numbers.
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	args := append([]string{"-n"}, mkfsArgs(fs, path, "random", size)...)
	if fs.Type == wire.VFAT {
		args = mkfsArgs(fs, path, "1", size)
	}
	if err := run(ctx, "", maker(fs.Type), args...); err != nil {
		return fmt.Errorf("file system %s can't be made here: %w", title(fs), err)
	}
	return nil
}
