package fixup

import (
	"context"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// notCloned begins the line of a file system that the clone doesn't have.
const notCloned = "# not on the clone: "

// fixFstab names each of the clone's file systems by its new UUID.
func fixFstab(_ context.Context, c *clone, rep *StepReport) error {
	const name, why = "/etc/fstab", "file systems by their new UUIDs"
	change := func(s string) string {
		out, notes := rewriteFstab(s, c.vols)
		out, added := addMissing(out, c.vols)
		for _, l := range added {
			notes = append(notes, "fstab: golden's has no such line, added: "+l)
		}
		rep.Warnings = append(rep.Warnings, notes...)
		return out
	}
	there, err := c.edit(rep, name, why, change)
	if err != nil || there || len(c.vols) == 0 {
		return err
	}
	rep.touch(name, why)
	return c.tree.write(name, []byte(change("")), 0o644)
}

// fstabLine is a line of fstab(5) taken apart so that it can be put together
// again with nothing but the first field changed.
type fstabLine struct {
	lead, spec, gap string // white space, the device, white space
	rest            string // from the mount point to the line's end
	mount, kind     string
}

const blanks = " \t" // fstab(5): fields are separated by tabs or spaces

func parseFstabLine(s string) (l fstabLine, ok bool) {
	body := strings.TrimLeft(s, blanks)
	if body == "" || body[0] == '#' || body[0] == '\n' || body[0] == '\r' {
		return l, false
	}
	l.lead = s[:len(s)-len(body)]
	i := strings.IndexAny(body, blanks+"\r\n")
	if i < 0 {
		return l, false
	}
	l.spec, body = body[:i], body[i:]
	l.rest = strings.TrimLeft(body, blanks)
	l.gap = body[:len(body)-len(l.rest)]
	f := strings.Fields(l.rest)
	if len(f) < 2 {
		return l, false // no type: mount(8) ignores the line too
	}
	l.mount, l.kind = unescape(f[0], `\`, 8, 3), f[1]
	return l, true
}

// with puts the line together, its second column where it was if it can be.
func (l fstabLine) with(spec string) string {
	gap := l.gap
	if len(gap) > 1 && strings.Trim(gap, " ") == "" { // a column
		n := len(gap) + len(l.spec) - len(spec)
		gap = strings.Repeat(" ", max(n, 1))
	}
	return l.lead + spec + gap + l.rest
}

func (l fstabLine) swap() bool { return l.kind == "swap" }

// rewriteFstab is fixFstab's text. Comments, order and columns stay; what
// stands on a disk that wasn't cloned is commented out, because a missing
// device stops systemd's boot for 90 seconds and then altogether.
func rewriteFstab(text string, vols volumes) (out string, notes []string) {
	lines := strings.SplitAfter(text, "\n")
	spare, hasSpare := spareSwap(lines, vols)
	var b strings.Builder
	for _, s := range lines {
		l, ok := parseFstabLine(s)
		if !ok || !isGoldenDisk(l.spec) {
			b.WriteString(s)
			continue
		}
		v, found := vols.find(l.spec)
		switch {
		case found:
		case l.swap():
			v, found = spare, hasSpare
		default:
			v, found = vols.at(l.mount)
		}
		switch {
		case !found:
			b.WriteString(l.lead + notCloned + strings.TrimLeft(s, blanks))
			notes = append(notes, "fstab: "+l.spec+" ("+l.mount+") is not on the clone, commented out")
		case l.spec == v.spec():
			b.WriteString(s)
		default:
			b.WriteString(l.with(v.spec()))
		}
	}
	return b.String(), notes
}

// addMissing appends a line for each of the clone's file systems that has none
// (the plan's layout may have a swap or a /var that golden hasn't, and golden
// may have found its root without fstab). Where a systemd unit mounts it, the
// unit goes before the line, systemd.mount(5).
func addMissing(text string, vols volumes) (out string, added []string) {
	named, mounted := map[string]bool{}, map[string]bool{}
	for s := range strings.SplitAfterSeq(text, "\n") {
		l, ok := parseFstabLine(s)
		if !ok {
			continue
		}
		mounted[l.mount] = true
		if v, ok := vols.find(l.spec); ok {
			named[v.now.UUID] = true
		}
	}
	for _, v := range vols {
		line := v.spec() + " " + escapeBlanks(v.old.MountPoint) + " " + v.old.Type + " defaults 0 2"
		switch {
		case named[v.now.UUID]:
			continue
		case v.swap():
			line = v.spec() + " none swap sw 0 0"
		case v.old.MountPoint == "" || mounted[v.old.MountPoint]:
			continue
		case v.old.Type == wire.VFAT: // as Debian's installer has it
			line = v.spec() + " " + escapeBlanks(v.old.MountPoint) + " vfat umask=0077 0 1"
		case v.old.MountPoint == "/":
			line = v.spec() + " / " + v.old.Type + " errors=remount-ro 0 1"
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		text += line + "\n"
		added = append(added, line)
	}
	return text, added
}

// escapeBlanks writes a name as one field, fstab(5).
func escapeBlanks(s string) string {
	return strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(s)
}

// spareSwap is the one swap area that no line names, where there is also just
// one swap line that names no area of the plan: they belong together (golden's
// fstab called it by a path that only its own disk has).
func spareSwap(lines []string, vols volumes) (volume, bool) {
	taken, unknown := map[string]bool{}, 0
	for _, s := range lines {
		l, ok := parseFstabLine(s)
		if !ok || !l.swap() || !isGoldenDisk(l.spec) {
			continue
		}
		if v, ok := vols.find(l.spec); ok {
			taken[v.now.UUID] = true
		} else {
			unknown++
		}
	}
	var free volumes
	for _, v := range vols.swaps() {
		if !taken[v.now.UUID] {
			free = append(free, v)
		}
	}
	if len(free) != 1 || unknown != 1 {
		return volume{}, false
	}
	return free[0], true
}

// isGoldenDisk says whether a first field names a file system on a disk that
// stays in a machine: not a pseudo or network file system, a file, a bind
// mount, nor a drive for media.
func isGoldenDisk(spec string) bool {
	tag, val := splitSpec(spec)
	switch tag {
	case "UUID", "PARTUUID", "LABEL", "PARTLABEL", "ID":
		return true
	case "":
	default:
		return false
	}
	name, ok := strings.CutPrefix(val, "/dev/")
	if !ok {
		return false
	}
	for _, media := range []string{"cdrom", "cdrw", "dvd", "sr", "scd", "fd", "floppy", "loop", "ram", "zram", "shm", "nfs"} {
		if rest, ok := strings.CutPrefix(name, media); ok && strings.Trim(rest, "0123456789") == "" {
			return false
		}
	}
	return true
}
