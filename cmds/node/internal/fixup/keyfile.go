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
		case hasFixed(ls, l.section) && isKeyfileAddress(l.key) && l.key != "gateway":
			w.fixed = append(w.fixed, keyfilePrefixes(l.value)...)
		}
	}
	return []wired{w}
}

// hasFixed: a section may have golden's fixed addresses; a shared one's are of
// the network behind the machine.
func hasFixed(ls []iniLine, section string) bool {
	if section != "ipv4" && section != "ipv6" {
		return false
	}
	m := iniValue(ls, section, "method")
	fixed := slices.ContainsFunc(ls, func(l iniLine) bool { return l.section == section && isKeyfileAddress(l.key) })
	return m == "manual" || fixed && (m == "auto" || m == "")
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
	e := keyfileEdit{fate: f, add: map[string][]string{}, anew: map[string]bool{}}
	if f.addressed() {
		e.readdress(ls, "ipv4", true)
		e.readdress(ls, "ipv6", false)
	}
	card, bound := "ethernet", false
	for _, l := range ls {
		if isCardSection(l.section) {
			card = l.section
			bound = bound || l.key == "mac-address" && strings.EqualFold(l.value, f.mac)
		}
	}
	if f.mac != "" && !bound {
		e.add[card] = []string{"mac-address=" + strings.ToUpper(f.mac)}
	}
	return editINI(ls, e.drop, e.add, card, "ipv4", "ipv6"), false
}

// keyfileEdit is what becomes of one connection.
type keyfileEdit struct {
	fate
	add  map[string][]string // by section
	anew map[string]bool     // sections with other addresses than before
}

// readdress changes one family, if golden's or the node's is fixed.
func (e *keyfileEdit) readdress(ls []iniLine, section string, four bool) {
	own := e.net != nil && len(familyOf(*e.net, four)) > 0
	if !own && !hasFixed(ls, section) {
		return
	}
	e.anew[section] = true
	e.add[section] = []string{"method=auto"}
	if own {
		e.add[section] = keyfileAddresses(withGateway(*e.net, oldGateway(ls, section), four), four)
	}
}

// drop names the lines that go.
func (e *keyfileEdit) drop(l iniLine) bool {
	switch {
	case isCardSection(l.section):
		return l.key == "seen-bssids" ||
			l.key == "mac-address" && !strings.EqualFold(l.value, e.mac) ||
			l.key == "cloned-mac-address" && isMAC(l.value)
	case l.section == "connection": // the card says which interface it is
		return l.key == "interface-name" && e.net != nil && e.mac != ""
	case !e.anew[l.section]:
		return false
	case l.key == "dns":
		return e.net != nil && len(e.net.DNS) > 0
	case l.key == "dns-search":
		return e.net != nil && e.net.Domain != ""
	}
	return l.key == "method" || isKeyfileAddress(l.key)
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
