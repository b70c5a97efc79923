package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// bootable sees to it that GRUB finds a place for itself on the disk with the
// root, and says for which firmware it can't be installed. If that is all, no
// machine could boot as a clone.
func (d *describer) bootable(filesystems []wire.Filesystem) ([]wire.Lack, error) {
	if d.opt.Loader.Kind != "grub" {
		return nil, nil
	}
	var lacks []wire.Lack
	lack := func(firmware string, why []string, meant bool) {
		if len(why) == 0 {
			return
		}
		lacks = append(lacks, wire.Lack{Firmware: firmware, Why: strings.Join(why, "; ")})
		if meant {
			d.note("machines with %s can't become clones: %s", strings.ToUpper(firmware), strings.Join(why, "; "))
		}
	}
	hasESP := slices.ContainsFunc(filesystems, func(fs wire.Filesystem) bool { return fs.Type == wire.VFAT })
	lack(wire.UEFI, d.lackUEFI(hasESP), hasESP)
	lack(wire.BIOS, d.lackBIOS(filesystems), !hasESP)
	if len(lacks) == 2 {
		return nil, fmt.Errorf("no machine could boot as a clone, by UEFI: %s; by a BIOS: %s; -r none leaves the boot loader out", lacks[0].Why, lacks[1].Why)
	}
	return lacks, nil
}

func (d *describer) lackUEFI(hasESP bool) (why []string) {
	if !hasESP {
		why = append(why, fmt.Sprintf("the layout of %s has no EFI system partition: give a desc (-p) with a line such as efi 512", d.diskNames()))
	}
	if !d.hasGRUB("x86_64-efi") {
		why = append(why, "the golden node has no GRUB for UEFI: install its package grub-efi-amd64-bin (grub2-efi-x64-modules)")
	}
	return why
}

// lackBIOS also adds the partition that GRUB needs on a GPT. A golden node
// that can't start from a BIOS itself has none of it.
func (d *describer) lackBIOS(filesystems []wire.Filesystem) []string {
	if !d.hasGRUB("i386-pc") {
		return []string{"the golden node has no GRUB for a BIOS: install its package grub-pc-bin (grub2-pc-modules)"}
	}
	i := filesystems[0].Disk // match puts the root first
	l := d.disks[i].Layout.WithBIOSBoot()
	if len(l.Parts) != len(d.disks[i].Layout.Parts) {
		d.disks[i].Layout = l
		d.note("disk %s: a BIOS boot partition of 1 MB is added: GRUB needs one on a GPT", d.disks[i].Name)
	}
	return nil
}

// hasGRUB says whether the golden system has what GRUB is installed from for
// a platform.
func (d *describer) hasGRUB(platform string) bool {
	r, err := os.OpenRoot(d.opt.Root)
	if err != nil {
		return false
	}
	defer r.Close()
	for _, dir := range []string{"usr/lib/grub", "usr/share/grub2", "usr/lib/grub2"} {
		if st, err := r.Stat(filepath.Join(dir, platform)); err == nil && st.IsDir() {
			return true
		}
	}
	return false
}
