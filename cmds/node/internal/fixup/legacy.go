package fixup

import (
	"context"
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
)

const legacyDir = "/boot/grub"

// legacyMenus are GRUB legacy's: the manual's, and Red Hat's.
func (c *clone) legacyMenus() []string {
	var files []string
	for _, name := range []string{"/boot/grub/menu.lst", "/boot/grub/grub.conf"} {
		if !c.tree.isLink(name) { // one is the other's link
			files = append(files, name)
		}
	}
	return files
}

// drives turns golden's (hd0,0) into the clone's. GRUB legacy counts disks as
// the BIOS does, from the one that is booted, and partitions from 0.
type drives struct {
	golden []string // "/dev/sda" for (hd0)
	clone  []string // "/dev/vda"
	find   func(string) (volume, bool)
}

func (c *clone) drives() drives {
	d := drives{clone: c.legacyDisks(), find: c.vols.find}
	text, err := c.tree.read(path.Join(legacyDir, "device.map"))
	if err == nil {
		d.golden = parseDeviceMap(string(text))
	}
	if len(d.golden) == 0 {
		for _, name := range c.stk.disks {
			d.golden = append(d.golden, "/dev/"+name)
		}
	}
	return d
}

// legacyDisks are the node's disks in the order in which its BIOS will count
// them when the clone is booted.
func (c *clone) legacyDisks() []string {
	var disks []string
	if v, err := c.bootVolume(); err == nil {
		disks = append(disks, c.bootDisks(v)...)
	}
	for _, d := range c.stk.nodes {
		if !slices.Contains(disks, d) {
			disks = append(disks, d)
		}
	}
	return disks
}

// parseDeviceMap is GRUB's "(hd0) /dev/sda", by number.
func parseDeviceMap(text string) []string {
	var disks []string
	line := regexp.MustCompile(`(?m)^[ \t]*\(hd(\d{1,2})\)[ \t]+(\S+)`)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		n, _ := strconv.Atoi(m[1])
		for len(disks) <= n {
			disks = append(disks, "")
		}
		disks[n] = m[2]
	}
	return disks
}

// clonePart is the clone's name of a partition of golden's, in GRUB's way.
func (d drives) clonePart(disk, part int) (string, bool) {
	if disk >= len(d.golden) || d.golden[disk] == "" {
		return "", false
	}
	if slices.Contains(d.clone, d.golden[disk]) && !d.knows(d.golden[disk]) {
		return d.name(slices.Index(d.clone, d.golden[disk]), part), true // the map is the clone's already
	}
	v, ok := d.find(layout.PartitionName(d.golden[disk], part+1))
	if !ok { // of udev's links
		v, ok = d.find(d.golden[disk] + "-part" + strconv.Itoa(part+1))
	}
	if !ok || v.old.On != "" || v.old.Part == 0 {
		return "", false
	}
	i := slices.Index(d.clone, v.disk)
	if i < 0 {
		return "", false
	}
	return d.name(i, v.old.Part-1), true
}

// knows says whether a partition of golden's disk is one of the plan.
func (d drives) knows(disk string) bool {
	for n := 1; n < 32; n++ {
		_, byName := d.find(layout.PartitionName(disk, n))
		_, byLink := d.find(disk + "-part" + strconv.Itoa(n))
		if byName || byLink {
			return true
		}
	}
	return false
}

func (drives) name(disk, part int) string { return fmt.Sprintf("(hd%d,%d)", disk, part) }

// rewriteLegacy is a menu.lst for the clone: the partitions that GRUB looks on,
// and the kernels' parameters. Comments stay.
func rewriteLegacy(text string, d drives, vols volumes) (out string, notes []string) {
	place := regexp.MustCompile(`\(hd(\d{1,2}),(\d{1,3})\)`)
	var b strings.Builder
	lines := strings.SplitAfter(text, "\n")
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "#") {
			b.WriteString(line)
			continue
		}
		line = place.ReplaceAllStringFunc(line, func(m string) string {
			g := place.FindStringSubmatch(m)
			disk, _ := strconv.Atoi(g[1])
			part, _ := strconv.Atoi(g[2])
			now, ok := d.clonePart(disk, part)
			if !ok {
				if !strings.Contains(strings.TrimSpace(line), "rootnoverify") {
					notes = append(notes, m+" is not on the clone")
				}
				return m
			}
			return now
		})
		name := volume.spec
		if !hasInitrd(lines, i) {
			name = volume.device
		}
		line, more := rewriteParameters(line, vols, name)
		notes = append(notes, more...)
		b.WriteString(line)
	}
	return b.String(), notes
}

// hasInitrd says whether the entry that a line is of has an initrd: the kernel
// alone knows no UUIDs.
func hasInitrd(lines []string, at int) bool {
	word := func(i int) string {
		f := strings.Fields(lines[i])
		if len(f) == 0 {
			return ""
		}
		return f[0]
	}
	for at > 0 && word(at) != "title" {
		at--
	}
	for i := at + 1; i < len(lines) && word(i) != "title"; i++ {
		if strings.HasPrefix(word(i), "initrd") {
			return true
		}
	}
	return false
}

// legacyMap writes GRUB's map of the node's disks.
func (c *clone) legacyMap(rep *StepReport) error {
	if len(c.legacyMenusThere()) == 0 {
		return errors.New("the clone has no /boot/grub/menu.lst or grub.conf: GRUB legacy has nothing to boot")
	}
	var b strings.Builder
	for i, d := range c.legacyDisks() {
		fmt.Fprintf(&b, "(hd%d)\t%s\n", i, d)
	}
	name := path.Join(legacyDir, "device.map")
	if old, err := c.tree.read(name); err == nil && string(old) == b.String() {
		return nil
	}
	rep.touch(name, "this node's disks")
	return c.tree.write(name, []byte(b.String()), 0o644)
}

func (c *clone) legacyMenusThere() []string {
	return slices.DeleteFunc(c.legacyMenus(), func(name string) bool { return !c.tree.isFile(name) })
}

// legacy installs GRUB legacy by its own shell, which says what it did and ends
// well whatever that was.
func (c *clone) legacy(ctx context.Context, rep *StepReport) error {
	v, err := c.bootVolume()
	if err != nil {
		return err
	}
	if _, ok := c.tree.program("grub"); !ok {
		return errors.New("the clone has no program grub: package grub-legacy (grub) is missing on the golden node")
	}
	if err := c.legacyStages(rep); err != nil {
		return err
	}
	for _, disk := range c.bootDisks(v) {
		part, ok := c.partOn(v, disk)
		if !ok {
			return fmt.Errorf("GRUB legacy can't read %s, which is on no partition of %s", v.now.Device, disk)
		}
		name := disk
		if last := disk[len(disk)-1]; last >= '0' && last <= '9' {
			name = "/dev/kamethod-disk"
			if err := c.chroot.aliasDisk(disk, name); err != nil {
				return err
			}
		}
		script := fmt.Sprintf("device (hd0) %s\nroot (hd0,%d)\nsetup (hd0)\nquit\n", name, part-1)
		unix.Sync() // all that the loader is to find is on the disk before it is
		said, err := c.chroot.ask(ctx, script, "grub", "--batch", "--no-floppy", "--device-map="+path.Join(legacyDir, "device.map"))
		if err != nil {
			return err
		}
		if err := legacyFailed(said); err != nil {
			return fmt.Errorf("install grub-legacy on %s: %w", disk, err)
		}
		rep.touch(disk, "boot record of GRUB legacy")
	}
	return nil
}

// legacyFailed reads from what GRUB's shell said whether setup did its work.
func legacyFailed(said string) error {
	if m := regexp.MustCompile(`Error \d+: [^\n]*`).FindString(said); m != "" {
		return errors.New(m)
	}
	if !strings.Contains(said, "succeeded") {
		return fmt.Errorf("grub ended well but installed nothing; it said %q", said)
	}
	return nil
}

// legacyStages sees to it that GRUB's stages are where setup takes them from.
func (c *clone) legacyStages(rep *StepReport) error {
	if c.tree.isFile(path.Join(legacyDir, "stage1")) && c.tree.isFile(path.Join(legacyDir, "stage2")) {
		return nil
	}
	for _, lib := range []string{"/usr/lib/grub", "/lib/grub", "/usr/share/grub"} {
		for _, e := range c.tree.list(lib) {
			from := path.Join(lib, e.Name())
			if !c.tree.isFile(path.Join(from, "stage2")) {
				continue
			}
			for _, name := range c.tree.glob(from + "/*stage*") {
				to := path.Join(legacyDir, path.Base(name))
				if err := c.tree.copy(name, to); err != nil {
					return err
				}
				rep.touch(to, "GRUB's stages, from "+from)
			}
			return nil
		}
	}
	return errors.New("the clone has neither /boot/grub/stage2 nor one in /usr/lib/grub")
}

// partOn is the number of the partition by which a volume is on a disk: its
// own, or its array's member, which of RAID 1 can be read like a plain one.
func (c *clone) partOn(v volume, disk string) (int, bool) {
	if v.old.On == "" {
		return v.old.Part, v.old.Part > 0
	}
	if len(v.via) != 1 || !v.via[0].raid {
		return 0, false
	}
	for _, m := range v.via[0].on {
		d, n := layout.SplitPartition(m)
		if i := slices.Index(c.stk.disks, d); i >= 0 && n > 0 && c.stk.nodes[i] == disk {
			return n, true
		}
	}
	return 0, false
}
