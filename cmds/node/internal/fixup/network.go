package fixup

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// wired is what golden's configuration says of one interface.
type wired struct {
	file  string
	id    string         // which of the file's interfaces; empty: it has one
	name  string         // "eth0"; empty or a pattern: it is found otherwise
	mac   string         // golden's card, which it is bound to
	fixed []netip.Prefix // golden's fixed addresses
	plain bool           // a network card, and nothing that is made of some
	leave bool           // loopback, a tunnel: its address is no matter of the network's
}

// fate is what an interface's configuration becomes.
type fate struct {
	net  *wire.Network // fixed addresses of the node's own; nil: none
	mac  string        // the node's card in the place of golden's; empty: bound to none
	dhcp bool          // it had golden's fixed address
}

func (f fate) addressed() bool { return f.net != nil || f.dhcp }

// fates are by wired.id.
type fates map[string]fate

// dialect is one of the ways in which a Linux configures its interfaces.
// rewrite answers "" and true where the file is to go.
type dialect struct {
	name    string
	files   []string
	parse   func(file, text string) []wired
	rewrite func(file, text string, f fates) (out string, gone bool)
	fresh   func(n wire.Network, name string) (file, text string, mode fs.FileMode)
}

func dialects() []dialect {
	return []dialect{netplanDialect(), keyfileDialect(), networkdDialect(), ifcfgDialect(), suseDialect(), interfacesDialect()}
}

// fixNetwork gives the clone its addresses. Where golden has a fixed one and
// nobody gave the node one, the interface asks DHCP: two machines with one
// address would be the worst.
func fixNetwork(_ context.Context, c *clone, rep *StepReport) error {
	nets, err := checkNetworks(c.env.Plan.Identity.Networks)
	if err != nil {
		return err
	}
	used := c.usedDialect()
	var list []wired
	for _, d := range dialects() {
		found := c.wiredIn(d)
		if d.name == used.name {
			list = append(found, list...) // what counts comes first
		} else {
			list = append(list, found...)
		}
	}
	given := assign(list, nets, c.cardFor(list))
	for _, d := range dialects() {
		if err := c.rewriteDialect(rep, d, list, given); err != nil {
			return err
		}
	}
	if err := c.freshNetworks(rep, used, nets, given); err != nil {
		return err
	}
	if err := c.pinNames(rep, list, given); err != nil {
		return err
	}
	if err := c.globalRoutes(rep, nets, len(list) > 0 && anyDHCP(given)); err != nil {
		return err
	}
	if err := c.holdCloudInit(rep, len(nets) > 0); err != nil {
		return err
	}
	if len(rep.Files) == 0 && len(rep.Warnings) == 0 {
		rep.Skipped = "no interface has a fixed address or golden's card, and the node was given no address"
	}
	return nil
}

func anyDHCP(given map[int]fate) bool {
	for _, f := range given {
		if f.dhcp && f.net == nil {
			return true
		}
	}
	return false
}

// checkNetworks refuses what would end up in a configuration as something
// else than an address.
func checkNetworks(nets []wire.Network) ([]wire.Network, error) {
	for _, n := range nets {
		if _, err := net.ParseMAC(n.MAC); err != nil {
			return nil, fmt.Errorf("network of card %q: %w", n.MAC, err)
		}
		if len(n.Addresses) == 0 {
			return nil, fmt.Errorf("network of card %s has no address", n.MAC)
		}
		for _, a := range n.Addresses {
			if _, err := netip.ParsePrefix(a); err != nil {
				return nil, fmt.Errorf("network of card %s: %w", n.MAC, err)
			}
		}
		for _, a := range append(slices.Clone(n.DNS), n.Gateway) {
			if _, err := netip.ParseAddr(a); err != nil && a != "" {
				return nil, fmt.Errorf("network of card %s: %w", n.MAC, err)
			}
		}
		if n.Domain != "" {
			if err := checkHostname(n.Domain); err != nil {
				return nil, fmt.Errorf("network of card %s: domain: %w", n.MAC, err)
			}
		}
	}
	return nets, nil
}

// wiredIn reads all files of a dialect.
func (c *clone) wiredIn(d dialect) []wired {
	var out []wired
	for _, p := range d.files {
		for _, name := range c.tree.glob(p) {
			text, err := c.tree.read(name)
			if err != nil {
				continue // a folder, a link to /dev/null
			}
			for _, w := range d.parse(name, string(text)) {
				w.file = name
				out = append(out, w)
			}
		}
	}
	return out
}

// cardFor answers which of the node's cards takes the place of golden's:
// where both have as many, the one at the same place of the kernel's order;
// where golden binds one card only, the one that booted.
func (c *clone) cardFor(list []wired) func(mac string) string {
	cards, golden := c.env.MACs, c.env.Plan.Golden.MACs
	own := append(slices.Clone(cards), c.env.MAC)
	for _, n := range c.env.Plan.Identity.Networks {
		own = append(own, n.MAC)
	}
	bound := map[string]bool{}
	for _, w := range list {
		if w.mac != "" && !hasMAC(own, w.mac) {
			bound[strings.ToLower(w.mac)] = true
		}
	}
	return func(mac string) string {
		if mac == "" {
			return ""
		}
		if hasMAC(own, mac) {
			return strings.ToLower(mac) // an earlier run's
		}
		if i := indexMAC(golden, mac); i >= 0 && len(golden) == len(cards) {
			return strings.ToLower(cards[i])
		}
		if len(bound) <= 1 {
			return strings.ToLower(c.env.MAC)
		}
		return ""
	}
}

func hasMAC(list []string, mac string) bool { return indexMAC(list, mac) >= 0 }

func indexMAC(list []string, mac string) int {
	return slices.IndexFunc(list, func(s string) bool { return strings.EqualFold(s, mac) })
}

// assign finds an interface of golden's for each of the node's networks, and
// says what becomes of all others; by their index.
func assign(list []wired, nets []wire.Network, card func(string) string) map[int]fate {
	given := map[int]fate{}
	taken := func(i int) bool { return given[i].net != nil }
	likes := []func(w wired, n wire.Network) bool{
		func(w wired, n wire.Network) bool { return w.mac != "" && strings.EqualFold(card(w.mac), n.MAC) },
		func(w wired, n wire.Network) bool { return slices.ContainsFunc(w.fixed, reaches(n)) },
		func(w wired, _ wire.Network) bool { return len(w.fixed) > 0 },
		func(w wired, _ wire.Network) bool { return w.plain },
	}
	served := make([]bool, len(nets))
	for _, like := range likes {
		for k := range nets {
			for i, w := range list {
				if served[k] || w.leave || taken(i) || !like(w, nets[k]) {
					continue
				}
				served[k] = true
				given[i] = fate{net: &nets[k]}
			}
		}
	}
	for i, w := range list {
		if w.leave {
			continue
		}
		f := given[i]
		f.dhcp = len(w.fixed) > 0 && f.net == nil
		f.mac = card(w.mac)
		if f.net != nil && w.plain {
			f.mac = strings.ToLower(f.net.MAC)
		}
		given[i] = f
	}
	return given
}

// reaches tells of an address whether it is in one of the node's networks.
func reaches(n wire.Network) func(netip.Prefix) bool {
	return func(p netip.Prefix) bool {
		for _, a := range n.Addresses {
			if own, err := netip.ParsePrefix(a); err == nil && own.Masked().Contains(p.Addr()) {
				return true
			}
		}
		return false
	}
}

// rewriteDialect changes the files of one dialect.
func (c *clone) rewriteDialect(rep *StepReport, d dialect, list []wired, given map[int]fate) error {
	perFile := map[string]fates{}
	var order []string
	for i, w := range list {
		if !matchesAny(d.files, w.file) {
			continue
		}
		if perFile[w.file] == nil {
			perFile[w.file] = fates{}
			order = append(order, w.file)
		}
		f, ok := given[i]
		if !ok {
			continue
		}
		perFile[w.file][w.id] = f
		if f.dhcp {
			rep.warn("%s: %s had golden's fixed address %s and now asks DHCP, for nobody gave this node one (--nodes-file)", w.file, w.shown(), w.fixed[0])
		}
	}
	for _, file := range order {
		text, err := c.tree.read(file)
		if err != nil {
			return err
		}
		out, gone := d.rewrite(file, string(text), perFile[file])
		switch {
		case gone:
			if err := c.tree.remove(file); err != nil {
				return err
			}
			rep.touch(file, "a further address of golden's")
		case out != string(text):
			if err := c.tree.write(file, []byte(out), 0o600); err != nil {
				return err
			}
			rep.touch(file, why(perFile[file]))
		}
	}
	return nil
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, err := path.Match(p, name); return ok && err == nil })
}

func (w wired) shown() string {
	for _, s := range []string{w.name, w.id, w.mac} {
		if s != "" {
			return s
		}
	}
	return "the interface"
}

// why is what a file's report says.
func why(f fates) string {
	own, dhcp := "", false
	for _, x := range f {
		if x.net != nil {
			own = x.net.Addresses[0]
		}
		dhcp = dhcp || x.dhcp
	}
	switch {
	case own != "":
		return "this node's address " + own
	case dhcp:
		return "DHCP instead of golden's fixed address"
	}
	return "bound to golden's network card"
}

// freshNetworks writes a file for each network that golden has no interface
// for, in the clone's own dialect.
func (c *clone) freshNetworks(rep *StepReport, used dialect, nets []wire.Network, given map[int]fate) error {
	for k := range nets {
		served := false
		for _, f := range given {
			served = served || f.net == &nets[k]
		}
		if served {
			continue
		}
		if used.fresh == nil {
			return fmt.Errorf("network of card %s: the clone has none of netplan, NetworkManager, systemd-networkd, ifcfg files and ifupdown", nets[k].MAC)
		}
		name := fmt.Sprintf("lan%d", k) // its name where the dialect must have one; pinNames gives it
		file, text, mode := used.fresh(nets[k], name)
		if err := c.tree.mkdir(path.Dir(file)); err != nil {
			return err
		}
		if old, err := c.tree.read(file); err == nil {
			if !strings.Contains(string(old), text) {
				text = strings.TrimRight(string(old), "\n") + "\n\n" + text
			} else {
				text = string(old)
			}
		}
		if err := c.tree.write(file, []byte(text), mode); err != nil {
			return err
		}
		rep.touch(file, "this node's address "+nets[k].Addresses[0])
		if used.name == "networkd" && !c.enabled("systemd-networkd.service") {
			rep.warn("%s: golden doesn't start systemd-networkd, nor has it any other configuration of its network: nobody will read this", file)
		}
		if used.name == "interfaces" || used.name == "ifcfg" || used.name == "suse" {
			if err := c.pin(rep, name, strings.ToLower(nets[k].MAC)); err != nil {
				return err
			}
		}
	}
	return nil
}

// usedDialect is what the clone configures its interfaces by: what is enabled,
// and has files, before what is only there.
func (c *clone) usedDialect() dialect {
	all := map[string]dialect{}
	for _, d := range dialects() {
		all[d.name] = d
	}
	has := func(patterns ...string) bool {
		return slices.ContainsFunc(patterns, func(p string) bool { return len(c.tree.glob(p)) > 0 })
	}
	switch {
	case has(all["netplan"].files...):
		return all["netplan"]
	case has("/etc/sysconfig/network-scripts/ifcfg-*") && !has(all["keyfile"].files...):
		return all["ifcfg"]
	case c.enabled("wicked.service"), has("/etc/sysconfig/network/ifcfg-*") && !c.enabled("NetworkManager.service"):
		return all["suse"]
	case c.enabled("NetworkManager.service"):
		return all["keyfile"]
	case c.enabled("systemd-networkd.service"):
		return all["networkd"]
	case c.tree.isFile("/etc/network/interfaces"):
		return all["interfaces"]
	case has(all["keyfile"].files...), c.tree.isDir("/etc/NetworkManager"):
		return all["keyfile"]
	case has("/etc/systemd/network/*.network"):
		return all["networkd"]
	case c.tree.isDir("/etc/sysconfig/network-scripts"):
		return all["ifcfg"]
	case c.tree.isDir("/lib/systemd/network"), c.tree.isDir("/usr/lib/systemd/network"):
		return all["networkd"]
	}
	return dialect{}
}

// enabled tells whether systemd starts a unit at boot.
func (c *clone) enabled(unit string) bool {
	return slices.ContainsFunc(c.tree.list("/etc/systemd/system"), func(e fs.DirEntry) bool {
		return strings.HasSuffix(e.Name(), ".wants") && c.tree.isLink("/etc/systemd/system/"+e.Name()+"/"+unit)
	})
}
