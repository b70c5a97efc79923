package fixup

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
)

const liloConf = "/etc/lilo.conf"

// rewriteLilo is lilo.conf(5) for the clone: the disk that the boot record goes
// to, the roots and the kernels' parameters. Comments and all else stay.
func rewriteLilo(text string, c *clone) (out string, notes []string) {
	device := regexp.MustCompile(`^([ \t]*(boot|root|disk|raid-extra-boot|other)[ \t]*=[ \t]*)("[^"\n]*"|[^\s"#,]+)`)
	other := regexp.MustCompile(`^[ \t]*(image|other)[ \t]*=[ \t]*"?([^\s"#]*)`)
	var b strings.Builder
	gone := false
	for line := range strings.SplitAfterSeq(text, "\n") {
		if m := other.FindStringSubmatch(line); m != nil {
			if gone = m[1] == "other" && !c.onClone(m[2]); gone {
				notes = append(notes, "other="+m[2]+" is not on the clone, commented out")
			}
		}
		if gone && strings.TrimSpace(line) != "" && !strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(notCloned + line)
			continue
		}
		m := device.FindStringSubmatch(line)
		if m == nil {
			if !strings.HasPrefix(strings.TrimSpace(line), "#") {
				var more []string
				line, more = rewriteCmdline(line, c.vols)
				notes = append(notes, more...)
			}
			b.WriteString(line)
			continue
		}
		now, note := c.liloDevice(m[2], strings.Trim(m[3], `"`))
		if note != "" {
			notes = append(notes, note)
		}
		if now != strings.Trim(m[3], `"`) {
			if strings.HasPrefix(m[3], `"`) || strings.Contains(now, "=") {
				now = `"` + now + `"`
			}
			line = m[1] + now + line[len(m[0]):]
		}
		b.WriteString(line)
	}
	return b.String(), notes
}

// onClone says whether a device of golden's is on the clone: LILO refuses the
// whole file for one that isn't there.
func (c *clone) onClone(device string) bool {
	if _, ok := c.vols.find(device); ok || c.vols.stays(device) || !strings.HasPrefix(device, "/dev/") {
		return true
	}
	if slices.ContainsFunc(c.stk.nodes, func(n string) bool { return strings.HasPrefix(device, n) }) {
		return true // it is the clone's already
	}
	disk, n := layout.SplitPartition(strings.TrimPrefix(device, "/dev/"))
	i := slices.Index(c.stk.disks, disk)
	return i >= 0 && slices.ContainsFunc(c.env.Plan.Disks[i].Layout.Parts, func(p layout.Part) bool { return p.Number == n })
}

// liloDevice is what golden's device is on the clone. LILO writes the number
// of a device into its map, so that a device stays one; a UUID stays one too.
func (c *clone) liloDevice(key, val string) (now, note string) {
	switch {
	case key == "raid-extra-boot" && !strings.HasPrefix(val, "/dev/"), val == "current":
		return val, ""
	case c.vols.stays(val):
		return val, ""
	}
	if v, ok := c.vols.find(val); ok {
		if strings.Contains(val, "=") {
			return v.spec(), ""
		}
		return v.now.Device, ""
	}
	name := strings.TrimPrefix(val, "/dev/")
	if now, ok := c.stk.node(name); ok {
		return now, ""
	}
	for _, n := range c.stk.nodes {
		if val == n || strings.HasPrefix(val, n) {
			return val, "" // the clone's already
		}
	}
	if v, err := c.bootVolume(); err == nil && key == "boot" && strings.HasPrefix(val, "/dev/") {
		return c.bootDisks(v)[0], key + "=" + val + " isn't known, the boot record goes to " + c.bootDisks(v)[0]
	}
	return val, key + "=" + val + " is not on the clone"
}

// lilo installs LILO: its map has the places of the kernels' blocks, which are
// others on every clone.
func (c *clone) lilo(ctx context.Context, rep *StepReport) error {
	text, err := c.tree.read(liloConf)
	if err != nil {
		return fmt.Errorf("read %s: %w", liloConf, err)
	}
	if _, ok := c.tree.program("lilo"); !ok {
		return errors.New("the clone has no program lilo: package lilo is missing on the golden node")
	}
	if !regexp.MustCompile(`(?m)^[ \t]*(image|other)[ \t]*=`).Match(text) {
		return fmt.Errorf("%s has no image: LILO has nothing to boot", liloConf)
	}
	mapFile := "/boot/map"
	if m := regexp.MustCompile(`(?m)^[ \t]*map[ \t]*=[ \t]*"?([^\s"#]+)`).FindSubmatch(text); m != nil {
		mapFile = string(m[1])
	}
	if err := c.tree.remove(mapFile); err != nil { // golden's blocks
		return err
	}
	unix.Sync() // all that the loader is to find is on the disk before it is
	if err := c.chroot.run(ctx, "lilo", "-C", liloConf); err != nil {
		return err
	}
	if !c.tree.isFile(mapFile) {
		return fmt.Errorf("lilo ended well but made no %s", mapFile)
	}
	rep.touch(mapFile, "LILO's map and boot record")
	return nil
}
