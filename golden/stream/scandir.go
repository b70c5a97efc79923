package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dirent is a name as getdents64 gives it.
type dirent struct {
	name string
	ino  uint64
	kind byte // DT_*; a hint only
}

// readDir fills t.found with the children of t, ascending by name.
func (s *scanner) readDir(t *dirTask, buf []byte) error {
	dir, err := openQuietly(s.root, t.path, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		s.warn(t.path, "directory vanished while it was read")
		return nil
	}
	if err != nil {
		return fmt.Errorf("open /%s: %w", t.path, err)
	}
	defer unix.Close(dir)
	self, err := statOpen(dir)
	if err != nil {
		return fmt.Errorf("stat /%s: %w", t.path, err)
	}
	home := homeOf(&self)
	names, err := listDir(dir, buf)
	if err != nil {
		return fmt.Errorf("read /%s: %w", t.path, err)
	}
	// Inodes lie on the disk by number: look at them in that order.
	slices.SortFunc(names, func(a, b dirent) int {
		switch {
		case a.ino < b.ino:
			return -1
		case a.ino > b.ino:
			return 1
		}
		return strings.Compare(a.name, b.name)
	})
	t.found = make([]found, 0, len(names))
	excluded := s.excludes[t.path]
	for _, n := range names {
		f := found{Entry: Entry{Name: n.name, Target: -1}, ino: n.ino}
		keep, err := s.look(t, dir, home, n, excluded[n.name], &f)
		if errors.Is(err, unix.ENOENT) {
			continue // gone since the directory was read
		}
		if err != nil {
			return fmt.Errorf("read /%s: %w", join(t.path, n.name), err)
		}
		if keep {
			t.found = append(t.found, f)
		}
	}
	return nil
}

func join(dir, name string) string {
	if dir == "" {
		return name
	}
	return dir + "/" + name
}

func listDir(dir int, buf []byte) ([]dirent, error) {
	var names []dirent
	for {
		n, err := unix.Getdents(dir, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n == 0 {
			return names, err
		}
		// struct linux_dirent64: ino 8, off 8, reclen 2, type 1, name.
		for b := buf[:n]; len(b) > 19; {
			reclen := int(binary.NativeEndian.Uint16(b[16:]))
			if reclen < 20 || reclen > len(b) {
				return nil, fmt.Errorf("directory record of %d bytes", reclen)
			}
			name := b[19:reclen]
			if i := slices.Index(name, 0); i >= 0 {
				name = name[:i]
			}
			if s := string(name); s != "." && s != ".." {
				names = append(names, dirent{name: s, ino: binary.NativeEndian.Uint64(b), kind: b[18]})
			}
			b = b[reclen:]
		}
	}
}

// look fills f with what is behind the name; keep is false for what is left
// out.
func (s *scanner) look(t *dirTask, dir int, at home, n dirent, excluded bool, f *found) (keep bool, err error) {
	if excluded && n.kind != unix.DT_DIR && n.kind != unix.DT_UNKNOWN {
		return false, nil
	}
	if n.kind == unix.DT_REG {
		fd, err := openQuietly(dir, n.name, 0)
		if err == nil {
			defer unix.Close(fd)
			return s.lookOpen(t, at, f, fd)
		}
		if !errors.Is(err, unix.ELOOP) && !errors.Is(err, unix.ENXIO) {
			return false, keyMissing(err)
		} // a link or socket took its place: look closer
	}
	// DONT_SYNC: a mount point whose server is dead must not hang us.
	st, err := statx(dir, n.name, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC)
	if err != nil {
		if errors.Is(err, unix.EACCES) {
			s.warn(join(t.path, n.name), "left out: a user's own mount, which not even root may look into")
			return false, nil
		}
		return false, err
	}
	f.fill(&st)
	switch f.Type {
	case Dir:
		return s.lookDir(t, dir, at, homeOf(&st), excluded, f)
	case File:
		if excluded {
			return false, nil
		}
		fd, err := openQuietly(dir, n.name, 0)
		if err != nil {
			return false, keyMissing(err)
		}
		defer unix.Close(fd)
		return s.lookOpen(t, at, f, fd)
	case Symlink:
		if f.Link, err = readlink(dir, n.name); err != nil {
			return false, err
		}
	}
	f.Xattrs, err = readXattrsAt(dir, n.name)
	return !excluded, err
}

func (s *scanner) lookOpen(t *dirTask, at home, f *found, fd int) (keep bool, err error) {
	st, err := statOpen(fd)
	if err != nil {
		return false, err
	}
	f.fill(&st)
	if f.Type != File {
		return false, fmt.Errorf("changed its type while it was read")
	}
	x, err := f.opened(fd)
	if err != nil {
		return false, err
	}
	if homeOf(&st).mount != at.mount {
		s.often("another file is mounted over it, which the clone gets in its stead", join(t.path, f.Name))
	}
	if x.raw&flagVerity != 0 {
		s.often("sealed (fs-verity), which the clone's copy is not", join(t.path, f.Name))
	}
	s.nameXflags(x.Flags, t.path, f.Name)
	if s.swaps != nil && s.isSwap(f, t.path) {
		f.asSwap()
		return true, nil
	}
	if t.top && f.Name == ".journal" && f.Flags&flagImmutable != 0 {
		return false, nil // ext3's, where the file system was an ext2 before (tune2fs(8), -j)
	}
	return true, f.lookData(fd, &st, x.Flags)
}

// lookData finds the holes of a file. A small file as large as its blocks has
// none; SEEK_DATA knows for all others.
func (f *found) lookData(fd int, st *unix.Statx_t, xflags uint32) error {
	size, allocated := int64(st.Size), int64(st.Blocks)*512
	const small = 64 << 10
	more := allocated >= size+reserved && reservedByHand(fd, xflags)
	if size <= small && allocated >= size && !more {
		f.Dense = true
		return nil
	}
	data, err := dataExtents(fd, size)
	if err != nil {
		return err
	}
	var sum int64
	for _, x := range data {
		sum += x.Len
	}
	var space []Extent
	if sum < size && allocated >= sum+blockSize || more {
		space = without(unwritten(fd, size, more), data)
	}
	if sum == size && len(space) == 0 {
		f.Dense = true
		return nil
	}
	f.Sparse = &Layout{Data: data, Unwritten: space}
	return nil
}

// reserved is from how many bytes on space behind the end of a file is looked
// for: less may be what its file system needs for itself, and is what a copy
// may differ by (64 blocks of 512 bytes).
const reserved = 32<<10 + blockSize

// reservedByHand says whether space behind the end of a file can only be there
// because somebody reserved it.
func reservedByHand(fd int, xflags uint32) bool {
	if xflags&xflagPrealloc != 0 {
		return true
	}
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && int64(st.Type) != unix.XFS_SUPER_MAGIC
}

// lookDir decides whether to descend.
func (s *scanner) lookDir(t *dirTask, dir int, at, own home, excluded bool, f *found) (keep bool, err error) {
	p := join(t.path, f.Name)
	switch {
	case s.mounts[p]:
	case own.mount != at.mount:
		// Not ours to open: an automount would mount, a dead server hang us.
		s.opt.Log.Debug("another mount, recorded as an empty directory", "path", "/"+p)
		s.covered(t, f)
		return true, nil
	case own.dev != at.dev:
		s.warn(p, "a subvolume that isn't in the plan: recorded as an empty directory")
		excluded = true
	}
	if f.Name == "lost+found" && (t.path == "" || s.mounts[t.path]) {
		return false, nil // mkfs makes it
	}
	fd, err := openQuietly(dir, f.Name, unix.O_DIRECTORY)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	st, err := statOpen(fd)
	if err != nil {
		return false, err
	}
	f.fill(&st)
	x, err := f.opened(fd)
	if err != nil {
		return false, err
	}
	s.nameXflags(x.Flags, t.path, f.Name)
	locked := x.raw&flagEncrypted != 0
	if locked && !t.locked { // its files are too: one policy for all below (fscrypt.rst)
		s.warn(p, "is encrypted (fscrypt); the clone's copy is not")
	}
	if excluded {
		f.ctime = stamp{}
	} else {
		f.sub = &dirTask{path: p, mount: t.mount, locked: locked}
		if s.mounts[p] {
			f.sub.mount, f.sub.top = "/"+p, true
		}
	}
	return true, nil
}

// keyMissing says what to do about a file that can't even be opened.
func keyMissing(err error) error {
	if errors.Is(err, unix.ENOKEY) {
		return fmt.Errorf("encrypted (fscrypt), and its key isn't there: unlock it, leave it out (-x) or copy its file system as blocks (-D): %w", err)
	}
	return err
}

// flags are what ioctls tell of an open file.
type flags struct {
	fsxattr
	raw uint32 // all inode flags
}

// opened adds what only an open file tells.
func (f *found) opened(fd int) (x flags, err error) {
	x = flags{moreFlags(fd), inodeFlags(fd)}
	f.Flags, f.Project = x.raw&FlagMask, x.Project
	f.Xattrs, err = readXattrs(fd)
	return x, err
}

// statx asks for all that an entry has, and for its mount.
func statx(dir int, name string, flags int) (x unix.Statx_t, err error) {
	for {
		err = unix.Statx(dir, name, flags, unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &x)
		if err != unix.EINTR {
			return x, err
		}
	}
}

func statOpen(fd int) (unix.Statx_t, error) { return statx(fd, "", unix.AT_EMPTY_PATH) }

// home is where a directory is. The kernel's mount number also knows a bind
// mount of the same file system; it is the device where the kernel (before
// 5.8) has none. The device is another one in each subvolume of a btrfs.
type home struct{ mount, dev uint64 }

func homeOf(x *unix.Statx_t) home {
	h := home{dev: unix.Mkdev(x.Dev_major, x.Dev_minor)}
	h.mount = h.dev
	if x.Mask&unix.STATX_MNT_ID != 0 {
		h.mount = x.Mnt_id
	}
	return h
}

// fill takes over what stat tells.
func (f *found) fill(x *unix.Statx_t) {
	e := &f.Entry
	e.Mode, e.UID, e.GID = x.Mode&0o7777, x.Uid, x.Gid
	e.Sec, e.Nsec = x.Mtime.Sec, x.Mtime.Nsec
	f.ctime = stamp{x.Ctime.Sec, x.Ctime.Nsec}
	f.dev, f.ino, f.links = unix.Mkdev(x.Dev_major, x.Dev_minor), x.Ino, x.Nlink
	switch x.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Type = Dir
	case unix.S_IFREG:
		e.Type, e.Size = File, int64(x.Size)
	case unix.S_IFLNK:
		e.Type = Symlink
	case unix.S_IFCHR:
		e.Type, e.Major, e.Minor = Char, x.Rdev_major, x.Rdev_minor
	case unix.S_IFBLK:
		e.Type, e.Major, e.Minor = Block, x.Rdev_major, x.Rdev_minor
	case unix.S_IFIFO:
		e.Type = Fifo
	case unix.S_IFSOCK:
		e.Type = Socket
	}
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, maxLink+1)
	n, err := unix.Readlinkat(dir, name, buf)
	if err != nil {
		return "", fmt.Errorf("readlink: %w", err)
	}
	return string(buf[:n]), nil
}

// SameLayout says whether the open file has its data and holes where entry e
// has them, as Scan would find them.
func SameLayout(fd int, e *Entry) (bool, error) {
	st, err := statOpen(fd)
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || int64(st.Size) != e.Size {
		return false, nil
	}
	var f found
	if err := f.lookData(fd, &st, moreFlags(fd).Flags); err != nil {
		return false, err
	}
	if f.Dense || e.Dense {
		return f.Dense == e.Dense, nil
	}
	var want Layout
	if e.Sparse != nil {
		want = *e.Sparse
	}
	return slices.Equal(f.Sparse.Data, want.Data) && slices.Equal(f.Sparse.Unwritten, want.Unwritten), nil
}
