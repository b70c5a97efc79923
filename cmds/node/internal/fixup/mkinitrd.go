package fixup

import (
	"context"
	"path"
	"strings"
)

// mkinitrd is the way of Mandriva, Red Hat and SUSE before dracut. Two programs
// of that name have nothing else in common. Both look for the root and its
// driver on the machine they run on, which is the clone's.
func (c *clone) mkinitrd(ctx context.Context, rep *StepReport, kernels []kernel) error {
	for _, k := range kernels {
		name := k.initrd
		if name == "" {
			name = "/boot/initrd-" + k.version + ".img"
			if c.suse() {
				name = "/boot/initrd-" + k.version
			}
		}
		before, _ := c.tree.stat(name)
		if err := c.chroot.run(ctx, "mkinitrd", c.mkinitrdArgs(k, name)...); err != nil {
			return err
		}
		if err := c.made(rep, "mkinitrd", name, before); err != nil {
			return err
		}
	}
	return nil
}

func (c *clone) mkinitrdArgs(k kernel, name string) []string {
	with := c.env.Plan.Loader.With
	if c.suse() { // names are of /boot, mkinitrd(8) of SUSE
		args := []string{"-k", path.Base(k.image), "-i", path.Base(name)}
		if len(with) > 0 {
			args = append(args, "-m", strings.Join(with, " "))
		}
		return args
	}
	var args []string
	for _, m := range with {
		args = append(args, "--with="+m)
	}
	return append(args, "-f", name, k.version)
}
