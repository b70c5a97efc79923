package fixup

import (
	"context"
	"io/fs"
	"regexp"
	"strings"
)

// initramfsTools is Debian's and Ubuntu's way.
func (c *clone) initramfsTools(ctx context.Context, rep *StepReport, kernels []kernel) error {
	if err := c.initramfsConfig(rep); err != nil {
		return err
	}
	before := make(map[string]fs.FileInfo, len(kernels))
	for _, k := range kernels {
		before[k.version], _ = c.tree.stat("/boot/initrd.img-" + k.version)
	}
	if err := c.chroot.run(ctx, "update-initramfs", "-u", "-k", "all"); err != nil {
		return err
	}
	for _, k := range kernels {
		name := "/boot/initrd.img-" + k.version
		// -u passes over what it doesn't know or is told to leave
		// (update-initramfs.conf(5)), and calls that a success.
		if c.sameFile(name, before[k.version]) {
			if err := c.chroot.run(ctx, "update-initramfs", "-c", "-k", k.version); err != nil {
				return err
			}
		}
		if err := c.made(rep, "update-initramfs", name, before[k.version]); err != nil {
			return err
		}
	}
	return nil
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
	if err := checkModuleNames(c.env.Plan.Loader.With); err != nil {
		return err
	}
	with := func(s string) string { return addModules(s, c.env.Plan.Loader.With) }
	there, err := c.edit(rep, name, "modules asked for", with)
	if err != nil || there {
		return err
	}
	rep.touch(name, "modules asked for")
	return c.tree.write(name, []byte(with("")), 0o644)
}

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
