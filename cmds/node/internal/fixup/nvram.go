package fixup

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// nvram is the firmware's list of what it can boot, as efibootmgr prints it.
type nvram struct {
	order   []string // "0003": the numbers that it tries, first to last
	entries []bootEntry
}

// bootEntry is one of them.
type bootEntry struct{ number, label, path string }

// bootEntry puts the clone into the firmware's list of what to boot, in place
// of what an earlier system of that name left there.
//
// Its place is the first, but for network entries that are before all others:
// who has his machines boot from the network first wants them to go on so, and
// the clone comes right behind. An entry that the firmware refuses is no
// failure: EFI/BOOT/BOOTX64.EFI needs none (UEFI specification, 3.5.1.1).
func (c *clone) bootEntry(ctx context.Context, rep *StepReport, esp volume, dir, loader string) error {
	if c.env.Plan.Identity.NoNVRAM {
		return nil
	}
	if _, ok := c.tree.program("efibootmgr"); !ok {
		return nil // nobody can
	}
	if err := c.openVariables(); err != nil {
		rep.warn("the firmware's list stays as it is: %v", err)
		return nil
	}
	if esp.old.On != "" || esp.old.Part == 0 {
		rep.warn("the firmware's list stays as it is: the EFI system partition is on %s, and no partition", esp.now.Device)
		return nil
	}
	if err := c.writeEntry(ctx, rep, esp, dir, loader); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		rep.warn("the firmware's list can't be written, EFI/BOOT/BOOTX64.EFI has to do: %v", err)
	}
	return nil
}

// openVariables mounts the firmware's variables in the clone. The node's kernel
// has a folder for them where it was started by UEFI.
func (c *clone) openVariables() error {
	const vars = "/sys/firmware/efi/efivars"
	if err := c.chroot.open(); err != nil {
		return err
	}
	on := filepath.Join(c.tree.path, vars)
	if slices.Contains(c.chroot.mounts, on) {
		return nil
	}
	if err := unix.Mount("efivarfs", on, "efivarfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount efivarfs on %s: %w", on, err)
	}
	c.chroot.mounts = append(c.chroot.mounts, on)
	return nil
}

func (c *clone) writeEntry(ctx context.Context, rep *StepReport, esp volume, dir, loader string) error {
	label := path.Base(dir)
	file := `\EFI\` + label + `\` + loader
	if strings.EqualFold(label, "systemd") {
		label = "Linux Boot Manager" // bootctl's
	}
	was, err := c.readNVRAM(ctx)
	if err != nil {
		return err
	}
	old := was.stale(label, file, c.otherSystems(esp))
	for _, e := range old {
		if err := c.chroot.run(ctx, "efibootmgr", "-q", "-b", e.number, "-B"); err != nil {
			return err
		}
		rep.touch("NVRAM Boot"+e.number, "removed: "+e.label+" of an earlier system")
	}
	args := []string{"-q", "-c", "-d", esp.disk, "-p", strconv.Itoa(esp.old.Part), "-L", label, "-l", file}
	if err := c.chroot.run(ctx, "efibootmgr", args...); err != nil {
		return err
	}
	now, err := c.readNVRAM(ctx)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(was.entries, func(e bootEntry) bool { return slices.Contains(old, e) })
	i := slices.IndexFunc(now.entries, func(e bootEntry) bool {
		return e.label == label && !slices.ContainsFunc(kept, func(k bootEntry) bool { return k.number == e.number })
	})
	if i < 0 {
		return fmt.Errorf("efibootmgr ended well but the list has no %q", label)
	}
	own := now.entries[i].number
	rep.touch("NVRAM Boot"+own, label+", "+file)
	order := now.placed(own)
	if slices.Equal(order, now.order) {
		return nil
	}
	return c.chroot.run(ctx, "efibootmgr", "-q", "-o", strings.Join(order, ","))
}

func (c *clone) readNVRAM(ctx context.Context) (nvram, error) {
	said, err := c.chroot.ask(ctx, "", "efibootmgr", "-v")
	if err != nil {
		return nvram{}, err
	}
	return parseNVRAM(said), nil
}

// parseNVRAM reads what efibootmgr -v prints: "BootOrder: 0001,0000" and
// "Boot0001* label<tab>path".
func parseNVRAM(text string) nvram {
	var n nvram
	entry := regexp.MustCompile(`^Boot([0-9A-F]{4})[* ] ?([^\t]*)(?:\t(.*))?$`)
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if v, ok := strings.CutPrefix(line, "BootOrder: "); ok {
			n.order = strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ' ' })
		}
		if m := entry.FindStringSubmatch(line); m != nil {
			n.entries = append(n.entries, bootEntry{m[1], strings.TrimSpace(m[2]), m[3]})
		}
	}
	return n
}

// stale are the entries of a disk's loader that the clone's own takes the place
// of: of its label, or of its file. Those of partitions that other disks of this
// machine have stay: another system of the same distribution is started by them.
func (n nvram) stale(label, file string, others map[string]bool) []bootEntry {
	var out []bootEntry
	for _, e := range n.entries {
		onDisk := strings.Contains(e.path, "HD(") || e.path == ""
		ownFile := strings.Contains(strings.ToLower(strings.ReplaceAll(e.path, "/", `\`)), strings.ToLower(file))
		if onDisk && !e.network() && !others[e.partition()] && (e.label == label || ownFile) {
			out = append(out, e)
		}
	}
	return out
}

// partition is the GUID of the partition that an entry's file is on, in small
// letters (UEFI specification, 10.3.5.1); empty: it names none.
func (e bootEntry) partition() string {
	m := regexp.MustCompile(`HD\(\d+,GPT,([0-9A-Fa-f-]{36}),`).FindStringSubmatch(e.path)
	if m == nil {
		return ""
	}
	return strings.ToLower(m[1])
}

// network says whether an entry boots from the network: its device path ends
// there (UEFI specification, 10.3.4).
func (e bootEntry) network() bool {
	p := strings.ToLower(e.path)
	for _, word := range []string{"mac(", "ipv4(", "ipv6(", "uri("} {
		if strings.Contains(p, word) {
			return true
		}
	}
	return false
}

// placed is the order with one entry right behind the network entries that come
// before all others. The firmware's own programs among them, such as its setup,
// are no systems that a machine boots.
func (n nvram) placed(own string) []string {
	is := func(number string, what func(bootEntry) bool) bool {
		return slices.ContainsFunc(n.entries, func(e bootEntry) bool { return e.number == number && what(e) })
	}
	// Some firmware leaves numbers behind that have no entry any more.
	var order []string
	for _, number := range n.order {
		there := is(number, func(bootEntry) bool { return true })
		if there && number != own && !slices.Contains(order, number) {
			order = append(order, number)
		}
	}
	place := 0
	for i, number := range order {
		if is(number, bootEntry.network) {
			place = i + 1
		} else if !is(number, bootEntry.firmware) {
			break
		}
	}
	return slices.Insert(order, place, own)
}

// firmware says whether an entry is a program of the firmware's own.
func (e bootEntry) firmware() bool { return strings.Contains(e.path, "FvFile(") }
