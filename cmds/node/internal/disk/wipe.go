package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// wipeEnds zeroes the first and the last MiB of n bytes from at on: where
// partition tables, RAID, LVM, LUKS and file systems keep what they are known
// by (md 0.90 at 64 KiB from the end, ZFS within 512 KiB of either end, a GPT
// in the last 33 sectors).
func wipeEnds(f *os.File, at, n int64) error {
	zero := make([]byte, mib)
	head := min(n, mib)
	if _, err := f.WriteAt(zero[:head], at); err != nil {
		return fmt.Errorf("wipe %s at %d: %w", f.Name(), at, err)
	}
	tail := max(n-mib, 0)
	if _, err := f.WriteAt(zero[:n-tail], at+tail); err != nil {
		return fmt.Errorf("wipe %s at %d: %w", f.Name(), at+tail, err)
	}
	return nil
}

// openDisk opens a disk for itself alone: the kernel refuses while the disk or
// a partition of it is mounted or part of something, in any mount namespace.
func openDisk(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("take disk: %w", err)
	}
	return f, nil
}
