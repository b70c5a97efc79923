package fixup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// makeNodes fills the clone's /dev: what every program expects, the disks of
// the plan with their partitions, and the links by UUID that udev would make.
// grub-mkconfig writes root=UUID= only where it sees the link, and root=/dev/…
// otherwise. A node's other disks are left out: nothing that a program of the
// clone does can reach them.
func (c *chroot) makeNodes(dev string) error {
	for _, n := range []struct {
		name         string
		major, minor uint32 // Documentation/admin-guide/devices.txt
	}{
		{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	} {
		if err := mknod(filepath.Join(dev, n.name), unix.S_IFCHR|0o666, unix.Mkdev(n.major, n.minor)); err != nil {
			return err
		}
	}
	links := map[string]string{
		"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2",
	}
	for _, v := range c.vols {
		for _, d := range []string{v.disk, v.now.Device} {
			if err := copyBlock(dev, d); err != nil {
				return err
			}
		}
		target := filepath.Join("../..", strings.TrimPrefix(v.now.Device, "/dev/"))
		links["disk/by-uuid/"+v.now.UUID] = target
		if v.now.PartID != "" {
			links["disk/by-partuuid/"+v.now.PartID] = target
		}
	}
	for name, target := range links {
		if err := link(target, filepath.Join(dev, name)); err != nil {
			return err
		}
	}
	return nil
}

// copyBlock makes a node's block device in the clone's /dev, by the same name,
// and those of its partitions.
func copyBlock(dev, device string) error {
	name, ok := strings.CutPrefix(filepath.Clean(device), "/dev/")
	if !ok {
		return fmt.Errorf("device %q is not in /dev", device)
	}
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Errorf("look at %s: %w", device, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fmt.Errorf("%s is not a block device", device)
	}
	if err := mknod(filepath.Join(dev, name), unix.S_IFBLK|0o660, st.Rdev); err != nil {
		return err
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	parts, err := filepath.Glob(sys + "/*/partition")
	if err != nil {
		return err
	}
	for _, p := range parts {
		if err := copyPartition(dev, filepath.Dir(p)); err != nil {
			return err
		}
	}
	return nil
}

// copyPartition makes the node of one partition, by what sysfs says of it.
func copyPartition(dev, sys string) error {
	text, err := os.ReadFile(filepath.Join(sys, "dev"))
	if err != nil {
		return err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return fmt.Errorf("device number %q in %s: %w", text, sys, err)
	}
	name := strings.ReplaceAll(filepath.Base(sys), "!", "/") // "cciss!c0d0p1"
	return mknod(filepath.Join(dev, name), unix.S_IFBLK|0o660, unix.Mkdev(major, minor))
}

// mknod makes a node whatever the umask is; one that is there is as good.
func mknod(name string, mode uint32, number uint64) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := unix.Mknod(name, mode, int(number)); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return nil
		}
		return &fs.PathError{Op: "mknod", Path: name, Err: err}
	}
	return syscall.Chmod(name, mode&0o777)
}

func link(target, name string) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	if err := os.Symlink(target, name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}
