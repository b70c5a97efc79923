package stream

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// inodeFlags asks for the flags of an open file or directory; a file system
// that has none answers 0.
func inodeFlags(fd int) uint32 {
	n, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil {
		return 0
	}
	return n
}

// Linux, linux/fs.h: what can't be carried over file by file.
const (
	flagImmutable = 0x10
	flagEncrypted = 0x800
	flagVerity    = 0x100000
)

// fsxattr is struct fsxattr of linux/fs.h: what FS_IOC_GETFLAGS has no room for.
type fsxattr struct {
	Flags, ExtSize, Extents, Project, CowExtSize uint32
	_                                            [8]byte
}

const fsIocFsgetxattr = 0x801c581f // _IOR('X', 31, struct fsxattr)

// moreFlags asks an open file or directory for its project and further flags;
// a file system that has none answers zeros.
func moreFlags(fd int) (x fsxattr) {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFsgetxattr, uintptr(unsafe.Pointer(&x))); errno != 0 {
		return fsxattr{}
	}
	return x
}

// xflagPrealloc is set where somebody reserved space by fallocate; other space
// behind the end of a file on XFS is its own guess at what comes.
const xflagPrealloc = 0x2

// lostXflags are the flags of struct fsxattr that aren't carried over.
var lostXflags = []struct {
	flag uint32
	name string
}{
	{0x1, "realtime device"}, {0x100, "realtime device for new files"}, {0x400, "no symbolic links"},
	{0x800, "extent size"}, {0x1000, "extent size for new files"}, {0x2000, "no defragmentation"},
	{0x4000, "file stream allocator"}, {0x10000, "copy-on-write extent size"},
}

// readXattrs reads all extended attributes of an open file.
func readXattrs(fd int) (*XattrSet, error) {
	return collectXattrs(
		func(b []byte) (int, error) { return unix.Flistxattr(fd, b) },
		func(name string, b []byte) (int, error) { return unix.Fgetxattr(fd, name, b) })
}

// readXattrsAt reads those of a name that can't be opened (a link, a device).
// There is no getxattrat before Linux 6.13: /proc/self/fd/N is the directory
// that we hold, and the last component isn't followed.
func readXattrsAt(dir int, name string) (*XattrSet, error) {
	p := ProcPath(dir, name)
	return collectXattrs(
		func(b []byte) (int, error) { return unix.Llistxattr(p, b) },
		func(name string, b []byte) (int, error) { return unix.Lgetxattr(p, name, b) })
}

// ProcPath is a path for calls that take no directory: name in the open
// directory dir.
func ProcPath(dir int, name string) string {
	return "/proc/self/fd/" + strconv.Itoa(dir) + "/" + name
}

// xfsACL begins the names under which XFS shows the two ACLs once more, as it
// keeps them on the disk; it makes them of the system.posix_acl ones.
const xfsACL = "trusted.SGI_ACL_"

func collectXattrs(list func([]byte) (int, error), get func(string, []byte) (int, error)) (*XattrSet, error) {
	var small [1024]byte
	names, err := growing(small[:], list)
	if err != nil || len(names) == 0 {
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = nil
		}
		return nil, err
	}
	set := new(XattrSet)
	for name := range bytes.SplitSeq(bytes.TrimSuffix(names, []byte{0}), []byte{0}) {
		n := string(name)
		if strings.HasPrefix(n, xfsACL) {
			continue
		}
		var buf [1024]byte
		v, err := growing(buf[:], func(b []byte) (int, error) { return get(n, b) })
		if errors.Is(err, unix.ENODATA) {
			continue // removed meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("xattr %s: %w", n, err)
		}
		set.Attrs = append(set.Attrs, Xattr{Name: n, Value: string(v)})
	}
	slices.SortFunc(set.Attrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
	if len(set.Attrs) == 0 {
		return nil, nil
	}
	return set, nil
}

// growing calls f with buf, and with the largest that the kernel ever fills
// if that was too small.
func growing(buf []byte, f func([]byte) (int, error)) ([]byte, error) {
	n, err := f(buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, maxXattrValue)
		n, err = f(buf)
	}
	if err != nil {
		return nil, err
	}
	return buf[:n], nil
}

// dataExtents lists where an open file of the given size has data.
func dataExtents(fd int, size int64) ([]Extent, error) {
	var xs []Extent
	for pos := int64(0); pos < size; {
		start, err := unix.Seek(fd, pos, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			break // only a hole is left
		}
		if errors.Is(err, unix.EINVAL) && pos == 0 {
			return []Extent{{0, size}}, nil // no such call here: all is data
		}
		if err != nil {
			return nil, fmt.Errorf("find data at %d: %w", pos, err)
		}
		end, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("find hole at %d: %w", start, err)
		}
		start, end = min(start, size), min(end, size)
		if start < end {
			xs = append(xs, Extent{start, end - start})
		}
		pos = max(end, pos+1)
	}
	return xs, nil
}

// blockSize is that of nearly all file systems; none that matters has larger ones.
const blockSize = 4096

// linux/fiemap.h.
const (
	fsIocFiemap           = 0xC020660B
	fiemapExtentLast      = 0x1
	fiemapExtentUnwritten = 0x800
	fiemapBatch           = 256
)

type fiemapExtent struct {
	Logical, Physical, Length uint64
	_                         [2]uint64
	Flags                     uint32
	_                         [3]uint32
}

type fiemapRequest struct {
	Start, Length           uint64
	Flags, Mapped, Count, _ uint32
	Extents                 [fiemapBatch]fiemapExtent
}

// unwritten lists what was allocated and never written, such as a swap file
// made by fallocate, below size and, if behind, from there on: what lies there
// nobody has written to. A file system that can't tell has none.
func unwritten(fd int, size int64, behind bool) []Extent {
	var xs []Extent
	limit := size
	if behind {
		limit = maxSize
	}
	req := new(fiemapRequest)
	for start := uint64(0); start < uint64(limit); {
		*req = fiemapRequest{Start: start, Length: uint64(limit) - start, Count: fiemapBatch}
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), fsIocFiemap, uintptr(unsafe.Pointer(req)))
		if errno != 0 || req.Mapped == 0 || req.Mapped > fiemapBatch {
			return xs
		}
		for _, x := range req.Extents[:req.Mapped] {
			off, end := int64(max(x.Logical, start)), int64(min(x.Logical+x.Length, uint64(limit)))
			if x.Flags&fiemapExtentUnwritten == 0 {
				off = max(off, (size+blockSize-1)/blockSize*blockSize) // of the last block the rest is behind the end
			}
			if off < end {
				if n := len(xs); n > 0 && xs[n-1].Off+xs[n-1].Len == off {
					xs[n-1].Len += end - off
				} else {
					xs = append(xs, Extent{off, end - off})
				}
			}
			if x.Flags&fiemapExtentLast != 0 {
				return xs
			}
			start = max(start+1, x.Logical+x.Length)
		}
	}
	return xs
}

// without is what of space lies outside the blocks that hold data: data that
// the kernel has yet to write is in both. Both ascend.
func without(space, data []Extent) []Extent {
	var out []Extent
	next := 0 // of data: all before ends before the space that is looked at
	for _, x := range space {
		off, end := x.Off, x.Off+x.Len
		for next < len(data) && data[next].Off+data[next].Len <= off/blockSize*blockSize {
			next++
		}
		for _, d := range data[next:] {
			from, to := d.Off/blockSize*blockSize, (d.Off+d.Len+blockSize-1)/blockSize*blockSize
			if from >= end {
				break
			}
			if off < from {
				out = append(out, Extent{off, from - off})
			}
			off = max(off, min(to, end))
		}
		if off < end {
			out = append(out, Extent{off, end - off})
		}
	}
	return out
}
