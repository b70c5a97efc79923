package diskless

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// inside reaches files of another root as a program in there would: a link
// that begins with / begins at that root, and none leads out of it.
type inside struct{ fd int }

func openInside(root string) (*inside, error) {
	fd, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the new root %s: %w", root, err)
	}
	return &inside{fd}, nil
}

func (i *inside) close() error { return unix.Close(i.fd) }

// maxText bounds what is read of a root's text files, in bytes.
const maxText = 1 << 20

func (i *inside) open(name string, flags int) (*os.File, error) {
	// RESOLVE_IN_ROOT: openat2(2).
	fd, err := unix.Openat2(i.fd, name, &unix.OpenHow{Flags: uint64(flags | unix.O_CLOEXEC), Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// stat follows links.
func (i *inside) stat(name string) (os.FileInfo, error) {
	f, err := i.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.Stat()
}

// program says whether a file is there that can be started.
func (i *inside) program(name string) bool {
	st, err := i.stat(name)
	return err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0
}

func (i *inside) has(name string) bool {
	_, err := i.stat(name)
	return err == nil
}

// read gives a text file; it must be a plain one.
func (i *inside) read(name string) ([]byte, error) {
	f, err := i.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() || st.Size() > maxText {
		return nil, fmt.Errorf("read %s: no file, or one of more than %d bytes", name, maxText)
	}
	return io.ReadAll(io.LimitReader(f, maxText))
}

// folder opens a directory, and makes what is missing of it.
func (i *inside) folder(name string) (*os.File, error) {
	d, err := i.open(name, unix.O_PATH|unix.O_DIRECTORY)
	if !errors.Is(err, os.ErrNotExist) || name == "/" {
		return d, err
	}
	up, err := i.folder(path.Dir(name))
	if err != nil {
		return nil, err
	}
	defer up.Close()
	if err := unix.Mkdirat(int(up.Fd()), path.Base(name), 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &os.PathError{Op: "mkdir", Path: name, Err: err}
	}
	return i.open(name, unix.O_PATH|unix.O_DIRECTORY)
}

// write puts a new file in a name's place, whatever was there: a link is
// replaced and not followed. name is absolute and clean.
func (i *inside) write(name string, text []byte, mode os.FileMode) error {
	if !path.IsAbs(name) || path.Clean(name) != name || name == "/" || strings.ContainsRune(name, 0) {
		return fmt.Errorf("write %q: is no clean absolute name", name)
	}
	dir, err := i.folder(path.Dir(name))
	if err != nil {
		return err
	}
	defer dir.Close()
	at, base := int(dir.Fd()), path.Base(name)
	if err := unix.Unlinkat(at, base, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "replace", Path: name, Err: err}
	}
	fd, err := unix.Openat(at, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(mode.Perm()))
	if err != nil {
		return &os.PathError{Op: "make", Path: name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(mode.Perm()), f.Close()) // the umask is not asked
}

// remove removes the plain files and links of a folder that want says; a
// folder that isn't there has none.
func (i *inside) remove(folder string, want func(name string) bool) error {
	d, err := i.open(folder, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, n := range names {
		if !want(n) {
			continue
		}
		if err := unix.Unlinkat(int(d.Fd()), n, 0); err != nil {
			return &os.PathError{Op: "remove", Path: path.Join(folder, n), Err: err}
		}
	}
	return nil
}
