package cook

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// below is where the plan's mounts are. They hold file systems of the node's,
// with links that anybody may have made: names are looked up as a system with
// this root would, where a link that begins with / begins at the root, and none
// leads out.
//
//	root ─▶ /mnt/disk/            memory: a mount point may be there, a file not
//	        /mnt/disk/boot/       a mount
//	        /mnt/disk/boot/l ─▶ /dev/sdb: /mnt/disk/dev/sdb, and not stage 2's
type below struct {
	root   string
	memory uint64 // device number of what the root itself is on
}

func newBelow(root string) (below, error) {
	if err := os.MkdirAll(root, 0o755); err != nil {
		return below{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(root, &st); err != nil {
		return below{}, &os.PathError{Op: "stat", Path: root, Err: err}
	}
	return below{root: root, memory: st.Dev}, nil
}

// openTries is how often a name is looked up anew that the kernel gave up
// because something else was mounted or renamed at that moment (openat2(2),
// EAGAIN).
const openTries = 100

// open looks the root up each time: something may have been mounted over it.
func (b below) open(name string, flags int) (*os.File, error) {
	top, err := unix.Open(b.root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: b.root, Err: err}
	}
	defer unix.Close(top)
	how := unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(top, name, &how)
	for n := 0; n < openTries && (errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR)); n++ {
		fd, err = unix.Openat2(top, name, &how)
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// mountPoint opens a folder, and makes what is missing of it.
func (b below) mountPoint(name string) (*os.File, error) {
	d, err := b.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, os.ErrNotExist) || name == "/" {
		return d, err
	}
	up, err := b.mountPoint(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer up.Close()
	if err := unix.Mkdirat(int(up.Fd()), path.Base(name), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return b.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// folder is a mountPoint for files.
func (b below) folder(name string) (*os.File, error) {
	d, err := b.mountPoint(name)
	if err != nil {
		return nil, err
	}
	if _, err := b.onDisk(d); err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func (b below) onDisk(f *os.File) (st unix.Stat_t, err error) {
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return st, &os.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	if st.Dev == b.memory {
		return st, fmt.Errorf("%s: a link there leads to where nothing is mounted", f.Name())
	}
	return st, nil
}

// file finds the file that gets contents. What is given back is held open and
// reached by the second value: the file, or its name in a folder without it.
func (b below) file(name string) (*os.File, string, error) {
	dir, err := b.folder(path.Dir(name))
	if err != nil {
		return nil, "", err
	}
	var st unix.Stat_t
	err = unix.Fstatat(int(dir.Fd()), path.Base(name), &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return dir, fdPath(dir) + "/" + path.Base(name), nil
	}
	defer dir.Close()
	if err != nil {
		return nil, "", &os.PathError{Op: "stat", Path: name, Err: err}
	}
	f, err := b.open(name, unix.O_PATH)
	if err != nil {
		return nil, "", err // a link that leads nowhere, too
	}
	st, err = b.onDisk(f)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = fmt.Errorf("%s: is no file", name)
	}
	if err != nil {
		return nil, "", errors.Join(err, f.Close())
	}
	return f, fdPath(f), nil
}

// fdPath is another name of an open file, for what takes names only.
func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }
