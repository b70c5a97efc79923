package fixup

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// fixModprobe writes the aliases by which a system of Linux 2.4's and early
// 2.6's days knows its hardware, as the manual's gen_modprobe_conf did: eth0 is
// this module, the disks hang on that one. mkinitrd takes the disk's driver
// from here. Later systems ask the hardware itself.
//
//	/sys/class/net/eth0/device/driver ──▶ alias eth0 e1000
//	/sys/block/sda/device/../…/driver ──▶ alias scsi_hostadapter ata_piix
func fixModprobe(_ context.Context, c *clone, rep *StepReport) error {
	name, ok := c.modprobeConf()
	if !ok {
		rep.Skipped = "no modprobe.conf: the clone's system asks its hardware itself"
		return nil
	}
	hw := c.hardware()
	if len(hw.nets)+len(hw.hosts) == 0 {
		rep.warn("no driver of a network card or a disk is known on this node: %s is golden's", name)
		return nil
	}
	for _, k := range c.kernels() {
		list, err := c.moduleList(k.version)
		for _, m := range append(slices.Clone(hw.hosts), hw.nets...) {
			if err == nil && !hasModule(list, m) {
				rep.warn("kernel %s has no module %s, which this node's hardware needs", k.version, m)
			}
		}
	}
	_, err := c.edit(rep, name, "the modules of this node's hardware", func(s string) string { return rewriteModprobe(s, hw) })
	return err
}

// modprobeConf is the file that has the aliases.
func (c *clone) modprobeConf() (string, bool) {
	for _, name := range []string{"/etc/modprobe.conf", "/etc/modules.conf"} {
		if c.tree.isFile(name) {
			return name, true
		}
	}
	for _, name := range c.tree.glob("/etc/modprobe.d/*.conf") {
		if b, err := c.tree.read(name); err == nil && aliasLine().Match(b) {
			return name, true
		}
	}
	return "", false
}

// hardware is the modules of network cards, in their order, and of what disks
// hang on.
type hardware struct{ nets, hosts []string }

// aliasLine is one of the lines that gen_modprobe_conf wrote.
func aliasLine() *regexp.Regexp {
	return regexp.MustCompile(`(?m)^[ \t]*alias[ \t]+(eth\d+|scsi_hostadapter\d*)[ \t]+([^ \t\r\n#]+)[^\r\n]*`)
}

// rewriteModprobe puts the clone's modules into the alias lines. Golden's lines
// that the clone has no card for go; the rest of the file stays.
func rewriteModprobe(text string, hw hardware) string {
	want := map[string]string{}
	var order []string
	add := func(alias, module string) { want[alias] = module; order = append(order, alias) }
	for i, m := range hw.nets {
		add("eth"+strconv.Itoa(i), m)
	}
	for i, m := range hw.hosts {
		alias := "scsi_hostadapter"
		if i > 0 {
			alias += strconv.Itoa(i)
		}
		add(alias, m)
	}
	done := map[string]bool{}
	var b strings.Builder
	for line := range strings.SplitAfterSeq(text, "\n") {
		m := aliasLine().FindStringSubmatch(line)
		switch {
		case m == nil, len(hw.nets) == 0 && strings.HasPrefix(m[1], "eth"), len(hw.hosts) == 0 && !strings.HasPrefix(m[1], "eth"):
			b.WriteString(line)
		case want[m[1]] == "" || done[m[1]]:
		case m[2] == want[m[1]]:
			done[m[1]] = true
			b.WriteString(line)
		default:
			done[m[1]] = true
			b.WriteString("alias " + m[1] + " " + want[m[1]] + "\n")
		}
	}
	out := b.String()
	for _, alias := range order {
		if done[alias] {
			continue
		}
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n"
		}
		out += fmt.Sprintf("alias %s %s\n", alias, want[alias])
	}
	return out
}

// hardware asks the node's kernel.
func (c *clone) hardware() hardware {
	sys := c.env.Sys
	if sys == "" {
		sys = "/sys"
	}
	var hw hardware
	for _, n := range cards(sys) {
		if m, ok := driver(filepath.Join(sys, "class/net", n, "device")); ok {
			hw.nets = append(hw.nets, m)
		}
	}
	for _, d := range c.env.Disks.Disks {
		name := strings.ReplaceAll(strings.TrimPrefix(d, "/dev/"), "/", "!")
		dir, err := filepath.EvalSymlinks(filepath.Join(sys, "block", name, "device"))
		if err != nil {
			continue
		}
		if m, ok := controller(sys, dir); ok && !slices.Contains(hw.hosts, m) {
			hw.hosts = append(hw.hosts, m)
		}
	}
	return hw
}

// cards are the real network cards in the order in which the kernel found them.
func cards(sys string) []string {
	ents, err := os.ReadDir(filepath.Join(sys, "class/net"))
	if err != nil {
		return nil
	}
	index := map[string]int{}
	var names []string
	for _, e := range ents {
		dir := filepath.Join(sys, "class/net", e.Name())
		text, err := os.ReadFile(filepath.Join(dir, "ifindex"))
		if err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "device")); err != nil {
			continue
		}
		index[e.Name()], _ = strconv.Atoi(strings.TrimSpace(string(text)))
		names = append(names, e.Name())
	}
	slices.SortFunc(names, func(a, b string) int { return index[a] - index[b] })
	return names
}

// driver is the module that a device is bound to, or the driver that is built
// in under a name of its own.
func driver(dir string) (string, bool) {
	for _, link := range []string{"driver/module", "driver"} {
		if p, err := filepath.EvalSymlinks(filepath.Join(dir, link)); err == nil {
			return plainModule(filepath.Base(p)), true
		}
	}
	return "", false
}

// controller goes up from a disk to the first device that has a driver which
// isn't for disks in general.
func controller(sys, dir string) (string, bool) {
	root, err := filepath.EvalSymlinks(sys)
	if err != nil {
		return "", false
	}
	for dir != root && len(dir) > len(root) {
		if m, ok := driver(dir); ok && m != "sd" && m != "sd_mod" && m != "sr_mod" && m != "scsi_mod" {
			return m, true
		}
		dir = filepath.Dir(dir)
	}
	return "", false
}
