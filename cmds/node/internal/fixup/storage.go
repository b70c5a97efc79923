package fixup

import (
	"context"
	"path"
	"regexp"
	"slices"
	"strings"
)

// fixStorage tells the files of the layers under the file systems what they
// are on the clone: LUKS, RAID, LVM, multipath and ZFS.
func fixStorage(ctx context.Context, c *clone, rep *StepReport) error {
	_, err := c.edit(rep, "/etc/crypttab", "containers by their new UUIDs", func(s string) string {
		out, notes := rewriteCrypttab(s, c)
		rep.Warnings = append(rep.Warnings, notes...)
		return out
	})
	if err != nil {
		return err
	}
	if err := c.dropKeys(ctx, rep); err != nil {
		return err
	}
	if err := c.fixArrays(rep); err != nil {
		return err
	}
	if err := c.fixFilters(rep); err != nil {
		return err
	}
	const disks = "golden's disks, the clone finds its own"
	// A list of the disks that LVM may look at: with it RHEL 9 doesn't find
	// its root. LVM without a list looks at all (lvmdevices(8)).
	if err := c.remove(rep, disks, "/etc/lvm/devices/*.devices", "/etc/lvm/devices/backup/*", "/etc/lvm/cache/.cache"); err != nil {
		return err
	}
	if err := c.remove(rep, "golden's volume groups", "/etc/lvm/backup/*", "/etc/lvm/archive/*"); err != nil {
		return err
	}
	if err := c.remove(rep, disks, "/etc/multipath/bindings", "/etc/multipath/wwids", "/var/lib/multipath/bindings", "/var/lib/multipath/wwids"); err != nil {
		return err
	}
	if err := c.remove(rep, disks, "/etc/zfs/zpool.cache", "/etc/blkid.tab", "/etc/blkid/blkid.tab", "/etc/blkid.tab.old"); err != nil {
		return err
	}
	if len(rep.Files) == 0 {
		rep.Skipped = "no file speaks of arrays, containers, volumes or golden's disks"
	}
	return nil
}

// rewriteCrypttab names the container of each line by its new UUID. Lines of
// containers that the clone hasn't got are commented out: the boot would wait
// for them, as it does for fstab's.
func rewriteCrypttab(text string, c *clone) (out string, notes []string) {
	var b strings.Builder
	for s := range strings.SplitAfterSeq(text, "\n") {
		l, ok := parseFstabLine(s + " x") // two fields will do, crypttab(5)
		f := crypttabFields(s)
		if !ok || len(f) < 2 {
			b.WriteString(s)
			continue
		}
		source := f[1]
		at := strings.Index(s, l.spec) + len(l.spec)
		at += strings.Index(s[at:], source)
		now, known := c.cryptSource(f[0], source)
		if randomKey(f) {
			now, known = c.freshSource(f)
		}
		switch {
		case known:
			b.WriteString(replaceIDs(s[:at]+now+s[at+len(source):], c.stk.ids))
		case isGoldenDisk(source):
			b.WriteString(l.lead + notCloned + strings.TrimLeft(s, blanks))
			notes = append(notes, "crypttab: "+source+" ("+f[0]+") is not on the clone, commented out")
		default: // a file
			b.WriteString(s)
		}
	}
	return b.String(), notes
}

// crypttabFields are a line's, crypttab(5).
func crypttabFields(line string) []string {
	return strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(blanks+"\r\n", r) })
}

// randomKey says whether a line's key is another at every start.
func randomKey(line []string) bool {
	return len(line) > 2 && slices.Contains([]string{"/dev/urandom", "/dev/random", "/dev/hwrng", "/dev/hw_random"}, line[2])
}

// freshSource is how the clone names what is encrypted anew at every start. What
// was there is overwritten then: only the partition itself has a name that stays.
func (c *clone) freshSource(line []string) (now string, known bool) {
	v, ok := c.vols.keyed(line)
	switch {
	case !ok:
		return "", false
	case v.now.PartID != "":
		return "PARTUUID=" + v.now.PartID, true
	case len(v.names) > 0 && v.old.On != "":
		return v.names[0], true
	}
	return "", false
}

// cryptSource is how the clone names what golden calls source.
func (c *clone) cryptSource(name, source string) (now string, known bool) {
	if c.vols.stays(source) {
		return source, true
	}
	if v, ok := c.vols.find(source); ok {
		return v.spec(), true
	}
	_, val := splitSpec(source)
	for _, k := range c.stk.crypts {
		byUUID := strings.EqualFold(val, k.old) && k.old != "" || strings.EqualFold(val, k.uuid)
		byName := k.name == name || replaceIDs(k.name, c.ids) == name
		if k.uuid != "" && (byUUID || byName || val == "/dev/"+k.on) {
			return "UUID=" + k.uuid, true
		}
	}
	for _, p := range c.stk.places {
		if slices.Contains(p.names, val) {
			return source, true
		}
	}
	return "", false
}

// mdadmConf are the places that mdadm's configuration has: Debian's, and
// everybody else's.
func mdadmConf() []string { return []string{"/etc/mdadm/mdadm.conf", "/etc/mdadm.conf"} }

// fixArrays has mdadm.conf name the clone's arrays. One that isn't listed is
// taken for a stranger's, whose name is given away: /dev/md127.
func (c *clone) fixArrays(rep *StepReport) error {
	var arrays []id // what: the device
	for _, a := range c.env.Plan.Stack.Arrays {
		for _, r := range c.env.Disks.Stack {
			if r.Name == a.Name && r.UUID != "" {
				arrays = append(arrays, id{"/dev/" + a.Name, a.OldUUID, r.UUID})
			}
		}
	}
	change := func(s string) string {
		out, notes := rewriteArrays(s, arrays)
		rep.Warnings = append(rep.Warnings, notes...)
		return out
	}
	const why = "arrays by their new UUIDs"
	found := false
	for _, name := range mdadmConf() {
		there, err := c.edit(rep, name, why, change)
		if err != nil {
			return err
		}
		found = found || there
	}
	if found || len(arrays) == 0 {
		return nil
	}
	name := mdadmConf()[1]
	if c.tree.isDir(path.Dir(mdadmConf()[0])) {
		name = mdadmConf()[0]
	}
	rep.touch(name, why)
	return c.tree.write(name, []byte(change("")), 0o644)
}

// rewriteArrays is mdadm.conf's text (mdadm.conf(5)): the ARRAY lines get the
// new UUIDs and lose what else of golden's they tell an array by; a line that
// begins with a blank goes on with the one before it.
func rewriteArrays(text string, arrays []id) (out string, notes []string) {
	var b strings.Builder
	listed := map[string]bool{}
	drop := false
	for s := range strings.SplitAfterSeq(text, "\n") {
		goesOn := s != "" && strings.ContainsAny(s[:1], blanks) && strings.TrimSpace(s) != ""
		f := strings.Fields(s)
		if len(f) > 0 && f[0][0] == '#' {
			b.WriteString(s)
			continue
		}
		if goesOn && drop {
			b.WriteString(notCloned + strings.TrimLeft(s, blanks))
			continue
		}
		if goesOn || len(f) < 2 || !strings.EqualFold(f[0], "ARRAY") {
			drop = drop && goesOn
			b.WriteString(arrayWords(s, arrays, goesOn))
			continue
		}
		a, known := arrayOf(s, f[1], arrays)
		if drop = !known; drop {
			b.WriteString(notCloned + s)
			notes = append(notes, "mdadm.conf: "+f[1]+" is not on the clone, commented out")
			continue
		}
		listed[a.now] = true
		b.WriteString(arrayWords(s, []id{a}, true))
	}
	out = b.String()
	for _, a := range arrays {
		if listed[a.now] {
			continue
		}
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n"
		}
		out += "ARRAY " + a.what + " UUID=" + a.now + "\n"
	}
	return out, notes
}

// arrayOf is the array that an ARRAY line is of: that of its UUID, else that
// of its name.
func arrayOf(line, device string, arrays []id) (id, bool) {
	for _, a := range arrays {
		if a.old != "" && indexID(line, a.old) >= 0 || indexID(line, a.now) >= 0 {
			return a, true
		}
	}
	if regexp.MustCompile(`(?i)[ \t]uuid=`).MatchString(line) {
		return id{}, false
	}
	for _, a := range arrays {
		if slices.Contains(arrayNames(strings.TrimPrefix(a.what, "/dev/")), device) {
			return a, true
		}
	}
	return id{}, false
}

// arrayWords changes the words of an ARRAY line: the array's name in its
// superblock and its disks' names are others on the clone.
func arrayWords(line string, arrays []id, isArray bool) string {
	if strings.HasPrefix(strings.TrimLeft(line, blanks), "#") {
		return line
	}
	for _, a := range arrays {
		if a.old != "" {
			line = replaceID(line, a.old, a.now)
		}
	}
	if !isArray {
		return line
	}
	return regexp.MustCompile(`(?i)[ \t]+(?:name|devices)=[^ \t\r\n]*`).ReplaceAllString(line, "")
}
