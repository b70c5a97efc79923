// Package pid1 is what the first process of a node owes to the kernel,
// whichever stage it is in: the usual mounts, burying orphans, going through
// named stages, the reboot. What the stages do is the inits' own business.
//
//	Mounts ──▶ stage ──▶ stage ──▶ … ──▶ Reboot, or the next init
//	             │failed
//	             └──▶ says which and why, keeps a shell
package pid1

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

type mountPoint struct {
	source, target, kind string
	flags                uintptr
	data                 string
}

const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// mountPoints is in the order of mounting. /run holds stage 2's image while
// the root file system, half of the RAM, still holds stage 1: hence its size.
// It is a mount of its own so that it moves into stage 2.
func mountPoints() []mountPoint {
	return []mountPoint{
		{"proc", "/proc", "proc", safe, ""},
		{"sysfs", "/sys", "sysfs", safe, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "gid=5,mode=620,ptmxmode=666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=755,size=80%"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
	}
}

// Mounts mounts what isn't mounted yet. It goes on after a failure and
// returns all of them.
func Mounts() error {
	var errs []error
	for _, m := range mountPoints() {
		errs = append(errs, m.mount())
	}
	return errors.Join(append(errs, links())...)
}

func (m mountPoint) mount() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("make mount point %s: %w", m.target, err)
	}
	mounted, err := isMount(m.target)
	if err != nil || mounted {
		return err
	}
	if err := unix.Mount(m.source, m.target, m.kind, m.flags, m.data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.kind, m.target, err)
	}
	return nil
}

// isMount compares devices: /proc isn't there to ask at first.
func isMount(path string) (bool, error) {
	var here, parent unix.Stat_t
	if err := unix.Stat(path, &here); err != nil {
		return false, fmt.Errorf("stat %s: %w", path, err)
	}
	if err := unix.Stat(path+"/..", &parent); err != nil {
		return false, fmt.Errorf("stat %s/..: %w", path, err)
	}
	return here.Dev != parent.Dev, nil
}

// links are what udev makes in /dev and programs in a chroot rely on.
func links() error {
	var errs []error
	for name, target := range map[string]string{
		"/dev/fd": "/proc/self/fd", "/dev/stdin": "fd/0", "/dev/stdout": "fd/1", "/dev/stderr": "fd/2",
	} {
		if err := os.Symlink(target, name); err != nil && !errors.Is(err, fs.ErrExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
