package disk

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// mkfs makes the file system or swap area on dev, a partition of so many
// bytes, with the UUID given.
func mkfs(ctx context.Context, fs wire.Filesystem, dev, uuid string, bytes int64) error {
	if err := run(ctx, "", maker(fs.Type), mkfsArgs(fs, dev, uuid, bytes)...); err != nil {
		return fmt.Errorf("make %s: %w", title(fs), err)
	}
	return nil
}

func mkfsArgs(fs wire.Filesystem, dev, uuid string, bytes int64) []string {
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
	if g := guess(fs, bytes); g.explicit {
		args = append(args, "-N", strconv.FormatInt(g.inodes, 10))
	}
	return append(args, dev)
}

// tryMkfs has mkfs go through the motions (-n) on a file of the partition's
// size that is only in memory, and empty: features that this mkfs doesn't know
// and sizes that it won't do show before a disk is touched.
func tryMkfs(ctx context.Context, fs wire.Filesystem, bytes int64) error {
	fd, err := unix.MemfdCreate("mkfs", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("try mkfs: %w", err)
	}
	file := os.NewFile(uintptr(fd), "mkfs")
	defer file.Close()
	if err := file.Truncate(bytes); err != nil {
		return fmt.Errorf("try mkfs: %w", err)
	}
	// The program's path to our descriptor: it has its own numbers.
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd)
	args := append([]string{"-n"}, mkfsArgs(fs, path, "random", bytes)...)
	if err := run(ctx, "", maker(fs.Type), args...); err != nil {
		return fmt.Errorf("file system %s can't be made here: %w", title(fs), err)
	}
	return nil
}
