package fixup

import (
	"context"
	"regexp"
	"strings"
)

// fixResume points hibernation at the clone's swap, or at nothing. An initrd
// that waits for golden's swap waits 30 seconds, or for ever (systemd 256).
func fixResume(_ context.Context, c *clone, rep *StepReport) error {
	files := append(c.tree.glob("/etc/initramfs-tools/conf.d/*"), "/etc/initramfs-tools/initramfs.conf")
	for _, name := range files {
		_, err := c.edit(rep, name, "resume from the clone's own swap", func(s string) string {
			return rewriteResume(s, c.vols)
		})
		if err != nil {
			return err
		}
	}
	for _, name := range c.cmdlineFiles() {
		_, err := c.edit(rep, name, "resume= and root= of the clone", func(s string) string {
			out, notes := rewriteCmdline(s, c.vols)
			for _, n := range notes {
				rep.warn("%s: %s", name, n)
			}
			return out
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// cmdlineFiles are the files that a kernel command line is made from.
func (c *clone) cmdlineFiles() []string {
	files := []string{"/etc/default/grub", "/etc/kernel/cmdline", "/etc/sysconfig/grub"}
	files = append(files, c.tree.glob("/etc/default/grub.d/*.cfg")...)
	files = append(files, c.tree.glob("/etc/cmdline.d/*.conf")...)
	return append(files, c.tree.glob("/etc/dracut.conf.d/*.conf")...)
}

// rewriteResume is initramfs-tools' RESUME= (initramfs.conf(5)).
func rewriteResume(text string, vols volumes) string {
	re := regexp.MustCompile(`(?m)^([ \t]*(?:export[ \t]+)?RESUME=)([^\s;&|]*)`) // the shell's word, which reads the file
	return re.ReplaceAllStringFunc(text, func(m string) string {
		g := re.FindStringSubmatch(m)
		g[2] = strings.NewReplacer(`"`, "", "'", "").Replace(g[2])
		switch g[2] {
		case "", "none", "auto":
			return m
		}
		v, ok := resumeVolume(g[2], vols)
		switch {
		case !ok:
			return g[1] + "none"
		case vols.stays(g[2]):
			return m
		}
		return g[1] + v.spec()
	})
}

// resumeVolume is what golden's resume device is on the clone: the same one,
// or, called by a path that only golden has, the only swap there is.
func resumeVolume(spec string, vols volumes) (volume, bool) {
	if v, ok := vols.find(spec); ok {
		return v, v.swap() // a swap file's place isn't known here
	}
	if s := vols.swaps(); len(s) == 1 {
		return s[0], true
	}
	return volume{}, false
}

// rewriteCmdline changes the words resume=, resume_offset= and root= wherever
// in a file they stand, and leaves everything around them.
func rewriteCmdline(text string, vols volumes) (out string, notes []string) {
	return rewriteParameters(text, vols, volume.spec)
}

// rewriteParameters is rewriteCmdline with names of another kind than UUIDs.
func rewriteParameters(text string, vols volumes, name func(volume) string) (out string, notes []string) {
	re := regexp.MustCompile(`(^|[\s"'=])(resume|resume_offset|root|rootflags)=([^\s"'#]+)`)
	var b strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
			continue
		}
		b.WriteString(re.ReplaceAllStringFunc(line, func(m string) string {
			g := re.FindStringSubmatch(m)
			now, note := rewriteWord(g[2], g[3], vols, name)
			if note != "" {
				notes = append(notes, note)
			}
			return g[1] + now
		}))
	}
	return b.String(), notes
}

// rootFlags are the root's mount options without golden's number of a
// subvolume.
func rootFlags(val string, vols volumes) (now, note string) {
	v, _ := vols.at("/")
	sub, known := v.subvolume("/")
	now, left := withoutSubvolID(val, sub.Path, known)
	if left {
		note = "rootflags=" + val + " names a subvolume by its number, which is another on the clone"
	}
	return "rootflags=" + now, note
}

// rewriteWord is one parameter for the clone; "" takes it away.
func rewriteWord(key, val string, vols volumes, name func(volume) string) (now, note string) {
	same := key + "=" + val
	switch {
	case vols.stays(val):
		if v, ok := vols.find(val); ok && (key != "resume" || v.swap()) {
			return same, ""
		}
		return "", same + " is taken away: it is no swap area on the clone"
	case key == "rootflags":
		return rootFlags(val, vols)
	case key == "root":
		if v, ok := vols.find(val); ok {
			if strings.HasPrefix(val, "PARTUUID=") && v.now.PartID != "" {
				return "root=PARTUUID=" + v.now.PartID, "" // a kernel alone finds this too
			}
			return "root=" + name(v), ""
		}
		if strings.HasPrefix(val, "/dev/") || strings.HasPrefix(val, "UUID=") || strings.HasPrefix(val, "PARTUUID=") {
			return same, same + " is not a file system of the plan"
		}
		return same, ""
	case key == "resume_offset":
		// Where a swap file begins on golden's disk says nothing here.
		return "", same + " is taken away: the swap file lies elsewhere on the clone"
	}
	if v, ok := resumeVolume(val, vols); ok {
		return "resume=" + name(v), ""
	}
	return "", same + " is taken away: there is no such swap area on the clone"
}
