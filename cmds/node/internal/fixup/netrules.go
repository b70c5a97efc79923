package fixup

import (
	"context"
	"regexp"
	"strings"
)

// fixNetRules removes the rules that udev wrote for golden's hardware, gives
// the administrator's .link files this node's cards, and points at the rest.
// Left there, a clone's first interface becomes the second, or none.
func fixNetRules(_ context.Context, c *clone, rep *StepReport) error {
	err := c.remove(rep, "udev's notes of golden's hardware",
		"/etc/udev/rules.d/70-persistent-net.rules",
		"/etc/udev/rules.d/70-persistent-cd.rules",
		"/etc/udev/rules.d/30-net_persistent_names.rules", // openSUSE 10
		"/etc/udev/rules.d/60-net_persistent_names.rules", // Mandriva 2007
		"/etc/udev/rules.d/61-net_persistent_names.rules",
		"/etc/udev/rules.d/z25_persistent-net.rules", // Debian 4 and 5
		"/etc/iftab") // Mandriva and Ubuntu before udev's rules
	if err != nil {
		return err
	}
	if err := c.fixLinks(rep); err != nil {
		return err
	}
	_, err = c.editAll(rep, "a card's address that every clone would set", dropUnitCard, "/etc/systemd/network/*.netdev")
	if err != nil {
		return err
	}
	mac := regexp.MustCompile(`(?i)(^|[^0-9a-f:])([0-9a-f]{2}(:[0-9a-f]{2}){5})([^0-9a-f:]|$)`)
	for _, p := range []string{"/etc/udev/rules.d/*.rules", "/etc/netctl/*", "/etc/conf.d/net"} {
		for _, name := range c.tree.glob(p) {
			c.pointAt(rep, name, mac, "has the address of a network card")
		}
	}
	// How these would be changed isn't known here; that they are is.
	static := regexp.MustCompile(`(?i)^\s*(static\s+ip6?_address\s*=|address6?\s*=|config_\w+\s*=\s*["'(]*\d|ip(6)?\s+addr(ess)?\s+add\s)`)
	for _, p := range []string{"/etc/dhcpcd.conf", "/etc/netctl/*", "/etc/conf.d/net", "/etc/rc.conf", "/etc/rc.local"} {
		for _, name := range c.tree.glob(p) {
			c.pointAt(rep, name, static, "is a fixed address, the same on every clone")
		}
	}
	onCmdline := regexp.MustCompile(`(^|[\s"'])(ip=\[?[0-9a-f]+[.:][0-9a-f.:]*\]?:|IP=\d+\.)`) // dracut.cmdline(7), initramfs-tools(7)
	for _, p := range []string{"/etc/default/grub", "/etc/default/grub.d/*.cfg", "/etc/kernel/cmdline", "/etc/cmdline.d/*.conf", "/etc/dracut.conf.d/*.conf", "/etc/initramfs-tools/initramfs.conf", "/etc/initramfs-tools/conf.d/*"} {
		for _, name := range c.tree.glob(p) {
			c.pointAt(rep, name, onCmdline, "gives every clone's initrd golden's fixed address")
		}
	}
	return nil
}

// fixLinks: an interface's name goes with the card that has golden's place; a
// file for a card that this node hasn't got goes.
func (c *clone) fixLinks(rep *StepReport) error {
	const pattern = "/etc/systemd/network/*.link"
	links := c.wiredIn(dialect{files: []string{pattern}, parse: parseNetwork})
	card := c.cardFor(links)
	for _, w := range links {
		if w.mac == "" {
			continue
		}
		now := card(w.mac)
		if now == "" {
			if err := c.tree.remove(w.file); err != nil {
				return err
			}
			rep.touch(w.file, "named golden's network card "+w.mac)
			continue
		}
		_, err := c.edit(rep, w.file, "this node's card in the place of golden's", func(s string) string {
			return dropUnitCard(replaceToken(s, w.mac, now, alnum+":", alnum+":"))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropUnitCard leaves out the address that a [Link] or [NetDev] sets.
func dropUnitCard(s string) string {
	return editINI(splitINI(s), func(l iniLine) bool {
		return (l.section == "Link" || l.section == "NetDev") && l.key == "MACAddress" && isMAC(l.value)
	}, nil)
}

// editAll is edit, of all files that a pattern names.
func (c *clone) editAll(rep *StepReport, why string, change func(string) string, patterns ...string) (found bool, err error) {
	for _, p := range patterns {
		for _, name := range c.tree.glob(p) {
			there, err := c.edit(rep, name, why, change)
			if err != nil {
				return found, err
			}
			found = found || there
		}
	}
	return found, nil
}

// pointAt warns of every line of a file that has the pattern.
func (c *clone) pointAt(rep *StepReport, name string, pattern *regexp.Regexp, what string) {
	text, err := c.tree.read(name)
	if err != nil {
		return // a folder, a link to /dev/null
	}
	n := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		n++
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "#") && pattern.MatchString(line) {
			rep.warn("%s:%d %s: %s", name, n, what, line)
		}
	}
}
