// Package compare is the outside judge of a clone: it holds every entry of
// two file trees against each other, and a clone's disk image against the
// golden root. It shares no code with what captures, carries or restores
// files, so that one misunderstanding can't hide on both sides.
//
//	golden DIR ──────────Scan──▶ entries ─┐
//	                                      Trees ──▶ Report: differences,
//	disk image ─mount ro─Scan──▶ entries ─┘         expected ones by their reason
//
// It changes neither side: disk images are mounted read-only without journal
// replay, in a mount namespace of their own.
package compare

import (
	"crypto/md5"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Entry is all that is known of one name in a tree.
type Entry struct {
	Mode      uint32 // st_mode: type and permissions
	UID, GID  uint32
	Size      int64 // regular files and symlinks
	Mtime     unix.Timespec
	Rdev      uint64
	Target    string // of a symlink
	Links     uint64
	LinkGroup string            // smallest path of the same inode; set when Links > 1
	Xattrs    map[string]string // all namespaces: user, trusted, security, system
	Flags     uint32            // inode flags a person can set (chattr(1))
	Project   uint32            // of files and directories, for quotas
	Blocks    int64             // allocated, 512 bytes each
	Hash      [md5.Size]byte    // of the content, holes read as zeros; against accidents, and 8 times as fast as SHA-256 on an emulated processor

	id inode
}

type inode struct{ dev, ino uint64 }

// Tree is every entry by its path, which begins with a slash; the root is "/".
type Tree map[string]*Entry

// settable are the inode flags that chattr(1) sets: secrm, unrm, compressed,
// sync, immutable, append, nodump, noatime, nocompress, journal data, notail,
// dirsync, topdir, nocow, dax, projinherit, casefold (linux/fs.h, FS_*_FL). The
// others (extents, index) are the file system's own business.
const settable = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 | 0x20000 |
	0x800000 | 0x2000000 | 0x20000000 | 0x40000000

// Scan reads the whole tree under dir, through the mounts that lie in it. All
// calls are relative to an open directory: a path may be longer than PATH_MAX.
func Scan(dir string) (Tree, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", dir, err)
	}
	t := Tree{}
	s := scanner{tree: t, groups: map[inode]string{}, buf: make([]byte, 1<<20)}
	root, err := s.stat(fd, ".")
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("look at %s: %w", dir, err)
	}
	t["/"] = root
	if err := s.directory(fd, "/"); err != nil {
		return nil, fmt.Errorf("scan %s: %w", dir, err)
	}
	for _, e := range t {
		if e.Links > 1 && !e.is(unix.S_IFDIR) {
			e.LinkGroup = s.groups[e.id]
		}
	}
	return t, nil
}

func (e *Entry) is(kind uint32) bool { return e.Mode&unix.S_IFMT == kind }

type scanner struct {
	tree   Tree
	groups map[inode]string
	buf    []byte
}

// directory takes over fd.
func (s *scanner) directory(fd int, at string) error {
	f := os.NewFile(uintptr(fd), at)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, name := range names {
		full := path.Join(at, "x")
		full = full[:len(full)-1] + name // path.Join would clean odd names
		if err := s.entry(fd, name, full); err != nil {
			return fmt.Errorf("%q: %w", full, err)
		}
	}
	return nil
}

func (s *scanner) entry(parent int, name, full string) error {
	e, err := s.stat(parent, name)
	if err != nil {
		return err
	}
	s.tree[full] = e
	if first, ok := s.groups[e.id]; !ok || full < first {
		s.groups[e.id] = full
	}
	if !e.is(unix.S_IFDIR) {
		return nil
	}
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return s.directory(fd, full)
}

func (s *scanner) stat(parent int, name string) (*Entry, error) {
	var st unix.Stat_t
	if err := unix.Fstatat(parent, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return nil, err
	}
	e := &Entry{
		Mode: st.Mode, UID: st.Uid, GID: st.Gid, Mtime: st.Mtim, Rdev: st.Rdev,
		Links: st.Nlink, Blocks: st.Blocks, id: inode{st.Dev, st.Ino},
	}
	var err error
	if e.Xattrs, err = xattrs(parent, name); err != nil {
		return nil, err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		e.Size = st.Size
		e.Target, err = readlink(parent, name)
	case unix.S_IFREG:
		e.Size = st.Size
		err = s.file(parent, name, e)
	case unix.S_IFDIR:
		e.Flags, e.Project, err = flags(parent, name)
	}
	return e, err
}

func readlink(parent int, name string) (string, error) {
	buf := make([]byte, 4097) // a target has at most PATH_MAX-1 bytes
	n, err := unix.Readlinkat(parent, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

func openEntry(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOATIME|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (s *scanner) file(parent int, name string, e *Entry) error {
	f, err := openEntry(parent, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if e.Flags, e.Project, err = getFlags(f); err != nil {
		return err
	}
	h := md5.New()
	// The wrapper keeps io.CopyBuffer from using another way than the buffer.
	n, err := io.CopyBuffer(h, struct{ io.Reader }{f}, s.buf)
	if err != nil {
		return err
	}
	if n != e.Size {
		return fmt.Errorf("read %d bytes of a file of %d", n, e.Size)
	}
	h.Sum(e.Hash[:0])
	return nil
}

func flags(parent int, name string) (flags, project uint32, err error) {
	f, err := openEntry(parent, name)
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	return getFlags(f)
}

func getFlags(f *os.File) (flags, project uint32, err error) {
	var v uint64 // the kernel writes an int, the ioctl's number says long
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.FS_IOC_GETFLAGS, uintptr(unsafe.Pointer(&v)))
	if errno == unix.ENOTTY || errno == unix.EOPNOTSUPP {
		return 0, 0, nil // a file system without flags
	}
	if errno != 0 {
		return 0, 0, fmt.Errorf("read inode flags: %w", errno)
	}
	var more [7]uint32 // struct fsxattr of linux/fs.h, 28 bytes: the fourth word is the project
	const fsgetxattr = 0x801c581f
	_, _, errno = unix.Syscall(unix.SYS_IOCTL, f.Fd(), fsgetxattr, uintptr(unsafe.Pointer(&more)))
	if errno != 0 && errno != unix.ENOTTY && errno != unix.EOPNOTSUPP {
		return 0, 0, fmt.Errorf("read project: %w", errno)
	}
	return uint32(v) & settable, more[3], nil
}

// xattrs reads by way of /proc, as there is no lgetxattrat(2) before Linux 6.13.
func xattrs(parent int, name string) (map[string]string, error) {
	p := fmt.Sprintf("/proc/self/fd/%d/%s", parent, name)
	list := make([]byte, 64<<10) // XATTR_LIST_MAX
	n, err := unix.Llistxattr(p, list)
	if errors.Is(err, unix.ENOTSUP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list xattrs: %w", err)
	}
	var out map[string]string
	value := make([]byte, 64<<10) // XATTR_SIZE_MAX
	for key := range strings.SplitSeq(strings.TrimSuffix(string(list[:n]), "\x00"), "\x00") {
		if key == "" || strings.HasPrefix(key, "trusted.SGI_ACL_") {
			continue // XFS shows ACLs under these names too, other file systems don't
		}
		n, err := unix.Lgetxattr(p, key, value)
		if err != nil {
			return nil, fmt.Errorf("read xattr %s: %w", key, err)
		}
		if out == nil {
			out = map[string]string{}
		}
		out[key] = string(value[:n])
	}
	return out, nil
}
