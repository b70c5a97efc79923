package capture

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// The words of -r and of wire.Loader.
const (
	loaderAuto     = "auto"
	loaderGRUB     = "grub"
	loaderLegacy   = "grub-legacy"
	loaderLILO     = "lilo"
	loaderSystemd  = "systemd-boot"
	loaderExtlinux = "extlinux"
	loaderNone     = "none"
)

// Loaders is what -r takes.
var Loaders = []string{loaderAuto, loaderGRUB, loaderLegacy, loaderLILO, loaderSystemd, loaderExtlinux, loaderNone}

// traces is the files that show which boot loader starts a system, the one
// that most likely does first. Of two the golden machine starts by one only,
// and the other's are leftovers.
var traces = []struct {
	kind  string
	files []string
}{
	{loaderGRUB, []string{"boot/grub/grub.cfg", "boot/grub2/grub.cfg"}},
	{loaderSystemd, []string{"boot/efi/loader/loader.conf", "efi/loader/loader.conf", "boot/loader/loader.conf", "boot/EFI/systemd/systemd-bootx64.efi", "boot/efi/EFI/systemd/systemd-bootx64.efi", "efi/EFI/systemd/systemd-bootx64.efi"}},
	{loaderLegacy, []string{"boot/grub/menu.lst", "boot/grub/grub.conf"}},
	{loaderLILO, []string{"etc/lilo.conf"}},
	{loaderExtlinux, []string{"boot/extlinux/extlinux.conf", "boot/syslinux/syslinux.cfg", "boot/syslinux/extlinux.conf"}},
}

// findLoader says which boot loader the golden system has, and by which file.
func findLoader(root string) (kind, file string) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return loaderGRUB, ""
	}
	defer r.Close()
	for _, t := range traces {
		for _, f := range t.files {
			if st, err := r.Stat(f); err == nil && st.Mode().IsRegular() {
				return t.kind, "/" + f
			}
		}
	}
	return loaderGRUB, ""
}

// loaderInfo is the variable in which a boot loader says to UEFI which one it
// is (systemd, "The Boot Loader Interface").
const loaderInfo = "firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// startedBy is what the running machine was started by, where that has said
// so: a file may be left over from an earlier boot loader.
func (m machine) startedBy() string {
	text, err := os.ReadFile(filepath.Join(m.sys, loaderInfo))
	if err != nil || len(text) < 4 || len(text) > 1024 {
		return ""
	}
	var name strings.Builder // UTF-16, after 4 bytes of attributes
	for i := 4; i+1 < len(text) && text[i+1] == 0 && text[i] != 0; i += 2 {
		name.WriteByte(text[i])
	}
	switch {
	case strings.HasPrefix(name.String(), "systemd-boot"):
		return loaderSystemd
	case strings.HasPrefix(name.String(), "GRUB"):
		return loaderGRUB
	}
	return ""
}

// chooseLoader settles the kind where that is left to us. GRUB is two: who
// says grub means the one that is there.
func (d *describer) chooseLoader() {
	kind, file := d.loaderHere()
	if now := d.m.startedBy(); now != "" && d.opt.Root == "/" {
		kind, file = now, "what this machine was started by"
	}
	l := &d.opt.Loader
	switch {
	case l.Kind == loaderAuto && file == "":
		l.Kind = kind
		d.note("boot loader: nothing shows which one the golden system has: %s is taken (-r names another)", kind)
	case l.Kind == loaderAuto, l.Kind == loaderGRUB && kind == loaderLegacy:
		l.Kind = kind
		d.note("boot loader: %s, by %s", kind, file)
	}
}

// bootable sees to it that the boot loader finds a place for itself, and says
// for which firmware it can't be installed. If that is all, no machine could
// boot as a clone.
func (d *describer) bootable(filesystems []wire.Filesystem) ([]wire.Lack, error) {
	d.chooseLoader()
	kind := d.opt.Loader.Kind
	if kind == "" || kind == loaderNone {
		return nil, nil
	}
	boot := holder(filesystems, "/boot")
	if err := d.readableBy(kind, boot); err != nil {
		return nil, err
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
	lack(wire.UEFI, d.lackUEFI(kind, hasESP), hasESP)
	lack(wire.BIOS, d.lackBIOS(kind, boot), !hasESP)
	if len(lacks) == 2 {
		return nil, fmt.Errorf("no machine could boot as a clone, by UEFI: %s; by a BIOS: %s; -r none leaves the boot loader out", lacks[0].Why, lacks[1].Why)
	}
	return lacks, d.hasKernel()
}

// holder is the file system that has a folder's files: match puts the root
// first.
func holder(filesystems []wire.Filesystem, dir string) wire.Filesystem {
	best, length := filesystems[0], -1
	for _, f := range filesystems {
		for _, at := range f.MountPoints() {
			if Beneath(dir, at) && len(at) > length {
				best, length = f, len(at)
			}
		}
	}
	return best
}

func (d *describer) lackUEFI(kind string, hasESP bool) (why []string) {
	switch kind {
	case loaderLegacy, loaderLILO, loaderExtlinux:
		return []string{kind + " starts machines with a BIOS only"}
	}
	if !hasESP {
		why = append(why, fmt.Sprintf("the layout of %s has no EFI system partition: give a desc (-p) with a line such as efi 512", d.diskNames()))
	}
	if kind == loaderGRUB && !d.hasGRUB("x86_64-efi") {
		why = append(why, "the golden node has no GRUB for UEFI: install its package grub-efi-amd64-bin (grub2-efi-x64-modules)")
	}
	return why
}

// lackBIOS also adds the partition that GRUB needs on a GPT. A golden node
// that can't start from a BIOS itself has none of it.
func (d *describer) lackBIOS(kind string, boot wire.Filesystem) []string {
	switch kind {
	case loaderSystemd:
		return []string{"systemd-boot starts machines with UEFI only"}
	case loaderGRUB:
		if !d.hasGRUB("i386-pc") {
			return []string{"the golden node has no GRUB for a BIOS: install its package grub-pc-bin (grub2-pc-modules)"}
		}
	}
	var why []string
	for _, i := range d.disksOf(boot) {
		disk := &d.disks[i]
		switch {
		case disk.Layout.Table == layout.None:
			why = append(why, fmt.Sprintf("disk %s has no partition table, and so no room for a boot loader", disk.Name))
		case disk.Layout.Table == layout.GPT && (kind == loaderLegacy || kind == loaderLILO):
			why = append(why, fmt.Sprintf("%s knows no GPT, which disk %s has: --table mbr makes it an MBR", kind, disk.Name))
		case kind == loaderGRUB:
			d.addBIOSBoot(disk)
		}
	}
	return why
}

func (d *describer) addBIOSBoot(disk *wire.DiskPlan) {
	l := disk.Layout.WithBIOSBoot()
	if len(l.Parts) != len(disk.Layout.Parts) {
		disk.Layout = l
		d.note("disk %s: a BIOS boot partition of 1 MB is added: GRUB needs one on a GPT", disk.Name)
	}
}

// disksOf is the disks that a file system lies on, as indexes.
func (d *describer) disksOf(f wire.Filesystem) []int {
	if f.On == "" {
		return []int{f.Disk}
	}
	var list []int
	for _, ref := range d.partsOf(f.On) {
		disk, number := layout.SplitPartition(ref)
		if number == 0 {
			disk = ref
		}
		if i := d.diskIndex(disk); i >= 0 && !slices.Contains(list, i) {
			list = append(list, i)
		}
	}
	slices.Sort(list)
	return list
}

// partsOf is the partitions and disks below a thing of the stack, which
// is in it, or is one itself. A stack's order lets this end.
func (d *describer) partsOf(name string) []string {
	var list []string
	for _, ref := range d.madeOf(name) {
		if slices.Contains(Made(d.stack.Stack), ref) {
			list = append(list, d.partsOf(ref)...)
			continue
		}
		list = append(list, ref)
	}
	return list
}

// madeOf is what one thing of the stack is made of.
func (d *describer) madeOf(name string) []string {
	for _, a := range d.stack.Arrays {
		if a.Name == name {
			return a.Members
		}
	}
	for _, c := range d.stack.Crypts {
		if "mapper/"+c.Name == name {
			return []string{c.Device}
		}
	}
	for _, g := range d.stack.Groups {
		if strings.HasPrefix(name, g.Name+"/") {
			return g.Devices
		}
	}
	return nil
}

// hasGRUB says whether the golden system has what GRUB is installed from for
// a platform.
func (d *describer) hasGRUB(platform string) bool {
	if d.facts != nil {
		return slices.Contains(d.facts.GRUB, platform)
	}
	r, err := os.OpenRoot(d.opt.Root)
	if err != nil {
		return false
	}
	defer r.Close()
	for _, dir := range []string{"usr/lib/grub", "usr/share/grub2", "usr/lib/grub2", "usr/share/grub"} {
		if st, err := r.Stat(filepath.Join(dir, platform)); err == nil && st.IsDir() {
			return true
		}
	}
	return false
}

// kernels is where a Linux kernel lies: in /boot or the root, by an entry of
// the Boot Loader Specification, or as a unified image.
var kernels = []string{
	"boot/vmlinu*", "boot/kernel*", "boot/bzImage*", "boot/Image*", "boot/linux*", "boot/initrd-*/vmlinu*", "vmlinu*",
	"boot/*/*/linux", "boot/efi/*/*/linux", "efi/*/*/linux",
	"boot/EFI/Linux/*.efi", "boot/efi/EFI/Linux/*.efi", "efi/EFI/Linux/*.efi",
	"boot/efi/vmlinu*", "efi/vmlinu*", "boot/efi/EFI/*/vmlinu*", "boot/EFI/*/vmlinu*", "efi/EFI/*/vmlinu*",
}

// hasKernel refuses a system without one: a boot loader would start nothing.
func (d *describer) hasKernel() error {
	if d.facts != nil {
		return d.kernelSaved()
	}
	r, err := os.OpenRoot(d.opt.Root)
	if err != nil {
		return fmt.Errorf("look for a kernel: %w", err)
	}
	defer r.Close()
	for _, pattern := range kernels {
		found, err := fs.Glob(r.FS(), pattern)
		if err != nil {
			return fmt.Errorf("look for a kernel: %w", err)
		}
		for _, f := range found {
			if st, err := r.Stat(f); (err == nil && st.Mode().IsRegular() || d.absoluteLink(r, f)) && !d.excluded("/"+f) {
				return nil
			}
		}
	}
	return fmt.Errorf("%s has no kernel in /boot, where the boot loader would look for it: is /boot mounted, or left out with -x? -r none leaves the boot loader out", d.opt.Root)
}

// absoluteLink says whether a name is a link to a file that is there: one that
// begins with / os.Root doesn't follow.
func (d *describer) absoluteLink(r *os.Root, name string) bool {
	to, err := r.Readlink(name)
	if err != nil || !path.IsAbs(to) {
		return false
	}
	st, err := r.Stat(strings.TrimPrefix(path.Clean(to), "/"))
	return err == nil && st.Mode().IsRegular()
}
