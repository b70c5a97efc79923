package diskless

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/u-root/u-root/pkg/mount/loop"
	"golang.org/x/sys/unix"
)

// kindOf knows the file systems that an image may be by their first bytes:
// squashfs (include/uapi/linux/magic.h, little endian) and ext2 to ext4 (the
// super block is at 1024, its magic at 56 in it: fs/ext4/ext4.h).
func kindOf(head []byte) (kind string, ok bool) {
	if len(head) >= 4 && string(head[:4]) == "hsqs" {
		return "squashfs", true
	}
	if len(head) >= 1024+58 && binary.LittleEndian.Uint16(head[1024+56:]) == 0xef53 {
		return "ext4", true // which mounts ext2 and ext3 too
	}
	return "", false
}

func (r *Root) kind() (string, error) {
	f, err := os.Open(r.image)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head := make([]byte, 2048)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read what golden has sent: %w", err)
	}
	kind, ok := kindOf(head[:n])
	if !ok {
		return "", errors.New("what golden has sent is neither a squashfs nor an ext2, ext3 or ext4 image: nothing to run")
	}
	return kind, nil
}

// mount lays a writable layer over the image. Below it, nothing is seen of
// either: the kernel keeps what it needs.
func (r *Root) mount() error {
	kind, err := r.kind()
	if err != nil {
		return err
	}
	for _, name := range []string{"loop", kind, "overlay"} {
		if err := r.Load(name); err != nil {
			return err
		}
	}
	lower, rw := filepath.Join(r.Dir, "lower"), filepath.Join(r.Dir, "rw")
	if err := os.MkdirAll(lower, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := mountLoop(r.image, kind, lower); err != nil {
		return err
	}
	if err := ram(rw, "mode=700,nr_inodes=0"); err != nil {
		return err
	}
	if err := r.overlay(lower, rw); err != nil {
		return err
	}
	for _, dir := range []string{rw, lower, filepath.Dir(r.image)} {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	return nil
}

// mountLoop mounts an image, by a block device that ends with the mount.
func mountLoop(image, kind, to string) error {
	dev, err := loop.New(image, kind, "")
	if err != nil {
		return fmt.Errorf("make a block device of the image: %w", err)
	}
	f, err := os.Open(dev.DevName()) // it stays until this is closed, and the mount holds it
	if err == nil {
		defer f.Close()
		err = unix.IoctlLoopSetStatus64(int(f.Fd()), &unix.LoopInfo64{Flags: unix.LO_FLAGS_AUTOCLEAR})
	}
	if err != nil {
		return fmt.Errorf("prepare %s for the image: %w", dev.DevName(), errors.Join(err, dev.Free()))
	}
	if _, err := dev.Mount(to, unix.MS_RDONLY); err != nil {
		return fmt.Errorf("mount the image, a %s: %w", kind, err)
	}
	return nil
}

func (r *Root) overlay(lower, rw string) error {
	upper, work := filepath.Join(rw, "upper"), filepath.Join(rw, "work")
	for _, dir := range []string{upper, work, r.NewRoot} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make mount point: %w", err)
		}
	}
	// The root folder's owner and mode are the upper one's.
	var st unix.Stat_t
	if err := unix.Stat(lower, &st); err != nil {
		return fmt.Errorf("look at the image's root: %w", err)
	}
	if err := errors.Join(unix.Chown(upper, int(st.Uid), int(st.Gid)), unix.Chmod(upper, st.Mode&0o7777)); err != nil {
		return fmt.Errorf("give the root its owner and mode: %w", err)
	}
	layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work)
	if err := unix.Mount("overlay", r.NewRoot, "overlay", 0, layers); err != nil {
		return fmt.Errorf("mount overlay (%s) on %s: %w", layers, r.NewRoot, err)
	}
	return nil
}
