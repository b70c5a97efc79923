package fixup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// grubNames are the names of GRUB 2's programs and folder: Debian's and Arch's,
// or Fedora's and openSUSE's.
type grubNames struct{ install, mkconfig, dir string }

// grubTools finds GRUB's programs and sees to it that there is what GRUB is
// installed from for this node's firmware: its modules, or for UEFI what a
// distribution has signed.
func (c *clone) grubTools() (grubNames, error) {
	platform, packages := "i386-pc", "grub-pc-bin (grub2-pc-modules)"
	if c.env.Firmware == wire.UEFI {
		platform, packages = "x86_64-efi", "grub-efi-amd64-bin (grub2-efi-x64-modules)"
	}
	for _, n := range []grubNames{
		{"grub-install", "grub-mkconfig", "/boot/grub"},
		{"grub2-install", "grub2-mkconfig", "/boot/grub2"},
	} {
		_, install := c.tree.program(n.install)
		_, mkconfig := c.tree.program(n.mkconfig)
		_, signed := c.signedLoader()
		signed = signed && c.env.Firmware == wire.UEFI
		switch {
		case !install && !(mkconfig && signed):
			continue
		case !mkconfig:
			return n, fmt.Errorf("the clone has %s but no %s: package grub2-common is damaged on the golden node", n.install, n.mkconfig)
		case !c.grubModules(platform) && !signed:
			return n, fmt.Errorf("the clone has no /usr/lib/grub/%s, and this node has %s firmware: package %s is missing on the golden node", platform, strings.ToUpper(c.env.Firmware), packages)
		}
		return n, nil
	}
	return grubNames{}, errors.New("the clone has no grub-install: package grub-pc or grub-efi-amd64 (with grub2-common) is missing on the golden node")
}

// grubModules says whether there are GRUB's modules for a platform; SUSE has a
// folder of its own for them.
func (c *clone) grubModules(platform string) bool {
	for _, dir := range []string{"/usr/lib/grub", "/usr/lib/grub2", "/usr/share/grub2"} {
		if c.tree.isDir(path.Join(dir, platform)) {
			return true
		}
	}
	return false
}

// grub is GRUB 2, for the firmware that this node has.
func (c *clone) grub(ctx context.Context, rep *StepReport) error {
	names, err := c.grubTools()
	if err != nil {
		return err
	}
	if c.env.Firmware == wire.UEFI {
		return c.grubUEFI(ctx, rep, names)
	}
	boot, err := c.bootVolume()
	if err != nil {
		return err
	}
	disks := c.bootDisks(boot)
	all := strings.Join(disks, ", ")
	c.tellDebconf(ctx, rep, "grub-pc", "grub-pc grub-pc/install_devices multiselect "+all, "grub-pc updates the boot record of "+all)
	if err := c.suseDevices(rep, disks); err != nil {
		return err
	}
	// Golden's is taken away first: what is there afterwards was made here.
	core := path.Join(names.dir, "i386-pc/core.img")
	if err := c.tree.remove(core); err != nil {
		return err
	}
	for _, disk := range disks {
		unix.Sync() // all that the loader is to find is on the disk before it is
		if err := c.chroot.run(ctx, names.install, "--target=i386-pc", disk); err != nil {
			return err
		}
		if !c.tree.isFile(core) {
			return fmt.Errorf("%s ended well but made no %s", names.install, core)
		}
		rep.touch(disk, "boot record and "+path.Dir(core))
	}
	return nil
}

// suseDevices tells SUSE's updates of GRUB where it is: the lines of this file
// are devices and, behind them, words.
func (c *clone) suseDevices(rep *StepReport, disks []string) error {
	_, err := c.edit(rep, "/etc/default/grub_installdevice", "the disks that GRUB is on", func(s string) string {
		out := strings.Join(disks, "\n") + "\n"
		for line := range strings.SplitAfterSeq(s, "\n") {
			if !strings.HasPrefix(line, "/dev/") {
				out += line
			}
		}
		return out
	})
	return err
}

// grubMenu makes the boot menu, which is the same for any firmware, but for the
// place that RHEL 7 and 8 have it in.
func (c *clone) grubMenu(ctx context.Context, rep *StepReport) error {
	names, err := c.grubTools()
	if err != nil {
		return err
	}
	if c.env.Firmware != wire.UEFI {
		if _, err := c.bootVolume(); err != nil {
			return err
		}
	} else if _, ok := c.esp(); !ok {
		return errNoESP()
	}
	// The map has golden's disks; without one grub numbers them itself.
	if err := c.remove(rep, "golden's disks", names.dir+"/device.map"); err != nil {
		return err
	}
	if err := c.tree.mkdir(names.dir); err != nil {
		return err
	}
	for _, cfg := range c.grubConfigs(names) {
		if err := c.chroot.run(ctx, names.mkconfig, "-o", cfg); err != nil {
			return err
		}
		rep.touch(cfg, "made again")
		if err := c.checkMenu(cfg); err != nil {
			return err
		}
	}
	return nil
}

func errNoESP() error {
	return errors.New("this node has UEFI firmware and the plan no EFI system partition: give golden-serve a desc (-p) with a line such as efi 512")
}

// grubConfigs are the menus to make: the one beside GRUB's modules, and one on
// the EFI system partition that isn't just a pointer to it.
func (c *clone) grubConfigs(names grubNames) []string {
	var onESP []string
	if c.env.Firmware == wire.UEFI {
		for _, name := range c.espMenus() {
			text, err := c.tree.read(name)
			if err == nil && path.Base(name) == "grub.cfg" && (strings.Contains(string(text), "menuentry ") || strings.Contains(string(text), "blscfg")) {
				onESP = append(onESP, name)
			}
		}
	}
	main := path.Join(names.dir, "grub.cfg")
	if len(onESP) > 0 && !c.tree.isFile(main) {
		return onESP
	}
	return append([]string{main}, onESP...)
}

// checkMenu says no to a menu that would boot golden's disk, or nothing.
func (c *clone) checkMenu(cfg string) error {
	text, err := c.tree.read(cfg)
	if err != nil {
		return err
	}
	menu := string(text)
	bls := strings.Contains(menu, "blscfg")
	if bls {
		if err := c.checkEntries(); err != nil {
			return err
		}
	} else if !c.namesRoot(menu) {
		v, _ := c.vols.at("/")
		return fmt.Errorf("%s doesn't name the root file system %s (%s)", cfg, v.now.UUID, v.now.Device)
	}
	if !strings.Contains(menu, "menuentry ") && !bls {
		return fmt.Errorf("%s has no entry: grub found no kernel", cfg)
	}
	for _, v := range c.vols {
		if indexID(menu, v.old.OldUUID) >= 0 && !strings.EqualFold(v.old.OldUUID, v.now.UUID) {
			return fmt.Errorf("%s still names golden's file system %s (%s)", cfg, v.old.OldUUID, v.old.MountPoint)
		}
	}
	return nil
}

// namesRoot says whether a text names the root in a way that the clone's kernel
// finds it by: its UUID, or its device where golden forbids UUIDs or LVM has
// made the name.
func (c *clone) namesRoot(text string) bool {
	v, ok := c.vols.at("/")
	if !ok || indexID(text, v.now.UUID) >= 0 {
		return true
	}
	specs := append([]string{v.now.Device}, v.names...)
	if v.now.PartID != "" {
		specs = append(specs, "PARTUUID="+v.now.PartID)
	}
	if v.old.Label != "" {
		specs = append(specs, "LABEL="+v.old.Label)
	}
	for _, s := range specs {
		if strings.Contains(text, "root="+s) {
			return true
		}
	}
	return false
}
