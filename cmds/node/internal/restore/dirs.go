package restore

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// held is the directory that was opened last: entries come grouped by theirs.
type held struct {
	t     *Tree
	index int32
	fd    int
}

func (t *Tree) hold() *held { return &held{t: t, index: -1, fd: -1} }

func (h *held) close() {
	if h.fd >= 0 {
		unix.Close(h.fd)
	}
	h.index, h.fd = -1, -1
}

// open is the directory with that index. It is opened for reading, not as a
// mere path, because /proc/self/fd and syncfs want that.
func (h *held) open(index int32) (int, error) {
	if h.index == index && h.fd >= 0 {
		return h.fd, nil
	}
	h.close()
	fd, err := stream.OpenBeneath(h.t.root, h.t.m.Path(index), unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", h.t.name(index), err)
	}
	h.index, h.fd = index, fd
	return fd, nil
}

// openIn opens entry i in its directory.
func (h *held) openIn(i int32, flags int) (int, error) {
	e := &h.t.m.Entries[i]
	dir, name := h.t.root, "."
	if i > 0 {
		var err error
		if dir, err = h.open(e.Parent); err != nil {
			return -1, err
		}
		name = e.Name
	}
	fd, err := unix.Openat(dir, name, flags|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", h.t.name(i), err)
	}
	return fd, nil
}

// makeDirs makes all directories, for us alone until Finish gives them away.
func (t *Tree) makeDirs() error {
	h := t.hold()
	defer h.close()
	var root unix.Stat_t
	if err := unix.Fstat(t.root, &root); err != nil {
		return fmt.Errorf("stat %s: %w", t.path, err)
	}
	t.mounts = append(t.mounts, 0)
	if err := t.takeOver(0, t.root); err != nil {
		return err
	}
	t.early(t.root, 0)
	devs := map[uint64]bool{uint64(root.Dev): true}
	for i := 1; i < len(t.m.Entries); i++ {
		e := &t.m.Entries[i]
		if e.Type != stream.Dir {
			continue
		}
		dir, err := h.open(e.Parent)
		if err != nil {
			return err
		}
		dev, err := t.makeDir(dir, int32(i))
		if err != nil {
			return err
		}
		if dev != 0 && !devs[dev] {
			devs[dev] = true
			t.mounts = append(t.mounts, int32(i))
		}
	}
	t.probeTimes()
	return nil
}

// makeDir makes one directory, or takes over the one that is there and
// returns its device.
func (t *Tree) makeDir(dir int, i int32) (dev uint64, err error) {
	e := &t.m.Entries[i]
	err = unix.Mkdirat(dir, e.Name, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return 0, fmt.Errorf("stat %s: %w", t.name(i), err)
		}
		if st.Mode&unix.S_IFMT == unix.S_IFDIR {
			fd, err := stream.OpenBeneath(dir, e.Name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
			if err != nil {
				return 0, fmt.Errorf("open %s: %w", t.name(i), err)
			}
			defer unix.Close(fd)
			err = t.takeOver(i, fd)
			t.early(fd, i)
			return uint64(st.Dev), err
		}
		if err := t.clear(dir, i); err != nil {
			return 0, err
		}
		err = unix.Mkdirat(dir, e.Name, 0o700)
	}
	if err != nil {
		return 0, fmt.Errorf("make directory %s: %w", t.name(i), err)
	}
	if t.isEarly(i) {
		return 0, t.earlyDir(dir, i)
	}
	return 0, nil
}

// takeOver makes an existing directory one of ours: so that nobody else gets
// in, and what is created in it inherits neither group nor ACL nor flags.
func (t *Tree) takeOver(i int32, fd int) error {
	t.taken = append(t.taken, i)
	dropFlags(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("stat %s: %w", t.name(i), err)
	}
	if t.privileged && (st.Uid != 0 || st.Gid != 0) {
		if err := unix.Fchown(fd, 0, 0); err != nil {
			return fmt.Errorf("chown %s to 0:0: %w", t.name(i), err)
		}
	}
	for _, acl := range []string{"system.posix_acl_default", "system.posix_acl_access"} {
		err := unix.Fremovexattr(fd, acl)
		if err != nil && !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("remove %s of %s: %w", acl, t.name(i), err)
		}
	}
	if st.Mode&0o7777 != 0o700 {
		if err := unix.Fchmod(fd, 0o700); err != nil {
			return fmt.Errorf("chmod %s to 0700: %w", t.name(i), err)
		}
	}
	return nil
}
