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
	for _, d := range c.stk.nodes { // those too that only a RAID or a group is on
		if err := copyBlock(dev, d); err != nil {
			return err
		}
	}
	if err := c.makeStack(dev, links); err != nil {
		return err
	}
	for _, v := range c.vols {
		if err := copyBlock(dev, v.now.Device); err != nil {
			return err
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

// makeStack makes the nodes of arrays, containers and volumes under all their
// names, and what the device mapper is asked by.
func (c *chroot) makeStack(dev string, links map[string]string) error {
	if len(c.stk.places) == 0 {
		return nil
	}
	if number, err := sysNumber("/sys/class/misc/device-mapper"); err == nil {
		if err := mknod(filepath.Join(dev, "mapper/control"), unix.S_IFCHR|0o600, number); err != nil {
			return err
		}
	}
	for _, p := range c.stk.places {
		if err := copyBlock(dev, p.device); err != nil {
			return err
		}
		if err := copyMapper(dev, p.device); err != nil {
			return err
		}
		for _, name := range p.names {
			// By number, not as a link: cryptsetup and grub-probe look for
			// a block device of a mapper's name.
			if err := copyAs(filepath.Join(dev, strings.TrimPrefix(name, "/dev/")), p.device); err != nil {
				return err
			}
		}
	}
	return c.linkContainers(links)
}

// linkContainers makes the links by UUID to what is inside a LUKS container's
// partition: crypttab names it so, and the initrd's tool looks there.
func (c *chroot) linkContainers(links map[string]string) error {
	for _, d := range c.stk.crypts {
		if d.uuid == "" {
			continue
		}
		device, ok := c.stk.node(d.on)
		if !ok {
			return fmt.Errorf("container %s is on %q, which the node hasn't got", d.name, d.on)
		}
		links["disk/by-uuid/"+d.uuid] = filepath.Join("../..", strings.TrimPrefix(device, "/dev/"))
	}
	return nil
}

// copyMapper makes the kernel's own name of a device mapper's device, "dm-0",
// and the mapper's: programs find one by the other.
func copyMapper(dev, device string) error {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Errorf("look at %s: %w", device, err)
	}
	sys := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	real, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return err
	}
	if err := mknod(filepath.Join(dev, strings.ReplaceAll(filepath.Base(real), "!", "/")), unix.S_IFBLK|0o660, st.Rdev); err != nil {
		return err
	}
	name, err := os.ReadFile(sys + "/dm/name")
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return mknod(filepath.Join(dev, "mapper", filepath.Base(strings.TrimSpace(string(name)))), unix.S_IFBLK|0o660, st.Rdev)
}

// copyAs makes a node of a block device under another name.
func copyAs(name, device string) error {
	var st unix.Stat_t
	if err := unix.Stat(device, &st); err != nil {
		return fmt.Errorf("look at %s: %w", device, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return fmt.Errorf("%s is not a block device", device)
	}
	return mknod(name, unix.S_IFBLK|0o660, st.Rdev)
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

// aliasDisk makes a disk's nodes, and its partitions', under a name that ends in
// a letter. GRUB legacy calls partition 1 of nvme0n1 nvme0n11: it knows nothing
// of the p between (grub-legacy's lib/device.c, write_to_partition).
func (c *chroot) aliasDisk(disk, alias string) error {
	if err := c.open(); err != nil {
		return err
	}
	p, err := c.tree.resolve("/dev", true)
	if err != nil {
		return err
	}
	name := filepath.Join(c.tree.path, p, strings.TrimPrefix(alias, "/dev/"))
	if err := copyAs(name, disk); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(disk, &st); err != nil {
		return err
	}
	parts, err := filepath.Glob(fmt.Sprintf("/sys/dev/block/%d:%d/*/partition", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return err
	}
	for _, part := range parts {
		text, err := os.ReadFile(part)
		if err != nil {
			return err
		}
		number, err := sysNumber(filepath.Dir(part))
		if err != nil {
			return err
		}
		if err := mknod(name+strings.TrimSpace(string(text)), unix.S_IFBLK|0o660, number); err != nil {
			return err
		}
	}
	return nil
}

// copyPartition makes the node of one partition, by what sysfs says of it.
func copyPartition(dev, sys string) error {
	number, err := sysNumber(sys)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(filepath.Base(sys), "!", "/") // "cciss!c0d0p1"
	return mknod(filepath.Join(dev, name), unix.S_IFBLK|0o660, number)
}

// sysNumber is a device's number as its folder in sysfs has it.
func sysNumber(sys string) (uint64, error) {
	text, err := os.ReadFile(filepath.Join(sys, "dev"))
	if err != nil {
		return 0, err
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(text), "%d:%d", &major, &minor); err != nil {
		return 0, fmt.Errorf("device number %q in %s: %w", text, sys, err)
	}
	return unix.Mkdev(major, minor), nil
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
