package fixup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/golden/layout"
)

// syslinuxMenus are EXTLINUX's and SYSLINUX's.
func (c *clone) syslinuxMenus() []string {
	files := []string{"/boot/extlinux.conf", "/extlinux.conf", "/boot/syslinux.cfg"}
	for _, dir := range []string{"/boot/extlinux/", "/boot/syslinux/"} {
		files = append(files, c.tree.glob(dir+"*.conf")...)
		files = append(files, c.tree.glob(dir+"*.cfg")...)
	}
	return files
}

// extlinux puts EXTLINUX into the boot file system and, last, the code that
// starts an active partition into the disk's first sector.
func (c *clone) extlinux(ctx context.Context, rep *StepReport) error {
	v, err := c.bootVolume()
	if err != nil {
		return err
	}
	dir := ""
	for _, d := range []string{"/boot/extlinux", "/boot/syslinux", "/boot", "/"} {
		if c.tree.isFile(path.Join(d, "extlinux.conf")) || c.tree.isFile(path.Join(d, "syslinux.cfg")) {
			dir = d
			break
		}
	}
	if dir == "" {
		return errors.New("the clone has no extlinux.conf in /boot/extlinux, /boot/syslinux or /boot: EXTLINUX has nothing to boot")
	}
	if _, ok := c.tree.program("extlinux"); !ok {
		return errors.New("the clone has no program extlinux: package extlinux is missing on the golden node")
	}
	on := c.bootDisks(v)[0]
	part, ok := c.partOn(v, on)
	if !ok {
		return fmt.Errorf("EXTLINUX can't read %s, which is on no partition of %s", v.now.Device, on)
	}
	code, err := c.syslinuxCode(on)
	if err != nil {
		return err
	}
	loader := path.Join(dir, "ldlinux.sys")
	if err := c.chroot.run(ctx, "extlinux", "--install", dir); err != nil {
		return err
	}
	if !c.tree.isFile(loader) {
		return fmt.Errorf("extlinux ended well but made no %s", loader)
	}
	rep.touch(loader, "EXTLINUX")
	unix.Sync() // all that the loader is to find is on the disk before it is
	if err := writeBootCode(on, code, part, c.table(on)); err != nil {
		return err
	}
	rep.touch(on, "boot record that starts its active partition")
	return nil
}

// table is the kind of the node's disk's table.
func (c *clone) table(on string) layout.Table {
	if i := slices.Index(c.stk.nodes, on); i >= 0 {
		return c.env.Plan.Disks[i].Layout.Table
	}
	return layout.MBR
}

// syslinuxCode is the boot record's code for the disk's kind of table, of the
// clone's package.
func (c *clone) syslinuxCode(on string) ([]byte, error) {
	name := "mbr.bin"
	if c.table(on) == layout.GPT {
		name = "gptmbr.bin"
	}
	for _, dir := range []string{"/usr/lib/EXTLINUX", "/usr/lib/syslinux/mbr", "/usr/lib/syslinux/bios", "/usr/lib/syslinux", "/usr/share/syslinux"} {
		b, err := c.tree.read(path.Join(dir, name))
		if errors.Is(err, errAbsent) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(b) == 0 || len(b) > disk.SignatureAt {
			return nil, fmt.Errorf("%s has %d bytes, a boot record has room for %d", path.Join(dir, name), len(b), disk.SignatureAt)
		}
		return b, nil
	}
	return nil, fmt.Errorf("the clone has no %s: package syslinux-common is missing on the golden node", name)
}

// writeBootCode writes the code in front of the table, and marks the partition
// that it is to start, where none is.
func writeBootCode(path string, code []byte, part int, table layout.Table) error {
	return disk.EditBootRecord(path, func(sector []byte) error {
		if sector[510] != 0x55 || sector[511] != 0xaa {
			return errors.New("there is none")
		}
		if table == layout.MBR {
			if err := markActive(sector, part); err != nil {
				return err
			}
		}
		clear(sector[:disk.SignatureAt])
		copy(sector, code)
		return nil
	})
}

// markActive marks one of the four partitions, and no other: an MBR's code
// starts the marked one (and stops where two are).
func markActive(sector []byte, part int) error {
	const first, size, active = 446, 16, 0x80
	if part < 1 || part > 4 {
		return fmt.Errorf("partition %d is a logical one, which a boot record can't start", part)
	}
	for i := range 4 {
		sector[first+i*size] &^= active
	}
	sector[first+(part-1)*size] |= active
	return nil
}
