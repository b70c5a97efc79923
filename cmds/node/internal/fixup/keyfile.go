package fixup

import (
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// keyfileDialect is NetworkManager's own, nm-settings-keyfile(5). It refuses a
// file that others may read.
func keyfileDialect() dialect {
	const dir = "/etc/NetworkManager/system-connections/"
	return dialect{name: "keyfile", files: []string{dir + "*"}, parse: parseKeyfile, rewrite: rewriteKeyfile,
		fresh: func(n wire.Network, _ string) (string, string, fs.FileMode) {
			id := "kamethod-" + strings.ReplaceAll(strings.ToLower(n.MAC), ":", "")
			text := "[connection]\nid=" + id + "\ntype=ethernet\n\n[ethernet]\nmac-address=" + strings.ToUpper(n.MAC) + "\n\n[ipv4]\n" +
				strings.Join(keyfileAddresses(n, true), "\n") + "\n\n[ipv6]\n" + strings.Join(keyfileAddresses(n, false), "\n") + "\n"
			return path.Join(dir, id+".nmconnection"), text, 0o600
		}}
}

func parseKeyfile(_, text string) []wired {
	ls := splitINI(text)
	kind := iniValue(ls, "connection", "type")
	w := wired{name: iniValue(ls, "connection", "interface-name")}
	switch kind {
	case "ethernet", "802-3-ethernet":
		w.plain = iniValue(ls, "connection", "master") == "" && iniValue(ls, "connection", "controller") == ""
	case "bond", "bridge", "team", "vlan", "wifi", "802-11-wireless", "infiniband":
	default:
		w.leave = true // a tunnel's address is agreed upon with its other end
	}
	for _, l := range ls {
		switch {
		case isCardSection(l.section) && l.key == "mac-address":
			w.mac = l.value
		case (l.section == "ipv4" || l.section == "ipv6") && isKeyfileAddress(l.key) && l.key != "gateway":
			w.fixed = append(w.fixed, keyfilePrefixes(l.value)...)
		}
	}
	return []wired{w}
}

func isCardSection(s string) bool {
	return slices.Contains([]string{"ethernet", "802-3-ethernet", "wifi", "802-11-wireless", "infiniband"}, s)
}

func isKeyfileAddress(key string) bool {
	return regexp.MustCompile(`^(address(es)?\d*|gateway)$`).MatchString(key)
}

// keyfilePrefixes reads "10.0.0.1/24,10.0.0.254", and the older "10.0.0.1;24;10.0.0.254;".
func keyfilePrefixes(v string) []netip.Prefix {
	f := strings.FieldsFunc(v, func(r rune) bool { return r == ',' || r == ';' })
	if len(f) == 0 {
		return nil
	}
	if !strings.Contains(f[0], "/") && len(f) > 1 {
		f[0] += "/" + f[1]
	}
	var out []netip.Prefix
	for _, s := range f {
		if p, err := netip.ParsePrefix(strings.TrimSpace(s)); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func rewriteKeyfile(_, text string, fs fates) (string, bool) {
	f, ok := fs[""]
	if !ok {
		return text, false
	}
	ls := splitINI(text)
	add := map[string][]string{}
	anew := map[string]bool{} // sections whose addresses are new
	if f.addressed() {
		for _, s := range []struct {
			name string
			four bool
		}{{"ipv4", true}, {"ipv6", false}} {
			manual := iniValue(ls, s.name, "method") == "manual"
			own := f.net != nil && len(familyOf(*f.net, s.four)) > 0
			if !manual && !own {
				continue
			}
			anew[s.name] = true
			add[s.name] = []string{"method=auto"}
			if own {
				add[s.name] = keyfileAddresses(withGateway(*f.net, oldGateway(ls, s.name), s.four), s.four)
			}
		}
	}
	bound := false
	drop := func(l iniLine) bool {
		switch {
		case anew[l.section] && (isKeyfileAddress(l.key) || l.key == "method"):
			return true
		case anew[l.section] && f.net != nil && (l.key == "dns" && len(f.net.DNS) > 0 || l.key == "dns-search" && f.net.Domain != ""):
			return true
		case isCardSection(l.section) && l.key == "mac-address" && !strings.EqualFold(l.value, f.mac):
			return true
		case isCardSection(l.section) && l.key == "cloned-mac-address" && isMAC(l.value):
			return true
		case isCardSection(l.section) && l.key == "seen-bssids":
			return true
		case l.section == "connection" && l.key == "interface-name" && f.net != nil && f.mac != "":
			return true // the card says which it is
		}
		return false
	}
	for _, l := range ls {
		bound = bound || isCardSection(l.section) && l.key == "mac-address" && strings.EqualFold(l.value, f.mac)
	}
	card := "ethernet"
	for _, l := range ls {
		if isCardSection(l.section) {
			card = l.section
		}
	}
	if f.mac != "" && !bound {
		add[card] = []string{"mac-address=" + strings.ToUpper(f.mac)}
	}
	return editINI(ls, drop, add, card, "ipv4", "ipv6"), false
}

func oldGateway(ls []iniLine, section string) string {
	if g := iniValue(ls, section, "gateway"); g != "" {
		return g
	}
	for _, l := range ls {
		if l.section != section || !isKeyfileAddress(l.key) {
			continue
		}
		f := strings.FieldsFunc(l.value, func(r rune) bool { return r == ',' || r == ';' })
		if len(f) > 1 {
			return strings.TrimSpace(f[len(f)-1])
		}
	}
	return ""
}

// keyfileAddresses are the lines of an [ipv4] or [ipv6].
func keyfileAddresses(n wire.Network, four bool) []string {
	own := familyOf(n, four)
	if len(own) == 0 {
		return []string{"method=auto"}
	}
	var out []string
	for i, a := range own {
		if i == 0 && n.Gateway != "" && isFour(n.Gateway) == four {
			a += "," + n.Gateway
		}
		out = append(out, "address"+itoa(i+1)+"="+a)
	}
	var dns []string
	for _, d := range n.DNS {
		if isFour(d) == four {
			dns = append(dns, d)
		}
	}
	if len(dns) > 0 {
		out = append(out, "dns="+strings.Join(dns, ";")+";")
	}
	if n.Domain != "" {
		out = append(out, "dns-search="+n.Domain+";")
	}
	return append(out, "method=manual")
}
