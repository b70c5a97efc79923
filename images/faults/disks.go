package faults

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// wantUntouched: nothing may have been written on a node.
func (r *Run) wantUntouched(n *Node) {
	if _, err := os.Stat(n.Out); !errors.Is(err, os.ErrNotExist) {
		r.Break("%s has a copy, although it was not to take part (%v)", n, err)
	}
}

// victim reserves a node before the chain is there.
func (r *Run) victim(want Want) *Node {
	for _, i := range r.rand(70 + len(r.undo)).Perm(len(r.Nodes)) {
		if n := r.Nodes[i]; !n.taken && !n.Late {
			n.taken, n.Want = true, want
			return n
		}
	}
	return nil
}

// mountAt mounts something on a new folder of a node.
func (r *Run) mountAt(n *Node, name, source, kind, options string) (string, error) {
	dir := filepath.Join(n.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	flags := uintptr(0)
	if rest, ok := strings.CutPrefix(options, "sync"); ok {
		flags, options = unix.MS_SYNCHRONOUS, strings.TrimPrefix(rest, ",")
	}
	if err := unix.Mount(source, dir, kind, flags, options); err != nil {
		return "", fmt.Errorf("mount %s on %s: %w", source, dir, err)
	}
	r.Defer(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir, nil
}

// loop makes a block device of a file. It lives until nobody has it open or
// mounted: hold is what keeps it.
func loop(file string) (device string, hold *os.File, err error) {
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		return "", nil, fmt.Errorf("losetup %s: %w: %s", file, err, out)
	}
	device = strings.TrimSpace(string(out))
	hold, err = os.OpenFile(device, os.O_RDWR, 0)
	// Detaching a device that is open makes the kernel detach it when it no
	// longer is, however we end (LO_FLAGS_AUTOCLEAR, loop(4)).
	if out, derr := exec.Command("losetup", "--detach", device).CombinedOutput(); derr != nil {
		err = errors.Join(err, fmt.Errorf("losetup --detach %s: %w: %s", device, derr, out))
	}
	return device, hold, err
}

// loopDisk is a block device of a node, whose bytes are in a file in folder.
func (r *Run) loopDisk(folder string, bytes int64) (device string, err error) {
	file := filepath.Join(folder, "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(file, bytes); err != nil {
		return "", err
	}
	device, hold, err := loop(file)
	if hold != nil {
		r.Defer(func() { hold.Close() })
	}
	return device, err
}

// format puts a file system on a node's block device.
func (r *Run) format(n *Node, device, options string) (string, error) {
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", device).CombinedOutput(); err != nil {
		return "", fmt.Errorf("mkfs.ext4 %s: %w: %s", device, err, out)
	}
	return r.mountAt(n, "disk-fs", device, "ext4", options)
}

// SlowDisk is a disk that takes a tenth of what the chain brings. #5
func SlowDisk() Fault {
	return Fault{Name: "disk at a tenth", Promise: 6 * time.Second, Prepare: func(r *Run) error {
		n := r.victim(Finishes)
		if n == nil {
			return errNobody
		}
		n.Slow = true
		device, err := r.loopDisk(n.dir, r.Bytes+64<<20)
		if err != nil {
			return err
		}
		dir, err := r.format(n, device, "sync")
		if err != nil {
			return err
		}
		n.Out = filepath.Join(dir, "copy")
		n.Group, err = r.throttle(device, int64(r.Mbit)*1e6/8/10)
		r.Did("disk of %s is slow", n)
		return err
	}}
}

// throttle makes a group of processes that may write so many bytes a second to
// a device (Documentation/admin-guide/cgroup-v1/blkio-controller.rst). The
// file system must be mounted "sync": what is written later is nobody's.
func (r *Run) throttle(device string, rate int64) (string, error) {
	group := fmt.Sprintf("/sys/fs/cgroup/blkio/kamethod-%d-%s", os.Getpid(), filepath.Base(device))
	if err := os.Mkdir(group, 0o755); err != nil {
		return "", fmt.Errorf("a disk is made slow by the block I/O controller, which is not here: %w", err)
	}
	r.Defer(func() {
		for range 50 { // the last process must have gone from it
			if os.Remove(group) == nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	})
	number, err := os.ReadFile("/sys/class/block/" + filepath.Base(device) + "/dev")
	if err != nil {
		return "", err
	}
	line := fmt.Sprintf("%s %d", strings.TrimSpace(string(number)), rate)
	return group, os.WriteFile(filepath.Join(group, "blkio.throttle.write_bps_device"), []byte(line), 0)
}

// FullDisk is a file system that is full somewhere in the transfer. #17
func FullDisk() Fault {
	return Fault{Name: "file system full", Promise: 2 * time.Second, Prepare: func(r *Run) error {
		n := r.victim(Fails)
		if n == nil {
			return errNobody
		}
		n.Cause = "no space left"
		room := int64(float64(r.Bytes) * (0.1 + 0.7*r.rand(71).Float64()))
		dir, err := r.mountAt(n, "small", "none", "tmpfs", fmt.Sprintf("size=%d", room))
		n.Out = filepath.Join(dir, "copy")
		r.Did("file system of %s takes %d bytes", n, room)
		return err
	}}
}

// FileTooLarge is a limit that a process meets, as a quota would be: the write
// that goes beyond it fails. #16
func FileTooLarge() Fault {
	return Fault{Name: "write fails (EFBIG)", Promise: 2 * time.Second, To: 0.6, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Fails)
		if n == nil {
			return errNobody
		}
		n[0].Cause = "file too large"
		r.Did("%s may write no further than 10 %%", n[0])
		limit := unix.Rlimit{Cur: uint64(r.Bytes / 10), Max: uint64(r.Bytes / 10)}
		return unix.Prlimit(n[0].prog.Pid(), unix.RLIMIT_FSIZE, &limit, nil)
	}}
}

// BrokenDisk is a disk whose writes give EIO from some place on: it lies in a
// file that can't grow. #16
func BrokenDisk() Fault {
	return Fault{Name: "disk gives EIO", Promise: 2 * time.Second, Prepare: func(r *Run) error {
		n := r.victim(Fails)
		if n == nil {
			return errNobody
		}
		n.Cause = "/copy" // the path; the errno is the kernel's choice
		room, err := r.mountAt(n, "platter", "none", "tmpfs", fmt.Sprintf("size=%d", r.Bytes/2))
		if err != nil {
			return err
		}
		device, err := r.loopDisk(room, r.Bytes+64<<20)
		if err != nil {
			return err
		}
		dir, err := r.format(n, device, "sync")
		n.Out = filepath.Join(dir, "copy")
		r.Did("disk of %s is broken from the middle on", n)
		return err
	}}
}

// LyingDisk is a disk that takes every write, and says at the end that it has
// lost some. #18
func LyingDisk() Fault {
	return Fault{Name: "flush fails at the end", Promise: 2 * time.Second, Prepare: func(r *Run) error {
		n := r.victim(Fails)
		if n == nil {
			return errNobody
		}
		room, err := r.mountAt(n, "platter", "none", "tmpfs", fmt.Sprintf("size=%d", r.Bytes/2))
		if err != nil {
			return err
		}
		n.Out, err = r.loopDisk(room, r.Bytes)
		r.Did("disk of %s holds half of what it takes", n)
		return err
	}}
}

// BadSource is a source that golden can't read from some place on: it goes on
// with zeros in their place, names them, and nobody takes that for success. #21
func BadSource() Fault {
	return Fault{Name: "golden's disk can't be read", Alone: true, Prepare: func(r *Run) error {
		file := filepath.Join(r.Dir, "source")
		if out, err := exec.Command("cp", "--sparse=never", r.Source, file).CombinedOutput(); err != nil {
			return fmt.Errorf("copy the source: %w: %s", err, out)
		}
		device, hold, err := loop(file)
		if hold != nil {
			r.Defer(func() { hold.Close() })
		}
		r.Source, r.Torn = device, true
		return err
	}, To: 0.3, Inject: func(ctx context.Context, r *Run) error {
		r.Did("golden's disk ends in the middle")
		return os.Truncate(filepath.Join(r.Dir, "source"), r.Bytes/2)
	}}
}
