package fixup

import (
	"context"
	"regexp"
	"strings"
)

// fixNetRules removes the rules that udev wrote for golden's hardware, and
// points at what the administrator wrote for it. Left there, a clone's first
// interface becomes the second, or none.
func fixNetRules(_ context.Context, c *clone, rep *StepReport) error {
	err := c.remove(rep, "udev's notes of golden's hardware",
		"/etc/udev/rules.d/70-persistent-net.rules",
		"/etc/udev/rules.d/70-persistent-cd.rules",
		"/etc/udev/rules.d/z25_persistent-net.rules") // Debian 4 and 5
	if err != nil {
		return err
	}
	mac := regexp.MustCompile(`(?i)(^|[^0-9a-f:])([0-9a-f]{2}(:[0-9a-f]{2}){5})([^0-9a-f:]|$)`)
	static := regexp.MustCompile(`(?i)^\s*(iface\s+\S+\s+inet6?\s+static|address\s*=|address1\s*=|addresses:|IPADDR\d*=)`)
	for _, p := range []string{
		"/etc/systemd/network/*.link", "/etc/systemd/network/*.network", "/etc/systemd/network/*.netdev",
		"/etc/udev/rules.d/*.rules", "/etc/netplan/*.yaml", "/etc/network/interfaces", "/etc/network/interfaces.d/*",
		"/etc/NetworkManager/system-connections/*", "/etc/sysconfig/network-scripts/ifcfg-*",
	} {
		for _, name := range c.tree.glob(p) {
			c.pointAt(rep, name, mac, "has the MAC address of golden's interface")
			c.pointAt(rep, name, static, "is a fixed address, the same on every clone")
		}
	}
	return nil
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
