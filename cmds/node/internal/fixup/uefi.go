package fixup

import (
	"context"
	"errors"
	"fmt"
	"path"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// esp is the EFI system partition.
func (c *clone) esp() (volume, bool) {
	for _, v := range c.vols {
		if v.old.Type == wire.VFAT {
			return v, true
		}
	}
	return volume{}, false
}

// espMenus are the files of golden's on the EFI system partition by which a
// loader finds the root: of GRUB, in the folder of each distribution, and of
// systemd-boot. On a node with a BIOS nobody makes them again.
func (c *clone) espMenus() []string {
	esp, ok := c.esp()
	if !ok {
		return nil
	}
	var menus []string
	for _, e := range c.tree.list(path.Join(esp.old.MountPoint, "EFI")) {
		menus = append(menus, path.Join(esp.old.MountPoint, "EFI", e.Name(), "grub.cfg"))
	}
	return append(menus, c.tree.glob(path.Join(esp.old.MountPoint, "loader/entries/*.conf"))...)
}

// grubUEFI is GRUB 2 for UEFI, by the clone's own grub-install: Debian's puts
// the signed shim in front where the packages shim-signed and
// grub-efi-amd64-signed are there, and then starts under Secure Boot too.
//
//	EFI/debian/   shimx64.efi ▶ grubx64.efi ▶ grub.cfg ▶ /boot/grub/grub.cfg
//	EFI/BOOT/     BOOTX64.EFI ▶ grubx64.efi      what a firmware starts unasked
//
// The firmware's own list of what to boot, in which order, stays as it is: a
// machine that boots from the network first shall go on doing so, and one that
// comes to its disk finds EFI/BOOT/BOOTX64.EFI without an entry (UEFI
// specification, section 3.5.1.1).
func (c *clone) grubUEFI(ctx context.Context, rep *StepReport) error {
	names, err := c.grubNames("x86_64-efi", "grub-efi-amd64-bin (grub2-efi-x64-modules)")
	if err != nil {
		return err
	}
	esp, ok := c.esp()
	if !ok {
		return errors.New("this node has UEFI firmware and the plan no EFI system partition: give golden-serve a desc (-p) with a line such as efi 512")
	}
	if err := c.makeMenu(ctx, rep, names); err != nil {
		return err
	}
	c.tellDebconf(ctx, rep, "grub-pc", "grub-pc grub-pc/install_devices_empty boolean true", "grub-pc has no boot record to update")
	c.tellDebconf(ctx, rep, "grub-efi-amd64", "grub-efi-amd64 grub2/force_efi_extra_removable boolean true", "grub-efi-amd64 updates EFI/BOOT too")
	unix.Sync() // all that the loader is to find is on the disk before it is
	for _, where := range [][]string{nil, {"--removable"}} {
		args := append([]string{"--target=x86_64-efi", "--efi-directory=" + esp.old.MountPoint, "--no-nvram"}, where...)
		if err := c.chroot.run(ctx, names.install, args...); err != nil {
			return err
		}
	}
	rep.touch(path.Join(esp.old.MountPoint, "EFI"), "GRUB, by "+esp.now.Device)
	return c.checkESP(rep, path.Join(esp.old.MountPoint, "EFI/BOOT"))
}

// checkESP wants what a firmware starts, and GRUB itself under one name,
// whether or not a shim is in front of it: that is what the network boot's
// GRUB starts when a machine is to boot from its disk.
func (c *clone) checkESP(rep *StepReport, dir string) error {
	first, second := path.Join(dir, "BOOTX64.EFI"), path.Join(dir, "grubx64.efi")
	if !c.tree.isFile(first) {
		return fmt.Errorf("grub-install ended well but made no %s", first)
	}
	if c.tree.isFile(second) {
		return nil
	}
	image, err := c.tree.read(first)
	if err != nil {
		return err
	}
	if err := c.tree.write(second, image, 0o600); err != nil {
		return err
	}
	rep.touch(second, "GRUB, as in BOOTX64.EFI")
	return nil
}
