package fixup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
)

// kernel is one of the clone's, with the initrd that belongs to it.
type kernel struct {
	version string
	image   string // "/boot/vmlinuz-6.1"
	initrd  string // golden's; empty: there is none
}

// fixInitrd makes every kernel's initrd again, in the clone and by the clone's
// own tool: with the modules asked for, for any hardware instead of golden's,
// and with the new UUIDs that the steps before wrote.
func fixInitrd(ctx context.Context, c *clone, rep *StepReport) error {
	kernels := c.kernels()
	if len(kernels) == 0 {
		if c.env.Plan.Loader.Kind == "" || c.env.Plan.Loader.Kind == "none" {
			rep.Skipped = "no kernel in /boot and no boot loader wanted"
			return nil
		}
		return fmt.Errorf("the clone has no kernel with modules: no /boot/vmlinuz-VERSION for a folder of /lib/modules")
	}
	if err := checkModuleNames(c.env.Plan.Loader.With); err != nil {
		return err
	}
	if make := c.initrdTool(); make != nil {
		c.checkModules(rep, kernels)
		c.warnUKI(rep)
		return make(ctx, rep, kernels)
	}
	if with := c.env.Plan.Loader.With; len(with) > 0 {
		return fmt.Errorf("put %s into the initrd: the clone has no update-initramfs, dracut, mkinitcpio or mkinitrd: package initramfs-tools is missing on the golden node", strings.Join(with, ", "))
	}
	for _, k := range kernels {
		if k.initrd == "" {
			continue
		}
		// By golden's UUIDs of arrays and containers nothing is found here.
		if root, ok := c.vols.at("/"); ok && len(root.via) > 0 {
			return fmt.Errorf("%s is golden's, and the root is on %s, which is another on the clone: the clone has no update-initramfs, dracut, mkinitcpio or mkinitrd to make it again", k.initrd, root.via[0].name)
		}
		rep.warn("the initrd is golden's: the clone has no update-initramfs, dracut, mkinitcpio or mkinitrd to make it again")
		return nil
	}
	rep.Skipped = "the golden node boots without an initrd"
	return nil
}

// initrdTool is the clone's program for it, each of which belongs to a family.
// Fedora and openSUSE call a script by dracut's side mkinitrd too.
func (c *clone) initrdTool() func(context.Context, *StepReport, []kernel) error {
	has := func(name string) bool { _, ok := c.tree.program(name); return ok }
	switch {
	case has("update-initramfs") && (has("mkinitramfs") || !has("dracut")):
		return c.initramfsTools
	case has("dracut"):
		return c.dracut
	case has("mkinitcpio"):
		return c.mkinitcpio
	case has("mkinitrd"):
		return c.mkinitrd
	}
	return nil
}

// kernels are those that have both an image and modules.
func (c *clone) kernels() []kernel {
	var ks []kernel
	seen := map[string]bool{}
	add := func(version, image string) {
		if version == "" || seen[version] || !c.tree.isDir("/lib/modules/"+version) || !c.tree.isFile(image) {
			return
		}
		seen[version] = true
		ks = append(ks, kernel{version, image, c.initrdOf(image, version)})
	}
	for _, kind := range []string{"vmlinuz-", "vmlinux-", "Image-", "bzImage-"} {
		for _, name := range c.tree.glob("/boot/" + kind + "*") {
			add(strings.TrimPrefix(path.Base(name), kind), name)
		}
	}
	// Arch's is named after its package, which its modules name.
	for _, e := range c.tree.list("/lib/modules") {
		if pkg := c.tree.firstLine(path.Join("/lib/modules", e.Name(), "pkgbase")); pkg != "" && path.Base(pkg) == pkg {
			add(e.Name(), "/boot/vmlinuz-"+pkg)
		}
	}
	// kernel-install's: a folder for the machine, one for each version.
	for _, boot := range c.bootFolders() {
		for _, e := range c.tree.list(boot) {
			if !e.IsDir() {
				continue
			}
			for _, v := range c.tree.list(path.Join(boot, e.Name())) {
				add(v.Name(), path.Join(boot, e.Name(), v.Name(), "linux"))
			}
		}
	}
	return ks
}

// initrdOf is the initrd beside a kernel's image, by the names that the
// families give it.
func (c *clone) initrdOf(image, version string) string {
	dir, base := path.Split(image)
	_, name, _ := strings.Cut(base, "-") // Arch: "linux"
	for _, n := range []string{
		"initrd.img-" + version, "initramfs-" + version + ".img", "initrd-" + version + ".img", "initrd-" + version,
		"initramfs-" + name + ".img",
	} {
		if c.tree.isFile(dir + n) {
			return dir + n
		}
	}
	if base == "linux" && c.tree.isFile(dir+"initrd") {
		return dir + "initrd"
	}
	return ""
}

// made says whether a program that ended well really made an initrd.
func (c *clone) made(rep *StepReport, program, name string, was fs.FileInfo) error {
	if c.sameFile(name, was) {
		return fmt.Errorf("%s ended well but made no %s", program, name)
	}
	if fi, err := c.tree.stat(name); err != nil || fi.Size() == 0 {
		return fmt.Errorf("%s ended well but %s is empty", program, name)
	}
	rep.touch(name, "made for this hardware")
	return nil
}

// sameFile says whether a file is still what it was, or still isn't there.
func (c *clone) sameFile(name string, was fs.FileInfo) bool {
	is, err := c.tree.stat(name)
	if err != nil {
		return true
	}
	return was != nil && is.ModTime().Equal(was.ModTime()) && is.Size() == was.Size()
}

// checkModuleNames: the names are to be words of files and arguments.
func checkModuleNames(with []string) error {
	ok := regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]*$`)
	for _, m := range with {
		if !ok.MatchString(m) {
			return fmt.Errorf("module %q: not a module's name", m)
		}
	}
	return nil
}

// checkModules points at modules asked for that a kernel hasn't got: mkinitramfs
// passes over them without a word.
func (c *clone) checkModules(rep *StepReport, kernels []kernel) {
	for _, k := range kernels {
		have, err := c.moduleList(k.version)
		if err != nil {
			rep.warn("modules of kernel %s: %v", k.version, err)
		}
		for _, m := range c.env.Plan.Loader.With {
			if !hasModule(have, m) {
				rep.warn("kernel %s has no module %s, its initrd is made without", k.version, m)
			}
		}
	}
}

// moduleList is what modules.dep(5) and modules.builtin say, one path a line.
func (c *clone) moduleList(version string) (string, error) {
	var have strings.Builder
	var errs []error
	for _, list := range []string{"modules.dep", "modules.builtin"} {
		b, err := c.tree.read("/lib/modules/" + version + "/" + list)
		if err != nil && !(list == "modules.builtin" && errors.Is(err, errAbsent)) { // since Linux 2.6.33
			errs = append(errs, fmt.Errorf("%s: %w", list, err))
		}
		have.WriteString(plainModule(string(b)) + "\n")
	}
	return have.String(), errors.Join(errs...)
}

func hasModule(list, m string) bool { return strings.Contains(list, "/"+plainModule(m)+".ko") }

// plainModule: the kernel takes - and _ for one in a module's name.
func plainModule(m string) string { return strings.ReplaceAll(m, "-", "_") }

// warnUKI: an image of kernel, initrd and command line in one is signed, or
// may be, and only the tool that made it can make it again.
func (c *clone) warnUKI(rep *StepReport) {
	for _, dir := range c.bootFolders() {
		for _, name := range c.tree.glob(path.Join(dir, "EFI/Linux/*.efi")) {
			if _, ok := c.tree.program("mkinitcpio"); !ok {
				rep.warn("%s has an initrd and maybe a command line of golden's inside", name)
			}
		}
	}
}
