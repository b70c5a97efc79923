package fixup

import (
	"context"
	"fmt"
	"path"
	"strings"
)

// fixEntries puts the boot loader specification's entries right (Fedora's and
// RHEL's GRUB reads them, and systemd-boot): the options of the kernels, and
// the machine-id that begins an entry's name. With golden's left in the name the
// next kernel's entry, named after the clone's own, would sort behind the old
// one's, and the old kernel would start.
func fixEntries(_ context.Context, c *clone, rep *StepReport) error {
	id := c.ownMachineID()
	change := func(name string) func(string) string {
		return func(s string) string {
			out, notes := rewriteCmdline(s, c.vols)
			for _, n := range notes {
				rep.warn("%s: %s", name, n)
			}
			return replaceMachine(replaceIDs(out, c.ids), id)
		}
	}
	for _, name := range c.entryFiles() {
		if _, err := c.edit(rep, name, "the clone's file systems and machine-id", change(name)); err != nil {
			return err
		}
	}
	for _, name := range []string{"/boot/grub/grubenv", "/boot/grub2/grubenv"} {
		_, err := c.edit(rep, name, "the clone's file systems and machine-id", func(s string) string {
			out, err := rewriteGrubenv(s, change(name))
			if err != nil {
				rep.warn("%s: %v", name, err)
			}
			return out
		})
		if err != nil {
			return err
		}
	}
	if err := c.renameMachine(rep, id); err != nil {
		return err
	}
	if len(rep.Files) == 0 {
		rep.Skipped = "the golden node has no boot loader entries that name it"
	}
	return nil
}

// ownMachineID is golden's id and the clone's, if both are known and differ.
func (c *clone) ownMachineID() id {
	now := c.tree.firstLine(etcMachineID)
	if !isMachineID(c.oldMachine) || !isMachineID(now) || strings.EqualFold(now, c.oldMachine) {
		return id{}
	}
	return id{"machine-id", c.oldMachine, now}
}

func replaceMachine(s string, m id) string {
	if m.old == "" {
		return s
	}
	return replaceToken(s, m.old, m.now, alnum, alnum)
}

// bootFolders are where entries, and the kernels they start, may be.
func (c *clone) bootFolders() []string {
	dirs := []string{"/boot"}
	if esp, ok := c.esp(); ok && esp.old.MountPoint != "/boot" {
		dirs = append(dirs, esp.old.MountPoint)
	}
	return dirs
}

// entryFiles are the entries, and what says which of them is the first.
func (c *clone) entryFiles() []string {
	files := []string{"/etc/kernel/entry-token"}
	for _, dir := range c.bootFolders() {
		files = append(files, c.tree.glob(path.Join(dir, "loader/entries/*.conf"))...)
		files = append(files, path.Join(dir, "loader/loader.conf"))
	}
	return files
}

// renameMachine renames what has golden's machine-id in its name: entries, and
// the folders and files of kernels that they name.
func (c *clone) renameMachine(rep *StepReport, m id) error {
	if m.old == "" {
		return nil
	}
	for _, dir := range c.bootFolders() {
		for _, sub := range []string{"loader/entries", "EFI/Linux", ""} {
			for _, e := range c.tree.list(path.Join(dir, sub)) {
				now := replaceMachine(e.Name(), m)
				if now == e.Name() {
					continue
				}
				from, to := path.Join(dir, sub, e.Name()), path.Join(dir, sub, now)
				if err := c.tree.rename(from, to); err != nil {
					return fmt.Errorf("rename %s: %w", from, err)
				}
				rep.touch(to, "was "+e.Name()+", after golden's machine-id")
			}
		}
	}
	return nil
}

const (
	grubenvHead = "# GRUB Environment Block\n" // GRUB's include/grub/lib/envblk.h
	grubenvSize = 1024                         // bytes: GRUB writes to them in place, and takes no other size
)

// rewriteGrubenv changes GRUB's saved variables, and keeps the block's size.
func rewriteGrubenv(text string, change func(string) string) (string, error) {
	body, ok := strings.CutPrefix(text, grubenvHead)
	if !ok || len(text) != grubenvSize {
		now := change(text)
		if len(now) != len(text) {
			return text, fmt.Errorf("not GRUB's block of %d bytes, left as it is", grubenvSize)
		}
		return now, nil
	}
	body = strings.TrimRight(body, "#")
	now := change(body)
	if now == body {
		return text, nil
	}
	room := grubenvSize - len(grubenvHead)
	if len(now) > room {
		return text, fmt.Errorf("%d bytes are more than the %d of GRUB's block, left as it is", len(now), room)
	}
	return grubenvHead + now + strings.Repeat("#", room-len(now)), nil
}
