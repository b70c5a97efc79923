package restore

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// The order of attributes matters: chown takes away set-uid bits and
// capabilities, so it comes first; chmod next, which an ACL refines; then the
// xattrs; then the time, which is moved by writing. Flags come at the very
// end of everything (Finish): an immutable file takes none of these.

// setOpen gives an open file or directory its attributes, exactly, and leaves
// alone what is right already: on a disk file system each change is one more
// entry in the journal. What was there before loses what it has too many
// first, as an ACL would change what chmod means.
func (t *Tree) setOpen(fd int, i int32) error {
	e := &t.m.Entries[i]
	extra := false
	if t.old[i] {
		var err error
		if extra, err = t.dropXattrs(fd, i); err != nil {
			return err
		}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", t.name(i), err)
	}
	chown := st.Uid != e.UID || st.Gid != e.GID
	if chown {
		if err := t.owner(i, unix.Fchown(fd, int(e.UID), int(e.GID))); err != nil {
			return err
		}
	}
	if chown || extra || st.Mode&0o7777 != uint32(e.Mode) { // chown may have changed it
		if err := unix.Fchmod(fd, uint32(e.Mode)); err != nil {
			return fmt.Errorf("chmod %s to %#o: %w", t.name(i), e.Mode, err)
		}
	}
	if err := t.xattrs(i, func(name string, value []byte) error { return t.setXattr(fd, i, name, value) }); err != nil {
		return err
	}
	if e.Project != 0 || t.old[i] {
		t.setProject(fd, i)
	}
	if st.Mtim.Sec == e.Sec && st.Mtim.Nsec == int64(e.Nsec) {
		return nil
	}
	return t.setTime(fd, i)
}

func (t *Tree) setXattr(fd int, i int32, name string, value []byte) error {
	if t.old[i] {
		buf := make([]byte, len(value)+1)
		if n, err := unix.Fgetxattr(fd, name, buf); err == nil && string(buf[:n]) == string(value) {
			return nil
		}
	}
	return unix.Fsetxattr(fd, name, value, 0)
}

func (t *Tree) setTime(fd int, i int32) error {
	// A null path means the descriptor itself (utimensat(2)).
	ts := times(&t.m.Entries[i])
	_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("set time of %s: %w", t.name(i), errno)
	}
	if t.coarse {
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			return fmt.Errorf("stat %s: %w", t.name(i), err)
		}
		t.checkTime(i, &st)
	}
	return nil
}

var errCoarse = errors.New("the file system holds no such time")

// checkTime names an entry whose time came out as another one.
func (t *Tree) checkTime(i int32, st *unix.Stat_t) {
	if e := &t.m.Entries[i]; st.Mtim.Sec != e.Sec || st.Mtim.Nsec != int64(e.Nsec) {
		t.warnings.add("time of modification rounded or clamped", i, errCoarse)
	}
}

// probeTimes finds out whether a file system that the tree is restored to
// cuts times off (ext3 with small inodes: whole seconds, to 2038), without a
// word (utimensat(2) succeeds). Where none does, no time needs to be read back.
func (t *Tree) probeTimes() {
	for _, i := range t.mounts {
		fd, err := stream.OpenBeneath(t.root, t.m.Path(i), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			t.coarse = true
			continue
		}
		for _, ts := range [][2]unix.Timespec{{{Sec: -47000000, Nsec: 123456789}, {Sec: -47000000, Nsec: 123456789}}, {{Sec: 13569465600, Nsec: 5}, {Sec: 13569465600, Nsec: 5}}} {
			var st unix.Stat_t
			_, _, errno := unix.Syscall6(unix.SYS_UTIMENSAT, uintptr(fd), 0, uintptr(unsafe.Pointer(&ts)), 0, 0, 0)
			if errno != 0 || unix.Fstat(fd, &st) != nil || st.Mtim != ts[1] {
				t.coarse = true
			}
		}
		unix.Close(fd)
	}
}

// dropXattrs removes the attributes that the entry doesn't have, and says
// whether there were any.
func (t *Tree) dropXattrs(fd int, i int32) (any bool, err error) {
	var small [1024]byte
	buf := small[:]
	n, err := unix.Flistxattr(fd, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, 64<<10) // XATTR_LIST_MAX (linux/limits.h)
		n, err = unix.Flistxattr(fd, buf)
	}
	if errors.Is(err, unix.EOPNOTSUPP) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list xattrs of %s: %w", t.name(i), err)
	}
	x := t.m.Entries[i].Xattrs
	for _, name := range strings.Split(string(buf[:n]), "\x00") {
		if name == "" || x != nil && slices.ContainsFunc(x.Attrs, func(a stream.Xattr) bool { return a.Name == name }) {
			continue
		}
		any = true
		err := unix.Fremovexattr(fd, name)
		if err != nil && !errors.Is(err, unix.ENODATA) {
			t.warnings.add("xattr "+name+" not removed", i, err)
		}
	}
	return any, nil
}

// setName does the same for what can't be opened: a link, device, fifo or
// socket.
func (t *Tree) setName(dir int, i int32) error {
	e := &t.m.Entries[i]
	err := t.owner(i, unix.Fchownat(dir, e.Name, int(e.UID), int(e.GID), unix.AT_SYMLINK_NOFOLLOW))
	if err != nil {
		return err
	}
	if e.Type != stream.Symlink {
		if err := chmodName(dir, e.Name, uint32(e.Mode)); err != nil {
			return fmt.Errorf("chmod %s to %#o: %w", t.name(i), e.Mode, err)
		}
	}
	p := stream.ProcPath(dir, e.Name) // the last component isn't followed
	err = t.xattrs(i, func(name string, value []byte) error { return unix.Lsetxattr(p, name, value, 0) })
	if err != nil {
		return err
	}
	if e.Xattrs != nil && (e.Type == stream.Char || e.Type == stream.Block) && forgetful(dir) {
		t.warnings.add("xattrs of a device are forgotten", i, errForgetful)
	}
	ts := times(e)
	if err := unix.UtimesNanoAt(dir, e.Name, ts[:], unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("set time of %s: %w", t.name(i), err)
	}
	if t.coarse {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("stat %s: %w", t.name(i), err)
		}
		t.checkTime(i, &st)
	}
	return nil
}

var errForgetful = errors.New("reiserfs finds them by what a device's inode has no place for on the disk")

// forgetful says whether a directory is on a file system that takes attributes
// of devices and has lost them after the next mount: reiserfs names the file
// that holds them after the inode's generation, the place of which has the
// device's number (fs/reiserfs/reiserfs.h, struct stat_data).
func forgetful(dir int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(dir, &st) == nil && int64(st.Type) == unix.REISERFS_SUPER_MAGIC
}

// chmodName changes the mode of exactly the node that is at name: fchmodat
// can't be told not to follow before Linux 6.6.
func chmodName(dir int, name string, mode uint32) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFLNK {
		return unix.ELOOP
	}
	return unix.Chmod("/proc/self/fd/"+strconv.Itoa(fd), mode)
}

// times leaves the access time alone.
func times(e *stream.Entry) [2]unix.Timespec {
	ts := [2]unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Nsec: int64(e.Nsec)}}
	ts[1].Sec = e.Sec
	return ts
}

// owner judges a chown: only one who isn't root may be refused, or who is on
// FAT.
func (t *Tree) owner(i int32, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) && !t.privileged {
		t.warnings.add("owner not set (not root)", i, err)
		return nil
	}
	if errors.Is(err, unix.EPERM) && t.onFAT(i) {
		t.warnings.add("owner not set", i, err)
		return nil
	}
	e := &t.m.Entries[i]
	return fmt.Errorf("chown %s to %d:%d: %w", t.name(i), e.UID, e.GID, err)
}

// xattrs sets all attributes. What this file system or this kernel doesn't
// take (a label of another policy, user.* on a device, more than ext4 has room
// for beside one inode) is a warning.
func (t *Tree) xattrs(i int32, set func(name string, value []byte) error) error {
	x := t.m.Entries[i].Xattrs
	if x == nil {
		return nil
	}
	for _, a := range x.Attrs {
		err := set(a.Name, []byte(a.Value))
		switch {
		case err == nil:
		case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES), errors.Is(err, unix.EINVAL),
			errors.Is(err, unix.E2BIG), errors.Is(err, unix.ERANGE), errors.Is(err, unix.ENOSPC) && t.hasSpace(i):
			t.warnings.add("xattr "+a.Name+" not set", i, err)
		default:
			return fmt.Errorf("set xattr %s of %s: %w", a.Name, t.name(i), err)
		}
	}
	return nil
}

// hasSpace says whether the file system of entry i has blocks left: then
// ENOSPC means that there is no room for more attributes beside that inode.
func (t *Tree) hasSpace(i int32) bool {
	const few = 1 << 20
	st := t.fileSystem(i)
	return int64(st.Bavail)*st.Bsize > few
}

// onFAT says whether entry i is on a FAT: that has neither owners nor links
// nor anything but files and directories.
func (t *Tree) onFAT(i int32) bool { return int64(t.fileSystem(i).Type) == unix.MSDOS_SUPER_MAGIC }

// fileSystem is the one that entry i is on, or zero.
func (t *Tree) fileSystem(i int32) (st unix.Statfs_t) {
	path := t.m.Path(max(0, t.m.Entries[i].Parent))
	if t.m.Entries[i].Type == stream.Dir {
		path = t.m.Path(i) // may begin a file system
	}
	fd, err := stream.OpenBeneath(t.root, path, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return st
	}
	defer unix.Close(fd)
	if unix.Fstatfs(fd, &st) != nil {
		return unix.Statfs_t{}
	}
	return st
}
