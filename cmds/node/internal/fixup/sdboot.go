package fixup

import (
	"context"
	"debug/pe"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// hasSystemdBoot says whether systemd-boot is there, to be installed or as
// golden's.
func (c *clone) hasSystemdBoot() bool {
	if _, ok := c.tree.program("bootctl"); ok && c.tree.isFile("/usr/lib/systemd/boot/efi/systemd-bootx64.efi") {
		return true
	}
	esp, ok := c.esp()
	return ok && c.tree.isFile(path.Join(esp.old.MountPoint, "EFI/systemd/systemd-bootx64.efi"))
}

// systemdBoot puts systemd-boot on the EFI system partition, by bootctl where
// the clone has it, else golden's again under the name that firmware looks for.
func (c *clone) systemdBoot(ctx context.Context, rep *StepReport) error {
	esp, ok := c.esp()
	if !ok {
		return errNoESP()
	}
	if !c.hasSystemdBoot() {
		return errors.New("the clone has no systemd-bootx64.efi: package systemd-boot (systemd-boot-efi) is missing on the golden node")
	}
	at := esp.old.MountPoint
	own, first := path.Join(at, "EFI/systemd/systemd-bootx64.efi"), path.Join(at, "EFI/BOOT/BOOTX64.EFI")
	unix.Sync() // all that the loader is to find is on the disk before it is
	if _, ok := c.tree.program("bootctl"); ok && c.tree.isFile("/usr/lib/systemd/boot/efi/systemd-bootx64.efi") {
		for _, name := range []string{own, first} { // what is there afterwards was made here
			if err := c.tree.remove(name); err != nil {
				return err
			}
		}
		if err := c.chroot.run(ctx, "bootctl", "install", "--no-variables", "--esp-path="+at); err != nil {
			return err
		}
		// It makes a new one, the same for all clones of one golden image of
		// the partition, if one were left.
		if err := c.remove(rep, "each clone's is made at its first start", path.Join(at, "loader/random-seed")); err != nil {
			return err
		}
	}
	if !c.tree.isFile(own) {
		return fmt.Errorf("bootctl ended well but made no %s", own)
	}
	if !c.tree.isFile(first) {
		if err := c.tree.mkdir(path.Dir(first)); err != nil {
			return err
		}
		if err := c.tree.copy(own, first); err != nil {
			return err
		}
	}
	rep.touch(first, "systemd-boot, by "+esp.now.Device)
	return c.bootEntry(ctx, rep, esp, path.Dir(own), path.Base(own))
}

// checkEntries says no to boot loader entries that would boot golden's disk, or
// nothing (the Boot Loader Specification's type 1; type 2 are images with all
// inside, also the command line).
func (c *clone) checkEntries() error {
	var found int
	for _, dir := range c.bootFolders() {
		for _, name := range c.tree.glob(path.Join(dir, "EFI/Linux/*.efi")) {
			if err := c.checkUKI(name); err != nil {
				return err
			}
			found++
		}
		for _, name := range c.tree.glob(path.Join(dir, "loader/entries/*.conf")) {
			text, err := c.tree.read(name)
			if err != nil {
				return err
			}
			image := entryImage(string(text))
			if image == "" {
				continue
			}
			if !c.tree.isFile(path.Join(dir, image)) && !c.tree.isFile(path.Join("/boot", image)) && !c.tree.isFile(image) {
				return fmt.Errorf("%s starts %s, which isn't there", name, image)
			}
			found++
			options := string(text)
			if strings.Contains(options, "$kernelopts") {
				continue // GRUB's saved variable
			}
			if strings.Contains(options, "root=") && !c.namesRoot(options) {
				return fmt.Errorf("%s doesn't name the root file system", name)
			}
		}
	}
	if found == 0 {
		return errors.New("the clone has no boot loader entry: no loader/entries/*.conf in /boot or on the EFI system partition")
	}
	return nil
}

// checkUKI says no to a unified kernel image whose command line names golden's
// root; without a root= in it systemd finds the root by its partition's type.
func (c *clone) checkUKI(name string) error {
	f, err := c.tree.open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	img, err := pe.NewFile(f)
	if err != nil {
		return fmt.Errorf("read kernel image %s: %w", name, err)
	}
	for _, sec := range img.Sections {
		if sec.Name != ".cmdline" {
			continue
		}
		if sec.Size > maxCmdline {
			return fmt.Errorf("kernel image %s: a command line of %d bytes", name, sec.Size)
		}
		line, err := sec.Data()
		if err != nil {
			return fmt.Errorf("command line of kernel image %s: %w", name, err)
		}
		if strings.Contains(string(line), "root=") && !c.namesRoot(string(line)) {
			return fmt.Errorf("kernel image %s doesn't name the root file system: its command line is golden's, and only the program that made it there can make it again", name)
		}
	}
	return nil
}

// maxCmdline bounds a command line in a kernel image, in bytes: the kernel
// takes 2048 (COMMAND_LINE_SIZE, arch/x86/include/asm/setup.h), and sections
// end at 4096.
const maxCmdline = 64 << 10

// entryImage is the kernel or program that an entry starts.
func entryImage(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		f := strings.Fields(line)
		if len(f) == 2 && (f[0] == "linux" || f[0] == "efi") {
			return path.Clean("/" + f[1])
		}
	}
	return ""
}
