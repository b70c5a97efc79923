package fixup

import (
	"context"
	"regexp"
)

// fixLeases removes what DHCP clients remember: golden's address, which a
// clone would ask for, and its DUID (RFC 8415, section 11), by which a server
// would take all clones for one machine.
func fixLeases(_ context.Context, c *clone, rep *StepReport) error {
	err := c.remove(rep, "golden's lease or DUID",
		"/var/lib/dhcp/dhclient*", "/var/lib/dhcp/*.lease", "/var/lib/dhcp3/dhclient*", "/var/lib/dhcp6/*",
		"/var/lib/dhclient/*", "/etc/dhclient-*.leases",
		"/var/lib/dhcpcd/*", "/var/lib/dhcpcd5/*", "/var/db/dhcpcd/*", "/etc/dhcpcd.duid", "/etc/dhcpcd.secret",
		"/etc/dhcpc/*.info", "/etc/dhcpc/*.cache", // dhcpcd's of Mandriva
		"/var/lib/dhcpv6/*", "/var/lib/wide-dhcpv6/*duid",
		"/var/lib/NetworkManager/*.lease", "/var/lib/NetworkManager/*-lease*",
		"/var/lib/NetworkManager/secret_key", // names golden in stable-privacy addresses
		"/var/lib/NetworkManager/seen-bssids", "/var/lib/NetworkManager/timestamps", "/var/lib/NetworkManager/no-auto-default.state",
		"/var/lib/systemd/network/*", "/run/systemd/netif/leases/*",
		"/var/lib/wicked/*.xml", "/var/lib/wicked/*.xml.*",
	)
	if err != nil {
		return err
	}
	// ConnMan names a folder by the card that it was plugged into.
	for _, e := range c.tree.list("/var/lib/connman") {
		if e.IsDir() && regexp.MustCompile(`^(ethernet|wifi|gadget)_[0-9a-f]{12}_`).MatchString(e.Name()) {
			if err := c.removeAll(rep, "/var/lib/connman/"+e.Name(), "golden's network card and lease"); err != nil {
				return err
			}
		}
	}
	c.pointAtDUIDs(rep)
	// A DHCP server doesn't start without its file, so that is emptied.
	for _, p := range []string{"/var/lib/dhcp/dhcpd*.leases", "/var/lib/dhcp/dhcpd*.leases~"} {
		for _, name := range c.tree.glob(p) {
			_, err := c.edit(rep, name, "leases that golden gave", func(string) string { return "" })
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// pointAtDUIDs: an id that somebody wrote down by hand is somebody's intent,
// but hardly that all clones have it.
func (c *clone) pointAtDUIDs(rep *StepReport) {
	duid := regexp.MustCompile(`(?i)^\s*(DUIDRawData=|send\s+dhcp-client-identifier|send\s+dhcp6\.client-id|clientid\s+\S|DHCP_CLIENT_ID=\S|dhcp-client-id=|dhcp-duid=|DHCLIENT6?_CLIENT_ID=["']?[^"'\s])`)
	for _, p := range []string{
		"/etc/systemd/networkd.conf", "/etc/systemd/network/*.network", "/etc/dhcp/dhclient.conf", "/etc/dhclient.conf", "/etc/dhcpcd.conf",
		"/etc/sysconfig/network/dhcp", "/etc/sysconfig/network-scripts/ifcfg-*", "/etc/NetworkManager/system-connections/*",
	} {
		for _, name := range c.tree.glob(p) {
			c.pointAt(rep, name, duid, "is a client id for DHCP, the same on every clone")
		}
	}
}
