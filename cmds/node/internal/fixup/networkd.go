package fixup

import (
	"io/fs"
	"net/netip"
	"regexp"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// networkdDialect is systemd-networkd's, systemd.network(5).
func networkdDialect() dialect {
	const dir = "/etc/systemd/network/"
	return dialect{name: "networkd", files: []string{dir + "*.network"}, parse: parseNetwork, rewrite: rewriteNetwork,
		fresh: func(n wire.Network, _ string) (string, string, fs.FileMode) {
			mac := strings.ToLower(n.MAC)
			return dir + "10-kamethod-" + strings.ReplaceAll(mac, ":", "") + ".network",
				"[Match]\nMACAddress=" + mac + "\n\n[Network]\n" + strings.Join(networkLines(n), "\n") + "\n", 0o644
		}}
}

func parseNetwork(_, text string) []wired {
	ls := splitINI(text)
	w := wired{name: iniValue(ls, "Match", "Name")}
	kind := iniValue(ls, "Match", "Type") + iniValue(ls, "Match", "Kind")
	w.leave = w.name == "lo" || regexp.MustCompile(`^(docker|virbr|wg|tun|tap|veth|dummy|vxlan|vnet|lxc|cni)`).MatchString(w.name) ||
		kind != "" && kind != "ether" && kind != "wlan" && kind != "bond" && kind != "bridge" && kind != "vlan"
	for _, l := range ls {
		switch {
		case l.section == "Match" && isMatchCard(l.key) && l.value != "":
			w.mac = strings.Fields(l.value)[0]
		case (l.section == "Network" || l.section == "Address") && l.key == "Address":
			if p, ok := prefixOf(l.value, ""); ok {
				w.fixed = append(w.fixed, p)
			}
		}
	}
	made := iniValue(ls, "Network", "Bridge") + iniValue(ls, "Network", "Bond")
	w.plain = !w.leave && made == "" && (w.mac != "" || kind == "ether" || regexp.MustCompile(`^(e|\*$)`).MatchString(w.name))
	return []wired{w}
}

func isMatchCard(key string) bool { return key == "MACAddress" || key == "PermanentMACAddress" }

func rewriteNetwork(_, text string, fs fates) (string, bool) {
	f, ok := fs[""]
	if !ok {
		return text, false
	}
	ls := splitINI(text)
	e := networkEdit{fate: f, defaults: defaultRoutes(ls)}
	add := map[string][]string{"Match": e.match(ls)}
	switch {
	case f.net != nil:
		gateway := e.gateway(ls)
		add["Network"] = networkLines(withGateway(*f.net, gateway, isFour(gateway)))
	case f.dhcp:
		add["Network"] = []string{"DHCP=yes"}
	}
	return editINI(ls, e.drop, add, "Match", "Network"), false
}

// networkEdit is what becomes of one .network file.
type networkEdit struct {
	fate
	defaults map[int]bool // [Route] sections
}

// gateway is golden's.
func (e *networkEdit) gateway(ls []iniLine) string {
	if g := iniValue(ls, "Network", "Gateway"); g != "" {
		return g
	}
	for _, l := range ls {
		if l.section == "Route" && l.key == "Gateway" && e.defaults[l.nth] {
			return l.value
		}
	}
	return ""
}

// match is what [Match] needs besides: an empty one is of every interface,
// loopback too.
func (e *networkEdit) match(ls []iniLine) []string {
	was, bound, others := false, false, false
	for _, l := range ls {
		if l.section != "Match" || l.key == "" {
			continue
		}
		was = was || isMatchCard(l.key)
		bound = bound || isMatchCard(l.key) && strings.EqualFold(l.value, e.mac)
		others = others || !isMatchCard(l.key)
	}
	switch {
	case e.mac != "" && !bound:
		return []string{"MACAddress=" + e.mac}
	case e.mac == "" && was && !others:
		return []string{"Type=ether", "Name=en* eth*"}
	}
	return nil
}

// drop names the lines that go.
func (e *networkEdit) drop(l iniLine) bool {
	switch l.section {
	case "Match":
		return isMatchCard(l.key) && !strings.EqualFold(l.value, e.mac) || l.key == "Name" && e.net != nil && e.mac != ""
	case "Link":
		return l.key == "MACAddress"
	case "Address":
		return e.addressed()
	case "Route":
		return e.addressed() && e.defaults[l.nth]
	case "Network":
		if !e.addressed() {
			return false
		}
		return l.key == "Address" || l.key == "Gateway" || l.key == "DHCP" ||
			e.net != nil && (l.key == "DNS" && len(e.net.DNS) > 0 || l.key == "Domains" && e.net.Domain != "")
	}
	return false
}

// defaultRoutes are those [Route] sections that only say where the gateway is.
func defaultRoutes(ls []iniLine) map[int]bool {
	out := map[int]bool{}
	for _, l := range ls {
		if l.section == "Route" && l.key == "Gateway" {
			out[l.nth] = true
		}
	}
	for _, l := range ls {
		if l.section != "Route" || l.key != "Destination" {
			continue
		}
		if p, err := netip.ParsePrefix(l.value); err != nil || p.Bits() != 0 {
			delete(out, l.nth)
		}
	}
	return out
}

// networkLines are those of [Network].
func networkLines(n wire.Network) []string {
	var out []string
	for _, a := range append(familyOf(n, true), familyOf(n, false)...) {
		out = append(out, "Address="+a)
	}
	if n.Gateway != "" {
		out = append(out, "Gateway="+n.Gateway)
	}
	for _, d := range n.DNS {
		out = append(out, "DNS="+d)
	}
	if n.Domain != "" {
		out = append(out, "Domains="+n.Domain)
	}
	if len(familyOf(n, true)) == 0 {
		out = append(out, "DHCP=ipv4")
	}
	return out
}
