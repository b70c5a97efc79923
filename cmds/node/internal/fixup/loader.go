package fixup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// fixLoader makes the boot menu and then, last of all that is written to the
// disk, puts the boot loader in front of it.
func fixLoader(ctx context.Context, c *clone, rep *StepReport) error {
	switch kind := c.env.Plan.Loader.Kind; kind {
	case "", "none":
		rep.Skipped = "no boot loader wanted"
		return c.patchMenu(rep)
	case "grub":
		return c.grub(ctx, rep)
	default:
		return fmt.Errorf("boot loader %q: only grub and none are known", kind)
	}
}

// grubNames are the names of GRUB 2's programs and folder: Debian's, or
// Fedora's and openSUSE's.
type grubNames struct{ install, mkconfig, dir string }

// grubNames also sees to it that there is what GRUB is installed from for a
// platform, of that package.
func (c *clone) grubNames(platform, packages string) (grubNames, error) {
	for _, n := range []grubNames{
		{"grub-install", "grub-mkconfig", "/boot/grub"},
		{"grub2-install", "grub2-mkconfig", "/boot/grub2"},
	} {
		if _, ok := c.tree.program(n.install); !ok {
			continue
		}
		if _, ok := c.tree.program(n.mkconfig); !ok {
			return n, fmt.Errorf("the clone has %s but no %s: package grub2-common is damaged on the golden node", n.install, n.mkconfig)
		}
		if !c.tree.isDir("/usr/lib/grub/" + platform) {
			return n, fmt.Errorf("the clone has no /usr/lib/grub/%s, and this node has %s firmware: package %s is missing on the golden node", platform, strings.ToUpper(c.env.Firmware), packages)
		}
		return n, nil
	}
	return grubNames{}, errors.New("the clone has no grub-install: package grub-pc or grub-efi-amd64 (with grub2-common) is missing on the golden node")
}

// grub is GRUB 2, for the firmware that this node has.
func (c *clone) grub(ctx context.Context, rep *StepReport) error {
	if c.env.Firmware == wire.UEFI {
		return c.grubUEFI(ctx, rep)
	}
	names, err := c.grubNames("i386-pc", "grub-pc-bin (grub2-pc-modules)")
	if err != nil {
		return err
	}
	boot, ok := c.vols.at("/boot")
	if !ok {
		if boot, ok = c.vols.at("/"); !ok {
			return errors.New("the plan has no file system for / or /boot: which disk is to boot isn't known")
		}
	}
	if err := c.makeMenu(ctx, rep, names); err != nil {
		return err
	}
	c.tellDebconf(ctx, rep, "grub-pc", "grub-pc grub-pc/install_devices multiselect "+boot.disk, "grub-pc updates the boot record of "+boot.disk)
	unix.Sync() // all that the loader is to find is on the disk before it is
	if err := c.chroot.run(ctx, names.install, "--target=i386-pc", boot.disk); err != nil {
		return err
	}
	rep.touch(boot.disk, "boot record and "+path.Join(names.dir, "i386-pc"))
	return nil
}

// makeMenu makes the boot menu, which is the same for any firmware.
func (c *clone) makeMenu(ctx context.Context, rep *StepReport, names grubNames) error {
	// The map has golden's disks; without one grub numbers them itself.
	if err := c.remove(rep, "golden's disks", names.dir+"/device.map"); err != nil {
		return err
	}
	if err := c.tree.mkdir(names.dir); err != nil {
		return err
	}
	cfg := path.Join(names.dir, "grub.cfg")
	if err := c.chroot.run(ctx, names.mkconfig, "-o", cfg); err != nil {
		return err
	}
	rep.touch(cfg, "made again")
	return c.checkMenu(cfg)
}

// checkMenu says no to a menu that would boot golden's disk, or nothing.
func (c *clone) checkMenu(cfg string) error {
	text, err := c.tree.read(cfg)
	if err != nil {
		return err
	}
	menu := string(text)
	// By its device where golden's /etc/default/grub forbids UUIDs.
	if v, ok := c.vols.at("/"); ok && indexID(menu, v.now.UUID) < 0 && !strings.Contains(menu, "root="+v.now.Device) {
		return fmt.Errorf("%s doesn't name the root file system %s (%s)", cfg, v.now.UUID, v.now.Device)
	}
	if !strings.Contains(menu, "menuentry ") && !strings.Contains(menu, "blscfg") {
		return fmt.Errorf("%s has no entry: grub found no kernel", cfg)
	}
	for _, v := range c.vols {
		if indexID(menu, v.old.OldUUID) >= 0 {
			return fmt.Errorf("%s still names golden's file system %s (%s)", cfg, v.old.OldUUID, v.old.MountPoint)
		}
	}
	return nil
}

// patchMenu corrects a menu by hand where none is made: somebody else's loader
// may read it.
func (c *clone) patchMenu(rep *StepReport) error {
	for _, cfg := range []string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"} {
		_, err := c.edit(rep, cfg, "golden's UUIDs", func(s string) string { return replaceIDs(s, c.ids) })
		if err != nil {
			return err
		}
	}
	return nil
}

// tellDebconf gives Debian's package of the boot loader its answer for this
// machine: golden's disk, by its serial number, isn't there, and the next
// upgrade would stop and ask. That it can't be told is no failure.
func (c *clone) tellDebconf(ctx context.Context, rep *StepReport, pkg, answer, why string) {
	const answers = "/run/kamethod-debconf"
	if _, ok := c.tree.program("debconf-set-selections"); !ok || !c.tree.isFile("/var/lib/dpkg/info/"+pkg+".list") {
		return
	}
	if err := c.chroot.open(); err != nil {
		rep.warn("tell debconf: %v", err)
		return
	}
	if err := c.tree.write(answers, []byte(answer+"\n"), os.FileMode(0o600)); err != nil {
		rep.warn("tell debconf: %v", err)
		return
	}
	if err := c.chroot.run(ctx, "debconf-set-selections", answers); err != nil {
		rep.warn("tell debconf: %v", err)
		return
	}
	rep.touch("/var/cache/debconf/config.dat", why)
}
