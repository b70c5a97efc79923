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
	add := map[string][]string{}
	gateway := iniValue(ls, "Network", "Gateway")
	defaults := defaultRoutes(ls)
	for _, l := range ls {
		if gateway == "" && defaults[l.nth] && l.section == "Route" && l.key == "Gateway" {
			gateway = l.value
		}
	}
	if f.net != nil {
		add["Network"] = networkLines(withGateway(*f.net, gateway, isFour(gateway)))
	} else if f.dhcp {
		add["Network"] = []string{"DHCP=yes"}
	}
	bound, others := false, false
	for _, l := range ls {
		bound = bound || l.section == "Match" && isMatchCard(l.key) && strings.EqualFold(l.value, f.mac)
		others = others || l.section == "Match" && l.key != "" && !isMatchCard(l.key)
	}
	byCard := f.net != nil && f.mac != ""
	switch {
	case f.mac != "" && !bound:
		add["Match"] = []string{"MACAddress=" + f.mac}
	case f.mac == "" && !others && strings.Contains(text, "MACAddress"):
		add["Match"] = []string{"Type=ether", "Name=en* eth*"} // an empty [Match] is of everything, loopback too
	}
	drop := func(l iniLine) bool {
		switch {
		case l.section == "Match" && isMatchCard(l.key):
			return !strings.EqualFold(l.value, f.mac)
		case l.section == "Match" && l.key == "Name":
			return byCard
		case l.section == "Link" && l.key == "MACAddress":
			return true
		case !f.addressed():
			return false
		case l.section == "Network" && (l.key == "Address" || l.key == "Gateway" || l.key == "DHCP"):
			return true
		case l.section == "Network" && f.net != nil && (l.key == "DNS" && len(f.net.DNS) > 0 || l.key == "Domains" && f.net.Domain != ""):
			return true
		}
		return l.section == "Address" || l.section == "Route" && defaults[l.nth]
	}
	return editINI(ls, drop, add, "Match", "Network"), false
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
