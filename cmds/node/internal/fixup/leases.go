package fixup

import "context"

// fixLeases removes what DHCP clients remember: golden's address, which a
// clone would ask for, and its DUID (RFC 8415, section 11), by which a server
// would take all clones for one machine.
func fixLeases(_ context.Context, c *clone, rep *StepReport) error {
	err := c.remove(rep, "golden's lease or DUID",
		"/var/lib/dhcp/dhclient*", "/var/lib/dhcp/*.lease", "/var/lib/dhcp3/dhclient*",
		"/var/lib/dhclient/*",
		"/var/lib/dhcpcd/*", "/var/lib/dhcpcd5/*", "/var/db/dhcpcd/*", "/etc/dhcpcd.duid", "/etc/dhcpcd.secret",
		"/var/lib/dhcpv6/*", "/var/lib/wide-dhcpv6/*duid",
		"/var/lib/NetworkManager/*.lease", "/var/lib/NetworkManager/*-lease*",
		"/var/lib/NetworkManager/secret_key", // names golden in stable-privacy addresses
		"/var/lib/systemd/network/*lease*", "/run/systemd/netif/leases/*",
	)
	if err != nil {
		return err
	}
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
