package fixup

import (
	"context"
	"path"
	"slices"
	"strings"
)

// dracut is the way of Fedora and RHEL, of openSUSE since 2014, and of any who
// chose it. Golden's initrd has the drivers of golden's hardware alone (its
// "hostonly" mode); the clone's has all.
func (c *clone) dracut(ctx context.Context, rep *StepReport, kernels []kernel) error {
	for _, k := range kernels {
		name := k.initrd
		if name == "" {
			name = c.dracutName(k)
		}
		before, _ := c.tree.stat(name)
		args := append([]string{"--force", "--no-hostonly", "--kver", k.version}, c.dracutWants()...)
		if err := c.chroot.run(ctx, "dracut", append(args, name)...); err != nil {
			return err
		}
		if err := c.made(rep, "dracut", name, before); err != nil {
			return err
		}
	}
	return nil
}

// dracutWants are the modules asked for, and how the root is found where it
// isn't on a plain partition: golden's initrd had that inside. Arrays and
// volumes are found without names (rd.auto, dracut.cmdline(7)): to name the
// root's would shut out those that only the swap is on.
func (c *clone) dracutWants() []string {
	var args []string
	if with := c.env.Plan.Loader.With; len(with) > 0 {
		args = append(args, "--add-drivers", strings.Join(with, " "))
	}
	root, ok := c.vols.at("/")
	if !ok || len(root.via) == 0 {
		return args
	}
	words := []string{"rd.auto=1"}
	for _, p := range root.via {
		if k, ok := c.stk.crypt(p.name); ok && k.uuid != "" {
			words = append(words, "rd.luks.uuid="+k.uuid)
		}
		if p.raid && !slices.Contains(args, "--mdadmconf") {
			args = append(args, "--mdadmconf")
		}
	}
	if c.tree.isFile("/etc/crypttab") && len(words) > 1 {
		args = append(args, "--include", "/etc/crypttab", "/etc/crypttab") // for the container's name
	}
	return append(args, "--kernel-cmdline", strings.Join(words, " "))
}

// crypt is the container that a place is.
func (s stack) crypt(name string) (crypt, bool) {
	for _, k := range s.crypts {
		if "mapper/"+k.name == name {
			return k, true
		}
	}
	return crypt{}, false
}

// dracutName is what the clone's family calls an initrd that isn't there yet.
func (c *clone) dracutName(k kernel) string {
	switch {
	case path.Base(k.image) == "linux":
		return path.Join(path.Dir(k.image), "initrd")
	case c.tree.isFile("/etc/debian_version"):
		return "/boot/initrd.img-" + k.version
	case c.suse():
		return "/boot/initrd-" + k.version
	}
	return "/boot/initramfs-" + k.version + ".img"
}

// suse says whether the clone is a SUSE.
func (c *clone) suse() bool {
	if c.tree.isFile("/etc/SuSE-release") {
		return true
	}
	b, err := c.tree.read("/etc/os-release")
	return err == nil && strings.Contains(strings.ToLower(string(b)), "suse")
}
