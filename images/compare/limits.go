package compare

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Limits is what a file system can't hold. A difference is due to them only if
// it is exactly the one that they make: a time that is rounded and no other.
type Limits struct {
	Name             string
	MinSec, MaxSec   int64    // of a time
	WholeSeconds     bool     // times have no nanoseconds
	MaxLink          int      // bytes of a symbolic link's target
	MaxMinor         uint32   // of a device's number
	Flags            uint32   // inode flags that it knows; the others are lost
	Xattrs           []string // prefixes of attributes that it doesn't take
	NoProject        bool
	NoReserve        bool // space behind the end of a file can't be reserved
	HolePointers     bool // each block of a hole takes 4 bytes
	NoDeviceXattrs   bool
	LargestXattrSize int // bytes of one value; 0: 64 KiB
}

const common = 0x8 | 0x10 | 0x20 | 0x40 | 0x80 // sync, immutable, append, nodump, noatime

// LimitsOf are those of a file system, by the name mount(8) knows it by.
// inodeSize matters to ext2, ext3 and ext4; 0 is what mkfs makes.
func LimitsOf(fs string, inodeSize int) (Limits, error) {
	l := Limits{Name: fs, MinSec: math.MinInt64, MaxSec: math.MaxInt64, MaxLink: 4095, MaxMinor: 1<<20 - 1, Flags: settable}
	switch fs {
	case "ext2", "ext3", "ext4":
		// fs/ext4/ext4.h: EXT4_TIMESTAMP_MIN, EXT4_EXTRA_TIMESTAMP_MAX, EXT4_NON_EXTRA_TIMESTAMP_MAX
		l.MinSec, l.MaxSec = math.MinInt32, 1<<34-1<<31-1
		if inodeSize == 128 {
			l.MaxSec, l.WholeSeconds = math.MaxInt32, true
		}
		l.Flags &^= 0x800000
		l.Xattrs = []string{"btrfs."}
		l.NoProject = true         // unless it has the feature of that name
		l.NoReserve = fs != "ext4" // no extents
		l.LargestXattrSize = 4000  // one block, less its header
	case "xfs":
		// fs/xfs/libxfs/xfs_format.h: XFS_SYMLINK_MAXLEN; linux/kdev_t.h: sysv_valid_dev
		l.MaxMinor = 1<<18 - 1
		l.MinSec, l.MaxSec, l.MaxLink = math.MinInt32, 16299260424, 1023
		l.Flags = common | 0x2000000 | 0x20000000
		l.Xattrs = []string{"btrfs."}
	case "btrfs": // fs/btrfs/ioctl.c, check_fsflags
		l.Flags = common | 0x4 | 0x400 | 0x10000 | 0x800000
		l.NoProject = true
	case "jfs": // fs/jfs/super.c, jfs_dinode.h
		l.MinSec, l.MaxSec = 0, math.MaxUint32
		l.Flags = 0x1 | 0x2 | 0x8 | 0x10 | 0x20 | 0x80 | 0x10000
		l.Xattrs, l.NoProject, l.NoReserve = []string{"btrfs."}, true, true
	case "reiserfs": // fs/reiserfs/super.c, namei.c; mounted with acl and user_xattr, and without attrs, which flags need
		l.MinSec, l.MaxSec, l.WholeSeconds, l.MaxLink = 0, math.MaxUint32, true, 3900
		l.Flags = 0
		l.Xattrs = []string{"btrfs."}
		l.NoProject, l.NoReserve, l.HolePointers, l.NoDeviceXattrs = true, true, true, true
	case "f2fs": // fs/f2fs/file.c, F2FS_SETTABLE_FS_FL
		l.Flags = common | 0x4 | 0x400 | 0x10000 | 0x20000000 | 0x40000000
		l.Xattrs, l.LargestXattrSize = []string{"btrfs."}, 3500
	default:
		return l, fmt.Errorf("what %q can't hold is not known", fs)
	}
	return l, nil
}

// Allow sets apart the differences of entries at and below a path that are due
// to the limits of the file system that the clone has there.
func (r *Report) Allow(golden, clone Tree, at string, l Limits) {
	var left []Difference
	for _, d := range r.Differences {
		below := d.Path == at || strings.HasPrefix(d.Path, strings.TrimSuffix(at, "/")+"/")
		if below && l.explain(d, golden[d.Path], clone[d.Path]) {
			d.Reason = l.Name + " can't hold it"
			r.Expected = append(r.Expected, d)
		} else {
			left = append(left, d)
		}
	}
	r.Differences = left
}

func (l Limits) explain(d Difference, g, c *Entry) bool {
	switch {
	case g == nil:
		return false
	case d.Aspect == Missing:
		device := g.is(unix.S_IFCHR) || g.is(unix.S_IFBLK)
		return g.is(unix.S_IFLNK) && len(g.Target) > l.MaxLink || device && unix.Minor(g.Rdev) > l.MaxMinor
	case c == nil:
		return false
	}
	switch d.Aspect {
	case Mtime:
		return c.Mtime == l.time(g.Mtime) && c.Mtime != g.Mtime
	case Flags:
		return c.Flags == g.Flags&l.Flags
	case Project:
		return l.NoProject && c.Project == 0
	case Xattr:
		return l.explainXattr(d, g)
	case Allocation:
		pointers := c.Blocks > g.Blocks && c.Blocks-g.Blocks <= g.Size/4096*4/512+blockTolerance
		return l.NoReserve && c.Blocks < g.Blocks && c.Blocks*512 >= g.Size || l.HolePointers && pointers
	}
	return false
}

func (l Limits) explainXattr(d Difference, g *Entry) bool {
	name, value, _ := strings.Cut(d.Golden, "=")
	if d.Clone != "no "+name {
		return false
	}
	if l.NoDeviceXattrs && (g.is(unix.S_IFCHR) || g.is(unix.S_IFBLK)) {
		return true
	}
	if slices.ContainsFunc(l.Xattrs, func(p string) bool { return strings.HasPrefix(name, p) }) {
		return true
	}
	var n int
	if _, rest, ok := strings.Cut(value, "("); ok {
		_, _ = fmt.Sscanf(rest, "%d bytes", &n) // else it is a short one
	}
	return l.LargestXattrSize > 0 && n > l.LargestXattrSize
}

// time is what the file system makes of a time.
func (l Limits) time(t unix.Timespec) unix.Timespec {
	if t.Sec <= l.MinSec { // timestamp_truncate, fs/inode.c
		return unix.Timespec{Sec: l.MinSec}
	}
	if t.Sec >= l.MaxSec {
		return unix.Timespec{Sec: l.MaxSec}
	}
	if l.WholeSeconds {
		t.Nsec = 0
	}
	return t
}
