package capture

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// assemble mounts the places as one tree and makes it the Root. It does so in
// a mount namespace of its own, which ends with the process at the latest:
// nobody sees the mounts, and none is left over.
func (s *Snapshot) assemble() error {
	slices.SortStableFunc(s.places, func(a, b place) int { return strings.Compare(a.at, b.at) })
	var root, space int
	err := onOwnThread(func() (err error) {
		root, space, err = mountPlaces(s.places)
		return err
	})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, func() error {
		return errors.Join(unix.Close(root), unix.Close(space))
	})
	s.Root = fmt.Sprintf("/proc/self/fd/%d", root)
	return nil
}

// onOwnThread runs f on a thread that ends with it, and is not the process's
// first: /proc/self shows that one's mounts.
func onOwnThread(f func() error) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			result <- onOwnThread(f) // which gets another, this one being taken
			runtime.UnlockOSThread()
			return
		}
		result <- f() // still locked: the runtime ends the thread
	}()
	return <-result
}

// stage is a directory that is there on every Linux, and that in our namespace
// nobody needs.
const stage = "/proc"

// mountPlaces returns the top of the tree and the namespace that holds it.
func mountPlaces(places []place) (root, space int, err error) {
	root, space = -1, -1
	var mounts []int // not yet attached, or attached: closing them is right then
	defer func() {
		for _, fd := range mounts {
			unix.Close(fd)
		}
		if err != nil {
			unix.Close(root)
			unix.Close(space)
		}
	}()
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return root, space, fmt.Errorf("make a mount namespace: %w", err)
	}
	// What is unmounted outside must not be held here: slave, not private.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return root, space, fmt.Errorf("make mounts our own: %w", err)
	}
	if space, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return root, space, fmt.Errorf("open mount namespace: %w", err)
	}
	for _, p := range places {
		fd, err := p.open()
		if err != nil {
			return root, space, err
		}
		mounts = append(mounts, fd)
	}
	for i, p := range places {
		if err := attach(mounts[0], mounts[i], p.at); err != nil {
			return root, space, fmt.Errorf("mount %s: %w", p.at, err)
		}
	}
	if root, err = unix.Openat(mounts[0], ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return root, space, fmt.Errorf("open the tree of snapshots: %w", err)
	}
	return root, space, nil
}

// open is a mount of the place that is attached nowhere so far.
func (p place) open() (int, error) {
	source := p.source
	if v := p.volume; v != nil {
		if err := unix.Mount(v.device, stage, v.kind, unix.MS_RDONLY, v.options); err != nil {
			return -1, fmt.Errorf("mount %s: %w", v.device, err)
		}
		defer unix.Unmount(stage, unix.MNT_DETACH)
		source = stage + p.source
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, source, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_NO_AUTOMOUNT)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", source, err)
	}
	return fd, nil
}

// attach puts a mount at its place in the tree; the first is its root.
func attach(root, fd int, at string) error {
	if at == "/" {
		return unix.MoveMount(fd, "", unix.AT_FDCWD, stage, unix.MOVE_MOUNT_F_EMPTY_PATH)
	}
	dir, err := stream.OpenBeneath(root, strings.TrimPrefix(at, "/"), unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	defer unix.Close(dir)
	return unix.MoveMount(fd, "", dir, "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
}
