package stream

import (
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// pathChunk is how much of a path goes into one openat2: PATH_MAX is 4096
// with its NUL (linux/limits.h).
const pathChunk = 4000

// OpenBeneath opens path below the directory root. No symbolic link on the
// way is followed and nothing outside root is reached, whatever others do to
// the tree meanwhile; mount points are crossed. The path may be longer than
// PATH_MAX; "" is root itself.
func OpenBeneath(root int, path string, flags int, perm uint32) (int, error) {
	fd := root
	for len(path) > pathChunk {
		cut := strings.LastIndexByte(path[:pathChunk], '/')
		if cut <= 0 {
			break
		}
		next, err := openat2(fd, path[:cut], unix.O_PATH|unix.O_DIRECTORY, 0)
		if fd != root {
			unix.Close(fd)
		}
		if err != nil {
			return -1, err
		}
		fd, path = next, path[cut+1:]
	}
	if path == "" {
		path = "."
	}
	f, err := openat2(fd, path, flags, perm)
	if fd != root {
		unix.Close(fd)
	}
	return f, err
}

func openat2(dir int, path string, flags int, perm uint32) (int, error) {
	how := unix.OpenHow{
		Flags:   uint64(flags) | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	if flags&unix.O_CREAT != 0 {
		how.Mode = uint64(perm)
	}
	for {
		fd, err := unix.Openat2(dir, path, &how)
		// EAGAIN: something was renamed while the kernel resolved (openat2(2)).
		if err != unix.EINTR && err != unix.EAGAIN {
			return fd, err
		}
	}
}

// openQuietly is OpenBeneath for reading, without a mark on the file's atime
// where we may (O_NOATIME needs the owner or CAP_FOWNER).
func openQuietly(root int, path string, flags int) (int, error) {
	flags |= unix.O_RDONLY | unix.O_NONBLOCK
	open := OpenBeneath
	if !strings.Contains(path, "/") && path != ".." && path != "" {
		open = openName
	}
	fd, err := open(root, path, flags|unix.O_NOATIME, 0)
	if err == unix.EPERM {
		fd, err = open(root, path, flags, 0)
	}
	return fd, err
}

// openName is OpenBeneath for a single component, for which openat does.
func openName(dir int, name string, flags int, perm uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, perm)
		if err != unix.EINTR {
			return fd, err
		}
	}
}

// openDirPath opens the root of a tree. Here links are followed: the path is
// the administrator's.
func openDirPath(path string) (int, error) {
	for {
		fd, err := unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return -1, fmt.Errorf("open root %s: %w", path, err)
		}
		return fd, nil
	}
}

// preadFull reads until buf is full or the file ends.
func preadFull(fd int, buf []byte, off int64) (int, error) {
	var n int
	for n < len(buf) {
		m, err := unix.Pread(fd, buf[n:], off+int64(n))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, err
		}
		if m == 0 {
			break
		}
		n += m
	}
	return n, nil
}
