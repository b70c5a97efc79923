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

// esp is the EFI system partition: the FAT that is mounted where those are.
func (c *clone) esp() (volume, bool) {
	for _, at := range []string{"/boot/efi", "/efi", "/boot"} {
		if v, ok := c.vols.at(at); ok && v.old.Type == wire.VFAT {
			return v, true
		}
	}
	for _, v := range c.vols {
		if v.old.Type == wire.VFAT && v.old.MountPoint != "" {
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

// efiLoader is a distribution's boot loader on the EFI system partition.
type efiLoader struct {
	dir         string // "/boot/efi/EFI/fedora"
	first, next string // "shimx64.efi", "grubx64.efi"; next is empty without a shim
}

// efiLoaders are the loaders in the folders of distributions.
func (c *clone) efiLoaders() []efiLoader {
	esp, ok := c.esp()
	if !ok {
		return nil
	}
	var found []efiLoader
	for _, e := range c.tree.list(path.Join(esp.old.MountPoint, "EFI")) {
		if strings.EqualFold(e.Name(), "BOOT") {
			continue
		}
		l := efiLoader{dir: path.Join(esp.old.MountPoint, "EFI", e.Name())}
		for _, name := range []string{"grubx64.efi", "grub.efi", "shimx64.efi", "shim.efi"} {
			if !c.tree.isFile(path.Join(l.dir, name)) {
				continue
			}
			if strings.HasPrefix(name, "shim") && l.next == "" && l.first != "" {
				l.next = l.first
			}
			l.first = name
		}
		if l.first != "" {
			found = append(found, l)
		}
	}
	return found
}

// loaderOf is the clone's own distribution's of several.
func (c *clone) loaderOf(ls []efiLoader) (efiLoader, bool) {
	if len(ls) == 0 {
		return efiLoader{}, false
	}
	text, _ := c.tree.read("/etc/os-release")
	for _, l := range ls {
		name := strings.ToLower(path.Base(l.dir))
		if name == "redhat" {
			name = "rhel"
		}
		for line := range strings.SplitSeq(string(text), "\n") {
			if v, ok := strings.CutPrefix(line, "ID="); ok && strings.HasPrefix(strings.Trim(v, `"'`), name) {
				return l, true
			}
		}
	}
	return ls[0], true
}

// signedLoader is a shim with its GRUB, as the distribution signed and golden
// installed them. Where grub-install isn't meant for these (Fedora's, RHEL's
// and SUSE's refuses, or would put an unsigned GRUB there) they stay.
func (c *clone) signedLoader() (efiLoader, bool) {
	if _, ok := c.tree.program("grub-install"); ok && c.grubModules("x86_64-efi") {
		return efiLoader{}, false // Debian's looks after the shim itself
	}
	var signed []efiLoader
	for _, l := range c.efiLoaders() {
		if l.next != "" {
			signed = append(signed, l)
		}
	}
	return c.loaderOf(signed)
}

// grubUEFI is GRUB 2 for UEFI, by the clone's own grub-install, or the signed
// one that is there already.
//
//	EFI/debian/   shimx64.efi ▶ grubx64.efi ▶ grub.cfg ▶ /boot/grub/grub.cfg
//	EFI/BOOT/     BOOTX64.EFI ▶ grubx64.efi      what a firmware starts unasked
func (c *clone) grubUEFI(ctx context.Context, rep *StepReport, names grubNames) error {
	esp, ok := c.esp()
	if !ok {
		return errNoESP()
	}
	dir := path.Join(esp.old.MountPoint, "EFI/BOOT")
	if l, ok := c.signedLoader(); ok {
		if err := c.keepSigned(rep, l, dir, names); err != nil {
			return err
		}
	} else if err := c.grubInstallUEFI(ctx, rep, names, esp); err != nil {
		return err
	}
	if err := c.checkESP(rep, dir); err != nil {
		return err
	}
	l, ok := c.loaderOf(c.efiLoaders())
	if !ok {
		return fmt.Errorf("%s ended well but made no loader in %s", names.install, path.Dir(dir))
	}
	return c.bootEntry(ctx, rep, esp, l.dir, l.first)
}

func (c *clone) grubInstallUEFI(ctx context.Context, rep *StepReport, names grubNames, esp volume) error {
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
	return nil
}

// keepSigned leaves the distribution's signed chain as it is, tells its GRUB
// where the menu is, and puts the chain where every firmware looks.
func (c *clone) keepSigned(rep *StepReport, l efiLoader, dir string, names grubNames) error {
	stub := path.Join(l.dir, "grub.cfg")
	if !c.tree.isFile(stub) {
		text, err := c.grubStub(names)
		if err != nil {
			return err
		}
		if err := c.tree.write(stub, []byte(text), 0o644); err != nil {
			return err
		}
		rep.touch(stub, "where GRUB's menu is")
	}
	if text, err := c.tree.read(stub); err != nil {
		return err
	} else if v, err := c.bootVolume(); err != nil {
		return err
	} else if indexID(string(text), v.now.UUID) < 0 && !strings.Contains(string(text), "menuentry ") && !strings.Contains(string(text), "blscfg") {
		return fmt.Errorf("%s doesn't name the file system %s that GRUB's menu is in", stub, v.now.UUID)
	}
	if err := c.tree.mkdir(dir); err != nil {
		return err
	}
	unix.Sync() // all that the loader is to find is on the disk before it is
	copies := [][2]string{{l.next, l.next}, {l.next, "grubx64.efi"}, {"mmx64.efi", "mmx64.efi"}, {"MokManager.efi", "MokManager.efi"}, {"grub.cfg", "grub.cfg"}, {l.first, "BOOTX64.EFI"}}
	for _, f := range copies {
		from, to := path.Join(l.dir, f[0]), path.Join(dir, f[1])
		if !c.tree.isFile(from) || f[1] == "BOOTX64.EFI" && c.tree.isFile(to) {
			continue
		}
		if err := c.tree.copy(from, to); err != nil {
			return err
		}
		rep.touch(to, "as in "+path.Base(l.dir))
	}
	return c.noFallback(rep, dir)
}

// noFallback: where the firmware's list is to stay as it is, shim's fallback
// program, which writes to it at the first start, must not be found.
func (c *clone) noFallback(rep *StepReport, dir string) error {
	if !c.env.Plan.Identity.NoNVRAM {
		return nil
	}
	return c.remove(rep, "it would add an entry to the firmware's list", path.Join(dir, "fbx64.efi"), path.Join(dir, "fallback.efi"))
}

// grubStub is the few lines by which a signed GRUB, which can have no file
// system's UUID inside, finds its menu.
func (c *clone) grubStub(names grubNames) (string, error) {
	v, err := c.bootVolume()
	if err != nil {
		return "", err
	}
	dir, sub := names.dir, ""
	if v.old.MountPoint == "/boot" {
		dir = strings.TrimPrefix(dir, "/boot")
	}
	if s, ok := v.subvolume("/"); ok && !s.Default {
		sub = "/" + strings.Trim(s.Path, "/")
	}
	if strings.ContainsAny(sub, " '\"$\n") {
		return "", errors.New("the root's subvolume has a name that GRUB can't be told")
	}
	return "search --no-floppy --fs-uuid --set=dev " + v.now.UUID + "\nset prefix=($dev)" + sub + dir + "\nexport prefix\nconfigfile $prefix/grub.cfg\n", nil
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
	if err := c.tree.copy(first, second); err != nil {
		return err
	}
	rep.touch(second, "GRUB, as in BOOTX64.EFI")
	return nil
}
