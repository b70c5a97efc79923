package capture

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// linux/btrfs.h and linux/btrfs_tree.h.
const (
	btrfsSnapCreateV2     = 0x50009417 // BTRFS_IOC_SNAP_CREATE_V2
	btrfsSnapDestroy      = 0x5000940f // BTRFS_IOC_SNAP_DESTROY
	btrfsSubvolGetFlags   = 0x80089419 // BTRFS_IOC_SUBVOL_GETFLAGS
	btrfsGetSubvolRootref = 0xd000943d // BTRFS_IOC_GET_SUBVOL_ROOTREF
	btrfsInoLookupUser    = 0xd000943e // BTRFS_IOC_INO_LOOKUP_USER
	btrfsReadOnly         = 1 << 1     // BTRFS_SUBVOL_RDONLY
	btrfsTopInode         = 256        // BTRFS_FIRST_FREE_OBJECTID: the top of every subvolume
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

// volArgsV2 is struct btrfs_ioctl_vol_args_v2.
type volArgsV2 struct {
	fd, transid, flags uint64
	_                  [4]uint64
	name               [4040]byte
}

// rootrefArgs is struct btrfs_ioctl_get_subvol_rootref_args.
type rootrefArgs struct {
	min uint64
	ref [255]struct{ tree, dir uint64 }
	n   uint8
	_   [7]byte
}

// lookupArgs is struct btrfs_ioctl_ino_lookup_user_args.
type lookupArgs struct {
	dir, tree uint64
	name      [256]byte
	path      [3824]byte
}

func btrfsIoctl(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch e {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return e
		}
	}
}

// snapshotName is how a snapshot is called, at the top of its subvolume. Who
// took it holds a lock on it (flock(2)): one without is left over.
const snapshotName = ".kamethod-snapshot-"

func isSnapshotName(name string) bool {
	return regexp.MustCompile(`^\.kamethod-snapshot-\d{1,10}$`).MatchString(name)
}

func isBtrfs(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && uint32(st.Type) == unix.BTRFS_SUPER_MAGIC
}

// btrfs makes the last place a picture of the subvolume that holds dir, and
// adds places for the subvolumes below, of which a snapshot holds nothing.
func (s *Snapshot) btrfs(m mounted, dir, at string) error {
	top, err := subvolumeTop(dir, m.Mountpoint)
	if err != nil {
		return err
	}
	picture, err := s.subvolume(top)
	if err != nil {
		return err
	}
	rel, err := filepath.Rel(top, dir)
	if err != nil {
		return err
	}
	s.places[len(s.places)-1].source = filepath.Join(picture, rel)
	return s.nested(top, dir, at)
}

// subvolumeTop looks for the top of dir's subvolume, up to its mount point.
func subvolumeTop(dir, mountPoint string) (string, error) {
	for p := dir; Beneath(p, mountPoint); p = filepath.Dir(p) {
		st, err := look(p)
		if err != nil {
			return "", fmt.Errorf("stat %s: %w", p, err)
		}
		if st.Ino == btrfsTopInode {
			return p, nil
		}
		if p == "/" {
			break
		}
	}
	return "", fmt.Errorf("the top of the subvolume of %s is not mounted", dir)
}

// nested adds the subvolumes that can be seen below dir, which is the place at
// and lies in the subvolume top.
func (s *Snapshot) nested(top, dir, at string) error {
	self, err := look(dir)
	if err != nil {
		return fmt.Errorf("stat %s: %w", dir, err)
	}
	below, err := subvolumesBelow(top)
	if err != nil {
		return fmt.Errorf("list the subvolumes in %s: %w", top, err)
	}
	for _, rel := range below {
		path := filepath.Join(top, rel)
		if !Beneath(path, dir) || isSnapshotName(filepath.Base(path)) {
			continue
		}
		where := filepath.Join(at, strings.TrimPrefix(path, dir))
		st, err := look(path)
		if err != nil || st.Ino != btrfsTopInode || st.Mnt_id != self.Mnt_id || s.excluded(where) {
			continue // gone, covered by a mount, or not read
		}
		picture, err := s.subvolume(path)
		if err != nil {
			return err
		}
		s.places = append(s.places, place{at: where, source: picture})
		s.Mounts = append(s.Mounts, where)
		if err := s.nested(path, path, where); err != nil {
			return err
		}
	}
	return nil
}

// subvolumesBelow is the paths of the subvolumes in one, relative to its top.
func subvolumesBelow(top string) ([]string, error) {
	f, err := os.Open(top)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	var list []string
	for a := new(rootrefArgs); ; {
		err := btrfsIoctl(fd, btrfsGetSubvolRootref, unsafe.Pointer(a))
		if err != nil && !errors.Is(err, unix.EOVERFLOW) { // which means that there are more
			return nil, err
		}
		for _, ref := range a.ref[:a.n] {
			l := &lookupArgs{dir: ref.dir, tree: ref.tree}
			if err := btrfsIoctl(fd, btrfsInoLookupUser, unsafe.Pointer(l)); errors.Is(err, unix.ENOENT) {
				continue // gone meanwhile
			} else if err != nil {
				return nil, err
			}
			list = append(list, filepath.Join(cString(l.path[:]), cString(l.name[:])))
		}
		if err == nil || a.n == 0 {
			return list, nil
		}
		a.min = a.ref[a.n-1].tree + 1
	}
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}

// subvolume takes a snapshot of the subvolume whose top is dir, and returns
// where it is.
func (s *Snapshot) subvolume(dir string) (string, error) {
	top, err := os.Open(dir)
	if err != nil {
		return "", err
	}
	done := false
	defer func() {
		if !done {
			top.Close()
		}
	}()
	st, err := look(dir)
	if err != nil {
		return "", fmt.Errorf("stat %s: %w", dir, err)
	}
	dev := unix.Mkdev(st.Dev_major, st.Dev_minor)
	if p, ok := s.taken[dev]; ok {
		return p, nil
	}
	var flags uint64
	if err := btrfsIoctl(int(top.Fd()), btrfsSubvolGetFlags, unsafe.Pointer(&flags)); err != nil {
		return "", fmt.Errorf("flags of subvolume %s: %w", dir, err)
	}
	if flags&btrfsReadOnly != 0 {
		return dir, nil // a snapshot itself, of snapper or its like
	}
	// Whoever looks for what is left over waits until we have locked ours.
	if err := lock(top, 5*time.Second); err != nil {
		return "", err
	}
	if err := s.removeLeft(top); err != nil {
		return "", err
	}
	name := fmt.Sprint(snapshotName, os.Getpid())
	if err := createSnapshot(top, name); err != nil {
		return "", err
	}
	held, err := os.Open(filepath.Join(dir, name))
	if err == nil {
		err = lock(held, 0)
	}
	if err != nil {
		return "", errors.Join(err, destroySnapshot(top, name))
	}
	done = true
	s.undo = append(s.undo, func() error {
		defer top.Close()
		defer held.Close()
		return destroySnapshot(top, name)
	})
	s.taken[dev] = held.Name()
	return held.Name(), unix.Flock(int(top.Fd()), unix.LOCK_UN)
}

// lock waits for a lock no longer than limit.
func lock(f *os.File, limit time.Duration) error {
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil || errors.Is(err, unix.EINTR) {
			return err
		}
		if !time.Now().Before(end) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// removeLeft removes what golden-serves that were killed have left.
func (s *Snapshot) removeLeft(top *os.File) error {
	entries, err := os.ReadDir(top.Name())
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || !isSnapshotName(e.Name()) {
			continue
		}
		path := filepath.Join(top.Name(), e.Name())
		if st, err := look(path); err != nil || st.Ino != btrfsTopInode {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		if lock(f, 0) == nil { // else it is in use
			err = destroySnapshot(top, e.Name())
			s.note("snapshot: %s, left by a run that was killed, removed", path)
		}
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

func createSnapshot(top *os.File, name string) error {
	a := &volArgsV2{fd: uint64(top.Fd()), flags: btrfsReadOnly}
	copy(a.name[:len(a.name)-1], name)
	err := keepTime(top, func() error { return btrfsIoctl(int(top.Fd()), btrfsSnapCreateV2, unsafe.Pointer(a)) })
	if err != nil {
		return fmt.Errorf("snapshot of subvolume %s: %w", top.Name(), err)
	}
	return nil
}

func destroySnapshot(top *os.File, name string) error {
	a := &volArgs{}
	copy(a.name[:len(a.name)-1], name)
	err := keepTime(top, func() error { return btrfsIoctl(int(top.Fd()), btrfsSnapDestroy, unsafe.Pointer(a)) })
	if err != nil {
		return fmt.Errorf("remove snapshot %s: %w", filepath.Join(top.Name(), name), err)
	}
	return nil
}

// keepTime lets f leave no trace in the modification time of a directory:
// golden stays as it was.
func keepTime(dir *os.File, f func() error) error {
	st, err := dir.Stat()
	if err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	return os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", dir.Fd()), time.Time{}, st.ModTime())
}
