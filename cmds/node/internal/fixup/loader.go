package fixup

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// The kinds of boot loader that are known.
const (
	grub2       = "grub"
	grubLegacy  = "grub-legacy"
	lilo        = "lilo"
	systemdBoot = "systemd-boot"
	extlinux    = "extlinux"
	noLoader    = "none"
)

// fixMenu makes what the boot loader reads: its menu, or the file that it is
// installed from. A menu of another loader that is there too is put right.
func fixMenu(ctx context.Context, c *clone, rep *StepReport) error {
	if err := c.patchMenus(rep); err != nil {
		return err
	}
	kind, err := c.loaderKind(rep)
	if err != nil {
		return err
	}
	switch kind {
	case grub2:
		return c.grubMenu(ctx, rep)
	case grubLegacy:
		return c.legacyMap(rep)
	case systemdBoot:
		return c.checkEntries()
	case noLoader:
		rep.Skipped = "no boot loader wanted"
	}
	return nil
}

// fixLoader puts the boot loader in front, last of all that is written to the
// disk.
func fixLoader(ctx context.Context, c *clone, rep *StepReport) error {
	kind, err := c.loaderKind(rep)
	if err != nil {
		return err
	}
	switch kind {
	case grub2:
		return c.grub(ctx, rep)
	case grubLegacy:
		return c.legacy(ctx, rep)
	case lilo:
		return c.lilo(ctx, rep)
	case systemdBoot:
		return c.systemdBoot(ctx, rep)
	case extlinux:
		return c.extlinux(ctx, rep)
	}
	rep.Skipped = "no boot loader wanted"
	return nil
}

// loaderKind is the plan's boot loader, or another one that golden has too,
// where the plan's can't start this node's firmware.
func (c *clone) loaderKind(rep *StepReport) (string, error) {
	kind := c.env.Plan.Loader.Kind
	uefi := c.env.Firmware == wire.UEFI
	switch kind {
	case "", noLoader:
		return noLoader, nil
	case grub2:
		return kind, nil
	case grubLegacy, lilo, extlinux:
		if !uefi {
			return kind, nil
		}
		if _, err := c.grubTools(); err == nil {
			return grub2, nil
		}
		if c.hasSystemdBoot() {
			return systemdBoot, nil
		}
	case systemdBoot:
		if uefi {
			return kind, nil
		}
		if _, err := c.grubTools(); err == nil {
			return grub2, nil
		}
	default:
		return "", fmt.Errorf("boot loader %q: only grub, grub-legacy, lilo, systemd-boot, extlinux and none are known", kind)
	}
	return "", fmt.Errorf("%s doesn't start a machine with %s firmware, and the golden node has no boot loader besides that does", kind, strings.ToUpper(c.env.Firmware))
}

// bootVolume is the file system that the boot loader's files are in.
func (c *clone) bootVolume() (volume, error) {
	if v, ok := c.vols.holds("/boot"); ok {
		return v, nil
	}
	return volume{}, errors.New("the plan has no file system for / or /boot: which disk is to boot isn't known")
}

// bootDisks are the node's disks that are to have a boot record: each of an
// array's, for any of them may be the one that is left. Of a volume group's the
// one that has a place for it.
func (c *clone) bootDisks(v volume) []string {
	if len(v.disks) < 2 || slices.ContainsFunc(v.via, func(p place) bool { return p.raid }) {
		return v.disks
	}
	for i, d := range c.env.Plan.Disks {
		marked := func(p layout.Part) bool { return p.Boot || p.GUID == layout.GUIDBIOSBoot }
		if slices.Contains(v.disks, c.stk.nodes[i]) && slices.ContainsFunc(d.Layout.Parts, marked) {
			return []string{c.stk.nodes[i]}
		}
	}
	return v.disks[:1]
}

// patchMenus puts right by hand what no program makes again, and the menus of
// loaders that aren't installed: somebody else's may read them.
func (c *clone) patchMenus(rep *StepReport) error {
	for _, m := range []struct {
		files   []string
		rewrite func(string) (string, []string)
	}{
		{c.legacyMenus(), func(s string) (string, []string) { return rewriteLegacy(s, c.drives(), c.vols) }},
		{[]string{liloConf}, func(s string) (string, []string) { return rewriteLilo(s, c) }},
		{c.syslinuxMenus(), func(s string) (string, []string) { return rewriteCmdline(s, c.vols) }},
		{[]string{"/boot/grub/grub.cfg", "/boot/grub2/grub.cfg", "/boot/grub/custom.cfg", "/boot/grub2/custom.cfg"}, func(s string) (string, []string) { return s, nil }},
	} {
		for _, name := range m.files {
			_, err := c.edit(rep, name, "golden's disks and UUIDs", func(s string) string {
				out, notes := m.rewrite(s)
				for _, n := range notes {
					rep.warn("%s: %s", name, n)
				}
				return replaceIDs(out, c.ids)
			})
			if err != nil {
				return err
			}
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
