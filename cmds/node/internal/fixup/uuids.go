package fixup

import (
	"context"
	"strings"
)

// fixUUIDs replaces golden's UUIDs in the other files known to name some. What
// is made by a program (grub.cfg) is made again later, not edited here.
func fixUUIDs(_ context.Context, c *clone, rep *StepReport) error {
	files := append(c.cmdlineFiles(),
		"/etc/hdparm.conf", "/etc/smartd.conf", "/etc/updatedb.conf", "/etc/initramfs-tools/modules",
		"/etc/sysconfig/kernel", "/etc/sysconfig/bootloader", "/etc/snapper/configs/root", "/etc/mkinitcpio.conf")
	for _, p := range []string{
		"/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/scripts/local-top/*",
		"/etc/systemd/system/*.mount", "/etc/systemd/system/*.automount", "/etc/systemd/system/*.swap",
		"/etc/grub.d/*", "/etc/fstab.d/*", "/etc/lvm/profile/*", "/etc/mkinitcpio.d/*.preset", "/etc/kernel/*",
	} {
		files = append(files, c.tree.glob(p)...)
	}
	files = append(files, c.espMenus()...)
	for _, name := range files {
		if !c.tree.isFile(name) {
			continue
		}
		_, err := c.edit(rep, name, "golden's UUIDs", func(s string) string {
			return replaceIDs(s, c.ids)
		})
		if err != nil {
			return err
		}
	}
	if len(rep.Files) == 0 {
		rep.Skipped = "no other file names golden's UUIDs"
	}
	return nil
}

// replaceIDs puts the new in the place of the old, in all spellings that a
// program has for them.
func replaceIDs(s string, ids []id) string {
	for _, d := range ids {
		if d.old == "" || d.now == "" {
			continue
		}
		s = replaceID(s, d.old, d.now)
		s = replaceToken(s, systemdEscape(d.old), systemdEscape(d.now), alnum, alnum)
		if d.what == "array" || d.what == "container" { // GRUB's mduuid/ and cryptouuid/
			s = replaceToken(s, plainID(d.old), plainID(d.now), alnum, alnum)
		}
		if d.what == "array" { // systemd's and dracut's
			s = replaceToken(s, dashedID(d.old), dashedID(d.now), alnum, alnum)
		}
	}
	return s
}

// plainID is a UUID's digits alone.
func plainID(id string) string { return strings.NewReplacer("-", "", ":", "").Replace(id) }

// dashedID is an array's UUID as other UUIDs are written.
func dashedID(id string) string {
	p := plainID(id)
	if len(p) != 32 {
		return id
	}
	return p[:8] + "-" + p[8:12] + "-" + p[12:16] + "-" + p[16:20] + "-" + p[20:]
}

// systemdEscape spells a UUID as a unit's name has it, systemd-escape(1).
func systemdEscape(id string) string { return strings.ReplaceAll(id, "-", `\x2d`) }
