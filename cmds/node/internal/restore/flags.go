package restore

import (
	"fmt"
	"slices"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// Flags of inodes (linux/fs.h) that need more than to be set.
const (
	flagCompressed = 0x4
	flagImmutable  = 0x10
	flagAppend     = 0x20
)

// flagNames are chattr(1)'s letters and words, in the order in which they are
// set one by one: an immutable file takes no other.
var flagNames = []struct {
	flag uint32
	name string
}{
	{0x1, "secure deletion (s)"}, {0x2, "undeletable (u)"}, {0x4, "compressed (c)"}, {0x8, "synchronous (S)"},
	{0x40, "no dump (d)"}, {0x80, "no atime (A)"}, {0x400, "not compressed (m)"}, {0x4000, "journaled data (j)"},
	{0x8000, "no tail merging (t)"}, {0x10000, "synchronous directory (D)"}, {0x20000, "top of directories (T)"},
	{0x800000, "no copy on write (C)"}, {0x2000000, "direct access (x)"}, {0x20000000, "project inherited (P)"},
	{0x40000000, "casefold (F)"}, {flagAppend, "append only (a)"}, {flagImmutable, "immutable (i)"},
}

// setFlags sets those inode flags of mask that the entry has, and unsets the
// others of mask. A file system refuses all if it doesn't know one, or takes
// one without a word and forgets it: so what isn't there afterwards is named.
func (t *Tree) setFlags(fd int, i int32, mask uint32) {
	want := t.m.Entries[i].Flags & mask
	old, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && old&mask == want {
		return
	}
	if err == nil {
		err = t.changeFlags(fd, i, old, mask, want)
	}
	if err == nil {
		return
	}
	now, _ := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	for _, f := range flagNames {
		switch {
		case want&f.flag != 0 && now&f.flag == 0:
			t.warnings.add("inode flag "+f.name+" not set", i, err)
		case mask&f.flag != 0 && want&f.flag == 0 && now&f.flag != 0:
			t.warnings.add("inode flag "+f.name+" not taken away", i, err)
		}
	}
}

// changeFlags returns nil only if all came out as wanted.
func (t *Tree) changeFlags(fd int, i int32, old, mask, want uint32) error {
	if old&flagCompressed != 0 && t.compression(i) != "" && mask&flagCompressed == 0 && setXflags(fd, want) {
		// FS_IOC_SETFLAGS would reset the property to the mount's algorithm
		// (fs/btrfs/ioctl.c, btrfs_fileattr_set).
	} else if err := unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(old&^mask|want)); err != nil {
		for _, f := range flagNames {
			if mask&f.flag == 0 || (old^want)&f.flag == 0 {
				continue
			}
			now, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
			if err != nil {
				return err
			}
			_ = unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(now&^f.flag|want&f.flag)) // looked at below
		}
	}
	now, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err == nil && now&mask != want {
		err = unix.EOPNOTSUPP
	}
	return err
}

// compression is the algorithm that a file on btrfs has for itself.
func (t *Tree) compression(i int32) string {
	x := t.m.Entries[i].Xattrs
	if x == nil {
		return ""
	}
	n := slices.IndexFunc(x.Attrs, func(a stream.Xattr) bool { return a.Name == compressionXattr })
	if n < 0 {
		return ""
	}
	return x.Attrs[n].Value
}

const compressionXattr = "btrfs.compression" // btrfs(5), properties

// early gives an empty file or directory the flags and the property that only
// affect what is written after them, and takes away those that it has from its
// directory.
func (t *Tree) early(fd int, i int32) {
	t.setFlags(fd, i, stream.FlagEarly)
	if c := t.compression(i); c != "" {
		_ = unix.Fsetxattr(fd, compressionXattr, []byte(c), 0) // set again with the others, and named if it can't be
	}
}

// isEarly says whether the entry may need early.
func (t *Tree) isEarly(i int32) bool {
	e := &t.m.Entries[i]
	flags := e.Flags
	if e.Parent >= 0 {
		flags |= t.m.Entries[e.Parent].Flags
	}
	return flags&stream.FlagEarly != 0 || e.Xattrs != nil && t.compression(i) != ""
}

// earlyDir is early for the directory i in dir.
func (t *Tree) earlyDir(dir int, i int32) error {
	fd, err := stream.OpenBeneath(dir, t.m.Entries[i].Name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", t.name(i), err)
	}
	defer unix.Close(fd)
	t.early(fd, i)
	return nil
}

// fsxattr is struct fsxattr of linux/fs.h.
type fsxattr struct {
	Flags, ExtSize, Extents, Project, CowExtSize uint32
	_                                            [8]byte
}

const (
	fsIocFsgetxattr = 0x801c581f // _IOR('X', 31, struct fsxattr)
	fsIocFssetxattr = 0x401c5820 // _IOW('X', 32, struct fsxattr)
)

func (x *fsxattr) ioctl(fd int, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(x))); errno != 0 {
		return errno
	}
	return nil
}

// xflags are the flags that struct fsxattr has other numbers for (linux/fs.h,
// FS_XFLAG_*), by those of FS_IOC_SETFLAGS.
var xflags = []struct{ flag, x uint32 }{{0x8, 0x20}, {flagImmutable, 0x8}, {flagAppend, 0x10}, {0x40, 0x80}, {0x80, 0x40}}

// setXflags sets and unsets flags without touching any other; it says whether
// that worked.
func setXflags(fd int, want uint32) bool {
	var x fsxattr
	if x.ioctl(fd, fsIocFsgetxattr) != nil {
		return false
	}
	for _, f := range xflags {
		x.Flags &^= f.x
		if want&f.flag != 0 {
			x.Flags |= f.x
		}
	}
	return x.ioctl(fd, fsIocFssetxattr) == nil
}

// setProject sets the project that quotas count the entry to.
func (t *Tree) setProject(fd int, i int32) {
	want := t.m.Entries[i].Project
	var x fsxattr
	err := x.ioctl(fd, fsIocFsgetxattr)
	if err == nil && x.Project == want {
		return
	}
	if x.Project = want; err == nil {
		err = x.ioctl(fd, fsIocFssetxattr)
	}
	if err != nil && want != 0 {
		t.warnings.add("project not set", i, err)
	}
}
