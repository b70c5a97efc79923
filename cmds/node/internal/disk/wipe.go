package disk

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

const mib = 1 << 20

// oddPlaces is where else things are known by: the second headers of LUKS2 at
// up to 4 MiB (libblkid's luks.c), and a btrfs's further superblocks (btrfs(5),
// disk-io.h).
func oddPlaces() []int64 { return []int64{mib, 2 * mib, 4 * mib, 64 * mib, 256 << 30} }

// wipeAll zeroes the first and the last MiB of n bytes from at on, where
// partition tables, RAID, LVM, LUKS and file systems keep what they are known
// by (jfs at 32 KiB, reiserfs at 64 KiB, md 0.90 at 64 KiB from the end and 1.0
// at 8, ZFS within 768 KiB of either end, a GPT in the last 33 sectors), and the
// odd places.
func wipeAll(f *os.File, at, n int64) error {
	type stretch struct{ from, count int64 }
	all := []stretch{{0, min(n, mib)}, {max(n-mib, 0), min(n, mib)}}
	for _, odd := range oddPlaces() {
		if odd < n {
			all = append(all, stretch{odd, min(n-odd, 8<<10)})
		}
	}
	zero := make([]byte, mib)
	for _, s := range all {
		if _, err := f.WriteAt(zero[:s.count], at+s.from); err != nil {
			return fmt.Errorf("wipe %s at %d: %w", f.Name(), at+s.from, err)
		}
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
