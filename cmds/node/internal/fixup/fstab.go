package fixup

import (
	"context"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/mangle"
	"github.com/kamethod/kamethod/golden/wire"
)

// notCloned begins the line of a file system that the clone doesn't have.
const notCloned = "# not on the clone: "

// fixFstab names each of the clone's file systems by its new UUID.
func fixFstab(_ context.Context, c *clone, rep *StepReport) error {
	const name, why = "/etc/fstab", "file systems by their new UUIDs"
	change := func(s string) string {
		out, notes := rewriteFstab(s, slices.Concat(c.vols, c.stk.blocks))
		out, added := addMissing(renameContainers(out, c.stk.ids), c.vols)
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

// renameContainers renames what is named after a container's UUID, but in
// comments.
func renameContainers(text string, ids []id) string {
	var b strings.Builder
	for s := range strings.SplitAfterSeq(text, "\n") {
		if _, ok := parseFstabLine(s); ok {
			s = replaceIDs(s, ids)
		}
		b.WriteString(s)
	}
	return b.String()
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
	l.mount, l.kind = mangle.Undo(f[0]), f[1]
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
		case found || vols.stays(l.spec):
		case l.swap():
			v, found = spare, hasSpare
		default:
			v, found = vols.at(l.mount)
		}
		if found && v.otherType(l.kind) {
			b.WriteString(l.lead + notCloned + strings.TrimLeft(s, blanks)) // addMissing has its like
			notes = append(notes, "fstab: "+l.mount+" was "+l.kind+" and is "+v.old.Type+" on the clone")
			continue
		}
		stays := vols.stays(l.spec)
		if found && l.kind == "btrfs" {
			l.rest, notes = v.ownSubvolume(l, notes)
			s = l.lead + l.spec + l.gap + l.rest
		}
		switch {
		case stays: // /dev/vg0/root is the clone's too
			b.WriteString(s)
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

// otherType says whether a line for a file system of that type can't mount the
// clone's, because a layout file wants another one. The driver of ext4 mounts
// ext2 and ext3, not the other way round.
func (v volume) otherType(kind string) bool {
	made := []string{"ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", "btrfs", "f2fs"}
	if !slices.Contains(made, kind) || !slices.Contains(made, v.old.Type) {
		return false
	}
	if strings.HasPrefix(kind, "ext") && strings.HasPrefix(v.old.Type, "ext") {
		return v.old.Type == "ext4" && kind != "ext4"
	}
	return kind != v.old.Type
}

// ownSubvolume is the rest of a btrfs's line without golden's number of the
// subvolume: the clone's has another, and mount refuses a number and a path
// that don't belong together (btrfs(5)).
func (v volume) ownSubvolume(l fstabLine, notes []string) (string, []string) {
	f := strings.Fields(l.rest)
	if len(f) < 3 {
		return l.rest, notes
	}
	sub, known := v.subvolume(l.mount)
	now, left := withoutSubvolID(f[2], sub.Path, known)
	if left {
		notes = append(notes, "fstab: "+l.mount+" is mounted by the number of a subvolume, which is another on the clone")
	}
	if now == f[2] {
		return l.rest, notes
	}
	// The third field is the first one that begins behind the second's end.
	at := strings.Index(l.rest, f[0]) + len(f[0])
	at += strings.Index(l.rest[at:], f[1]) + len(f[1])
	at += strings.Index(l.rest[at:], f[2])
	return l.rest[:at] + now + l.rest[at+len(f[2]):], notes
}

// withoutSubvolID takes subvolid= out of mount options that name the path too,
// and turns it into a path where that is known; left: it is still there.
func withoutSubvolID(options, sub string, known bool) (now string, left bool) {
	words := strings.Split(options, ",")
	byPath := slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(w, "subvol=") })
	var out []string
	for _, w := range words {
		switch {
		case !strings.HasPrefix(w, "subvolid="):
			out = append(out, w)
		case byPath:
		case known && !strings.ContainsAny(sub, ", \t\n"):
			out = append(out, "subvol=/"+strings.TrimPrefix(sub, "/"))
			byPath = true
		default:
			out = append(out, w)
			left = true
		}
	}
	if len(out) == 0 {
		return "defaults", left
	}
	return strings.Join(out, ","), left
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
		for _, line := range v.missing(named[v.now.UUID], mounted) {
			if text != "" && !strings.HasSuffix(text, "\n") {
				text += "\n"
			}
			text += line + "\n"
			added = append(added, line)
		}
	}
	return text, added
}

// missing are the lines that fstab needs for a volume and hasn't got.
func (v volume) missing(named bool, mounted map[string]bool) []string {
	line := func(at, rest string) []string { return []string{v.spec() + " " + mangle.Do(at) + " " + rest} }
	switch at := v.old.MountPoint; {
	case v.fresh: // crypttab's
		return nil
	case v.swap() && !named:
		return line("none", "swap sw 0 0")
	case len(v.old.Subvolumes) > 0 && !v.swap():
		var lines []string
		for _, s := range v.old.Subvolumes {
			if !s.Mounted || mounted[s.MountPoint] {
				continue
			}
			options := "subvol=/" + mangle.Do(strings.TrimPrefix(s.Path, "/"))
			if s.Default {
				options = "defaults"
			}
			lines = append(lines, line(s.MountPoint, "btrfs "+options+" 0 0")...)
		}
		return lines
	case v.swap() || named || at == "" || mounted[at]:
		return nil
	case v.old.Type == wire.VFAT: // as Debian's installer has it
		return line(at, "vfat umask=0077 0 1")
	case v.old.Type == "btrfs" || v.old.Type == "xfs": // nothing to check at the start, fsck.xfs(8)
		return line(at, v.old.Type+" defaults 0 0")
	case at == "/":
		return line(at, v.old.Type+" "+rootOptions(v.old.Type)+" 0 1")
	default:
		return line(at, v.old.Type+" defaults 0 2")
	}
}

// rootOptions: only ext's know what to do on an error.
func rootOptions(kind string) string {
	if strings.HasPrefix(kind, "ext") {
		return "errors=remount-ro"
	}
	return "defaults"
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
