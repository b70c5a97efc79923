package restore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// maxDepth bounds how deep remove goes: each level holds a descriptor, and a
// process has 1024 unless somebody gave it more (getrlimit(2)).
const maxDepth = 900

// remove removes what is at name in dir, all that is below it included. It
// enters no other mount: what is on one stays, and EBUSY says so.
func (t *Tree) remove(dir int, name string, isDir bool, depth int) error {
	if !isDir {
		return t.unlink(dir, name, depth)
	}
	fd, err := openSame(dir, name)
	switch {
	case errors.Is(err, unix.EXDEV):
		return unix.EBUSY
	case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ELOOP):
		return t.unlink(dir, name, depth)
	case errors.Is(err, unix.ENOENT):
		return nil
	case err != nil:
		return err
	}
	err = t.empty(fd, depth)
	unix.Close(fd)
	if err != nil {
		return err
	}
	return unix.Unlinkat(dir, name, unix.AT_REMOVEDIR)
}

// unlink removes a name that is likely no directory.
func (t *Tree) unlink(dir int, name string, depth int) error {
	err := unix.Unlinkat(dir, name, 0)
	if errors.Is(err, unix.EPERM) {
		if thaw(dir, name) {
			err = unix.Unlinkat(dir, name, 0)
		} else if isDir(dir, name) { // an immutable one
			err = unix.EISDIR
		}
	}
	if errors.Is(err, unix.EISDIR) {
		return t.remove(dir, name, true, depth)
	}
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

func isDir(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	return err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR
}

// empty removes what is in the open directory. What can't go doesn't keep the
// rest from going.
func (t *Tree) empty(fd int, depth int) error {
	if depth >= maxDepth {
		return fmt.Errorf("more than %d directories deep: %w", maxDepth, unix.EMFILE)
	}
	dropFlags(fd)
	names, err := list(fd)
	if err != nil {
		return err
	}
	var first error
	for _, n := range names {
		if err := t.remove(fd, n.name, n.dir, depth+1); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// openSame opens a directory of dir that is on the same mount.
func openSame(dir int, name string) (int, error) {
	how := unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_XDEV,
	}
	for range 100 {
		fd, err := unix.Openat2(dir, name, &how)
		// EAGAIN: something was renamed meanwhile (openat2(2)).
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// there is a name in a directory.
type there struct {
	name string
	ino  uint64
	dir  bool
}

// list reads the names in an open directory. What the file system tells no
// type of is looked at.
func list(fd int) ([]there, error) {
	var names []there
	buf := make([]byte, 32<<10)
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	for {
		n, err := unix.Getdents(fd, buf)
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
				return nil, fmt.Errorf("directory record of %d bytes: %w", reclen, unix.EIO)
			}
			name, _, _ := bytes.Cut(b[19:reclen], []byte{0})
			x := there{name: string(name), ino: binary.NativeEndian.Uint64(b), dir: b[18] == unix.DT_DIR}
			if b[18] == unix.DT_UNKNOWN {
				x.dir = isDir(fd, x.name)
			}
			if x.name != "." && x.name != ".." {
				names = append(names, x)
			}
			b = b[reclen:]
		}
	}
}

// removeExtra removes a name that is not in the manifest; what can't go is a
// warning, as it harms nothing that is.
func (t *Tree) removeExtra(dir int, x there, parent int32) error {
	err := t.remove(dir, x.name, x.dir, 0)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
		t.warnings.add(fmt.Sprintf("%q is not golden's and can't be removed", x.name), parent, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove %s/%s: %w", t.name(parent), x.name, err)
	}
	return nil
}

// clear makes way for a name. A directory stays in the way unless the target
// is to become exactly the tree.
func (t *Tree) clear(dir int, i int32) error {
	name := t.m.Entries[i].Name
	var err error
	if t.opt.Update {
		err = t.unlink(dir, name, 0)
	} else {
		err = unix.Unlinkat(dir, name, 0)
		if errors.Is(err, unix.EPERM) && thaw(dir, name) {
			err = unix.Unlinkat(dir, name, 0)
		}
	}
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove what is at %s: %w", t.name(i), err)
	}
	return nil
}

// thaw takes the flags away that keep a file of an earlier clone from being
// removed. Only a regular file is opened: a device might do something.
func thaw(dir int, name string) bool {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return false
	}
	fd, err := stream.OpenBeneath(dir, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return dropFlags(fd)
}

// dropFlags unsets what a person may have set; a file system without flags
// has none to unset.
func dropFlags(fd int) bool {
	const late = stream.FlagMask &^ stream.FlagEarly
	old, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS)
	if err != nil || old&late == 0 {
		return false
	}
	return unix.IoctlSetPointerInt(fd, unix.FS_IOC_SETFLAGS, int(old&^late)) == nil
}
