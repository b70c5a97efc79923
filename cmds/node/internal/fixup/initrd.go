package fixup

import (
	"context"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

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
	if _, ok := c.tree.program("update-initramfs"); ok {
		return c.initramfsTools(ctx, rep, kernels)
	}
	if with := c.env.Plan.Loader.With; len(with) > 0 {
		return fmt.Errorf("put %s into the initrd: the clone has no update-initramfs, package initramfs-tools is missing on the golden node", strings.Join(with, ", "))
	}
	if len(c.tree.glob("/boot/initr*")) == 0 {
		rep.Skipped = "the golden node boots without an initrd"
		return nil
	}
	rep.warn("the initrd is golden's: the clone has no update-initramfs to make it again")
	return nil
}

// kernels are the versions that have both an image and modules.
func (c *clone) kernels() []string {
	var vs []string
	for _, p := range []string{"/boot/vmlinuz-*", "/boot/vmlinux-*"} {
		for _, name := range c.tree.glob(p) {
			_, v, _ := strings.Cut(name, "-")
			if c.tree.isDir("/lib/modules/" + v) {
				vs = append(vs, v)
			}
		}
	}
	return vs
}

// initramfsTools is Debian's and Ubuntu's way.
func (c *clone) initramfsTools(ctx context.Context, rep *StepReport, kernels []string) error {
	if err := c.initramfsConfig(rep); err != nil {
		return err
	}
	c.checkModules(rep, kernels)
	before := make(map[string]fs.FileInfo, len(kernels))
	for _, v := range kernels {
		before[v], _ = c.tree.stat("/boot/initrd.img-" + v)
	}
	if err := c.chroot.run(ctx, "update-initramfs", "-u", "-k", "all"); err != nil {
		return err
	}
	for _, v := range kernels {
		name := "/boot/initrd.img-" + v
		// -u passes over what it doesn't know or is told to leave
		// (update-initramfs.conf(5)), and calls that a success.
		if c.sameFile(name, before[v]) {
			if err := c.chroot.run(ctx, "update-initramfs", "-c", "-k", v); err != nil {
				return err
			}
		}
		if c.sameFile(name, before[v]) {
			return fmt.Errorf("update-initramfs ended well but made no %s", name)
		}
		rep.touch(name, "made for this hardware")
	}
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

// initramfsConfig wants the modules, and drivers for more than golden's disk.
func (c *clone) initramfsConfig(rep *StepReport) error {
	if len(c.env.Plan.Loader.With) > 0 {
		if err := c.initramfsModules(rep); err != nil {
			return err
		}
	}
	for _, name := range append(c.tree.glob("/etc/initramfs-tools/conf.d/*"), "/etc/initramfs-tools/initramfs.conf") {
		_, err := c.edit(rep, name, "MODULES=most: the clone's disk may hang on another controller", func(s string) string {
			return anyHardware(s)
		})
		if err != nil {
			return err
		}
		if text, err := c.tree.read(name); err == nil && strings.Contains(string(text), "\nMODULES=list") {
			rep.warn("%s has MODULES=list: the clone's disk driver must be in that list", name)
		}
	}
	return nil
}

func (c *clone) initramfsModules(rep *StepReport) error {
	const name = "/etc/initramfs-tools/modules"
	ok := regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	for _, m := range c.env.Plan.Loader.With {
		if !ok.MatchString(m) {
			return fmt.Errorf("module %q: not a module's name", m)
		}
	}
	with := func(s string) string { return addModules(s, c.env.Plan.Loader.With) }
	there, err := c.edit(rep, name, "modules asked for", with)
	if err != nil || there {
		return err
	}
	rep.touch(name, "modules asked for")
	return c.tree.write(name, []byte(with("")), 0o644)
}

// checkModules points at modules asked for that a kernel hasn't got: mkinitramfs
// passes over them without a word.
func (c *clone) checkModules(rep *StepReport, kernels []string) {
	for _, v := range kernels {
		var have strings.Builder // modules.dep(5), one path a line
		for _, list := range []string{"modules.dep", "modules.builtin"} {
			b, err := c.tree.read("/lib/modules/" + v + "/" + list)
			if err != nil {
				rep.warn("%s of kernel %s: %v", list, v, err)
			}
			have.WriteString(plainModule(string(b)) + "\n")
		}
		for _, m := range c.env.Plan.Loader.With {
			if !strings.Contains(have.String(), "/"+plainModule(m)+".ko") {
				rep.warn("kernel %s has no module %s, its initrd is made without", v, m)
			}
		}
	}
}

// plainModule: the kernel takes - and _ for one in a module's name.
func plainModule(m string) string { return strings.ReplaceAll(m, "-", "_") }

// addModules appends the modules that aren't listed.
func addModules(text string, with []string) string {
	have := map[string]bool{}
	for line := range strings.SplitSeq(text, "\n") {
		if f := strings.Fields(line); len(f) > 0 {
			have[plainModule(f[0])] = true
		}
	}
	for _, m := range with {
		if have[plainModule(m)] {
			continue
		}
		have[plainModule(m)] = true
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += m + "\n"
	}
	return text
}

// anyHardware undoes MODULES=dep, by which an initrd has the drivers of the
// machine it was made on and no others (initramfs.conf(5)).
func anyHardware(text string) string {
	return regexp.MustCompile(`(?m)^([ \t]*MODULES=)["']?dep["']?([ \t]*)$`).ReplaceAllString(text, "${1}most${2}")
}
