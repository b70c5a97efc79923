package disk

import (
	"fmt"
	"math"

	"github.com/kamethod/kamethod/golden/wire"
)

// capacity is how many bytes of files a file system of that type has room for
// on a device of so many, with as many files as golden has. It is never more
// than the programs make, and a little less: the figures beside each were
// measured with Debian 12's (TestCapacity holds them against the real ones).
func capacity(fs wire.Filesystem, bytes int64) int64 {
	n := fs.NeedInodes
	switch fs.Type {
	case "xfs":
		if bytes < 300<<20 { // mkfs.xfs(8) since 5.19
			return -1
		}
		log := min(max(bytes/2048, 64<<20), 2<<30)
		// The trees' reservations are 0.8 per cent, and 32 MiB are for root.
		return bytes - log - bytes/128 - 32<<20 - n*max(int64(fs.InodeSize), 512)*17/16
	case "btrfs":
		return btrfsCapacity(fs, bytes)
	case "f2fs":
		if bytes < 64<<20 {
			return -1
		}
		// What it keeps free for its cleaner grows as the square root does;
		// each file has a node of a block, and its blocks one of a thousand.
		spare := int64(6 * math.Sqrt(float64(bytes>>20)) * (1 << 20))
		return bytes - spare - n*4096 - fs.NeedBytes/512
	case "jfs":
		if bytes < 16<<20 { // mkfs.jfs(8)
			return -1
		}
		log := min(bytes/250, 128<<20) // 0.4 per cent
		return bytes - log - bytes/2048 - 2<<20 - n*600
	case "reiserfs":
		if bytes < 40<<20 {
			return -1
		}
		// A journal of 8193 blocks, bitmaps, and the tree: about half a
		// KiB a file, where nodes are half full.
		return bytes - 34<<20 - bytes/32768 - n*512 - fs.NeedBytes/500
	case wire.VFAT:
		// Two tables of 4 bytes for each cluster of 512 are a 64th; a cluster
		// is lost to each file's end, and 4 KiB are common.
		return bytes - bytes/64 - 64<<10 - n*4096
	}
	g := guess(fs, bytes)
	if g.blocks < 64 {
		return -1
	}
	return g.usable()
}

// btrfsCapacity counts what is kept for metadata, twice (-m dup), in chunks: a
// twentieth of a small file system, 256 MiB, or 1 GiB beyond 50 GiB. A file
// takes about a KiB of it, and a block of data 4 bytes.
func btrfsCapacity(fs wire.Filesystem, bytes int64) int64 {
	if bytes < 114294784 { // mkfs.btrfs says so: 109 MiB
		return -1
	}
	chunk := min(max(bytes/20, 32<<20), 256<<20)
	if bytes > 50<<30 {
		chunk = 1 << 30
	}
	chunks := int64(1)
	if need := fs.NeedInodes*1280 + fs.NeedBytes/800; need > chunk/2 { // half of the first is in reserve
		chunks += (need + chunk - 1) / chunk
	}
	return bytes - 2*chunk*chunks - 32<<20
}

// maxNeed bounds what a plan may say that golden's files take: a pebibyte,
// so that no sum overflows.
const maxNeed = 1 << 50

// bootSpare is what a FAT that is /boot as well needs besides golden's files:
// the clone's initrds are made for any hardware, where golden's may be for its
// own, and each is written beside the old one before it takes its place. A
// generic one of Debian 12 has 40 to 60 MB, two kernels are usual.
const bootSpare = 200 << 20

// checkRoom refuses files that will not fit onto a device of so many bytes.
func checkRoom(fs wire.Filesystem, bytes int64) error {
	if fs.NeedBytes < 0 || fs.NeedBytes > maxNeed || fs.NeedInodes < 0 || fs.NeedInodes > 1<<32-16 {
		return fmt.Errorf("needs %d bytes, %d inodes: impossible", fs.NeedBytes, fs.NeedInodes)
	}
	room := capacity(fs, bytes)
	if room < 0 && capacity(wire.Filesystem{Type: fs.Type, BlockSize: fs.BlockSize}, bytes) < 0 {
		return fmt.Errorf("partition of %d bytes: too small for %s", bytes, fs.Type)
	}
	if fs.Type == wire.VFAT && fs.MountPoint == "/boot" {
		room -= bootSpare
	}
	if fs.NeedBytes > room {
		return fmt.Errorf("the files take %d MB and %d inodes, a partition of %d MB has room for %d MB", fs.NeedBytes>>20, fs.NeedInodes, bytes>>20, max(room, 0)>>20)
	}
	return nil
}

// least is the smallest device, in whole MiBs, that has room for the file
// system's files; 0 for a swap area, whose size is nobody's need.
func least(fs wire.Filesystem) int64 {
	if fs.Type == "swap" || checkNeeds(fs) != nil {
		return 0
	}
	spare := int64(0)
	if fs.Type == wire.VFAT && fs.MountPoint == "/boot" {
		spare = bootSpare
	}
	enough := func(n int64) bool { return capacity(fs, n*mib) >= max(fs.NeedBytes, 0)+spare }
	high := int64(1)
	for !enough(high) {
		if high *= 2; high > maxNeed/mib*4 {
			return 0
		}
	}
	low := high / 2
	for high-low > 1 {
		if mid := low + (high-low)/2; enough(mid) {
			high = mid
		} else {
			low = mid
		}
	}
	return high * mib
}

func checkNeeds(fs wire.Filesystem) error { return checkRoom(fs, 1<<62) }
