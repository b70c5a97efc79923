package fixup

import (
	"context"
	"path"
	"strings"
)

// fixUUIDs replaces golden's UUIDs in the other files known to name some. What
// is made by a program (grub.cfg) is made again later, not edited here.
func fixUUIDs(_ context.Context, c *clone, rep *StepReport) error {
	files := append(c.cmdlineFiles(),
		"/etc/crypttab", "/etc/hdparm.conf", "/etc/smartd.conf", "/etc/updatedb.conf",
		"/etc/lilo.conf", "/boot/grub/menu.lst", "/boot/grub/custom.cfg",
		"/boot/extlinux/extlinux.conf", "/boot/syslinux/syslinux.cfg")
	for _, p := range []string{
		"/etc/initramfs-tools/conf.d/*", "/etc/initramfs-tools/scripts/local-top/*",
		"/etc/systemd/system/*.mount", "/etc/systemd/system/*.automount", "/etc/systemd/system/*.swap",
		"/etc/grub.d/*", "/boot/loader/entries/*.conf", "/etc/fstab.d/*", "/etc/dracut.conf.d/*.conf",
	} {
		files = append(files, c.tree.glob(p)...)
	}
	// A default entry that was saved has the UUID in its name.
	files = append(files, "/boot/grub/grubenv", "/boot/grub2/grubenv")
	files = append(files, c.espMenus()...)
	for _, name := range files {
		if !c.tree.isFile(name) {
			continue
		}
		_, err := c.edit(rep, name, "golden's UUIDs", func(s string) string {
			now := replaceUUIDs(s, c.vols)
			if path.Base(name) == "grubenv" && len(now) != len(s) {
				return s // grub writes to its 1024 bytes in place
			}
			return now
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

// replaceUUIDs puts the new in the place of the old, of file systems and of
// partitions, in systemd's escaped spelling too.
func replaceUUIDs(s string, vols volumes) string {
	for _, v := range vols {
		for _, p := range [][2]string{{v.old.OldUUID, v.now.UUID}, {v.old.OldPartID, v.now.PartID}} {
			if p[0] == "" || p[1] == "" {
				continue
			}
			s = replaceID(s, p[0], p[1])
			s = replaceToken(s, systemdEscape(p[0]), systemdEscape(p[1]), alnum, alnum)
		}
	}
	return s
}

// systemdEscape spells a UUID as a unit's name has it, systemd-escape(1).
func systemdEscape(id string) string { return strings.ReplaceAll(id, "-", `\x2d`) }
