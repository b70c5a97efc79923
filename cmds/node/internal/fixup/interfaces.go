package fixup

import (
	"io/fs"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// interfacesDialect is ifupdown's, interfaces(5).
func interfacesDialect() dialect {
	const file = "/etc/network/interfaces"
	return dialect{name: "interfaces", files: []string{file, file + ".d/*"}, parse: parseInterfaces, rewrite: rewriteInterfaces,
		fresh: func(n wire.Network, name string) (string, string, fs.FileMode) {
			return file, "auto " + name + "\n" + interfacesStanzas(n, name, true) + interfacesStanzas(n, name, false), 0o644
		}}
}

// stanza is what begins with a word at the left; comments and empty lines are
// stanzas of their own, so that they stay where they are.
type stanza struct {
	head  []string // words of its first line
	lines []string // with their ends, the first one too; continued lines are one
}

func (s stanza) text() string { return strings.Join(s.lines, "") }

// iface is "eth0" and "inet" of "iface eth0 inet static", or "".
func (s stanza) iface() (name, family, method string) {
	if len(s.head) < 4 || s.head[0] != "iface" {
		return "", "", ""
	}
	return s.head[1], s.head[2], s.head[3]
}

// option is the value of one, or "".
func (s stanza) option(keys ...string) string {
	for _, l := range s.lines[1:] {
		if f := strings.Fields(joined(l)); len(f) > 1 && slices.Contains(keys, f[0]) {
			return f[1]
		}
	}
	return ""
}

func splitInterfaces(text string) []stanza {
	var out []stanza
	open := false
	for _, line := range continued(text) {
		f := strings.Fields(joined(line))
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
			if open && len(out) > 0 && len(f) > 0 && strings.TrimLeft(line, " \t") != line { // an indented comment is of its stanza
				out[len(out)-1].lines = append(out[len(out)-1].lines, line)
				continue
			}
			open = false
			out = append(out, stanza{lines: []string{line}})
		case startsStanza(f[0]):
			out = append(out, stanza{head: f, lines: []string{line}})
			open = true
		case open:
			out[len(out)-1].lines = append(out[len(out)-1].lines, line)
		default: // an option behind an empty line belongs to the stanza before it
			out = reopen(out, line)
			open = true
		}
	}
	return out
}

// reopen gives a line, and what lies between, to the last stanza that has a head.
func reopen(out []stanza, line string) []stanza {
	at := len(out) - 1
	for at >= 0 && out[at].head == nil {
		at--
	}
	if at < 0 {
		return append(out, stanza{lines: []string{line}})
	}
	for _, s := range out[at+1:] {
		out[at].lines = append(out[at].lines, s.lines...)
	}
	out[at].lines = append(out[at].lines, line)
	return out[:at+1]
}

func startsStanza(word string) bool {
	return slices.Contains([]string{"iface", "auto", "mapping", "source", "source-directory", "rename", "template"}, word) ||
		strings.HasPrefix(word, "allow-") || strings.HasPrefix(word, "no-auto-") || word == "no-scripts"
}

// continued joins lines that end in a backslash with those behind them. At the
// end of a file there are none, and what is written there must not be taken for
// one.
func continued(text string) []string {
	last := strings.TrimSuffix(text, "\n")
	text = strings.TrimRight(last, "\\") + text[len(last):]
	var out []string
	part := ""
	for line := range strings.SplitAfterSeq(text, "\n") {
		part += line
		if strings.HasSuffix(line, "\\\n") || part == "" {
			continue
		}
		out = append(out, part)
		part = ""
	}
	if part != "" {
		out = append(out, part)
	}
	return out
}

// joined is a continued line as ifupdown reads it.
func joined(line string) string { return strings.ReplaceAll(line, "\\\n", " ") }

func parseInterfaces(_, text string) []wired {
	var out []wired
	for _, s := range splitInterfaces(text) {
		name, family, method := s.iface()
		if name == "" || family != "inet" && family != "inet6" {
			continue
		}
		at := slices.IndexFunc(out, func(w wired) bool { return w.id == name })
		if at < 0 {
			w := wired{id: name, name: name}
			w.leave = name == "lo" || strings.HasPrefix(name, "lo:") || regexp.MustCompile(`^(tun|tap|ppp|wg|gre|sit|dummy|virbr|docker|veth)`).MatchString(name)
			w.plain = !w.leave && !regexp.MustCompile(`^(bond|br|team|vlan)|[.:]`).MatchString(name)
			out, at = append(out, w), len(out)
		}
		w := &out[at]
		for _, made := range []string{"bridge_ports", "bridge-ports", "bond-slaves", "slaves", "vlan-raw-device", "vlan_raw_device"} {
			w.plain = w.plain && s.option(made) == ""
		}
		if p, ok := prefixOf(s.option("address"), s.option("netmask")); ok && method == "static" {
			w.fixed = append(w.fixed, p)
		}
	}
	return out
}

// isInterfacesAddress names the options that are golden's address, and follow
// from it.
func isInterfacesAddress(key string) bool {
	return slices.Contains([]string{"address", "netmask", "network", "broadcast", "gateway", "pointopoint", "scope", "preferred-lifetime", "accept_ra", "autoconf"}, key)
}

func rewriteInterfaces(_, text string, fs fates) (string, bool) {
	var b strings.Builder
	done := map[string]bool{} // "eth0 inet"
	var gone []string
	list := splitInterfaces(text)
	for i, s := range list {
		name, family, method := s.iface()
		f, ok := fs[name]
		switch {
		case !ok || family != "inet" && family != "inet6":
			b.WriteString(s.text())
		case !f.addressed():
			b.WriteString(withoutCard(s))
		case strings.Contains(name, ":"): // a further address can't be asked for
			gone = append(gone, name)
		case done[name+" "+family]:
			if method != "static" {
				b.WriteString(withoutCard(s))
			}
		default:
			done[name+" "+family] = true
			b.WriteString(readdress(s, f, family == "inet"))
			if f.net != nil && !slices.ContainsFunc(list[i+1:], func(o stanza) bool { n, _, _ := o.iface(); return n == name }) {
				b.WriteString(missingFamily(f, name, done))
			}
		}
	}
	out := b.String()
	for _, name := range gone {
		out = dropWord(out, name)
	}
	return out, false
}

// missingFamily is the stanza of a family that golden had none for, below the
// last one of the interface.
func missingFamily(f fate, name string, done map[string]bool) string {
	out := ""
	for _, four := range []bool{true, false} {
		family := familyWord(four)
		if !done[name+" "+family] && len(familyOf(*f.net, four)) > 0 {
			done[name+" "+family] = true
			out += interfacesStanzas(*f.net, name, four)
		}
	}
	return out
}

// withoutCard leaves out a card's address that a stanza sets or asks for.
func withoutCard(s stanza) string {
	var b strings.Builder
	for i, l := range s.lines {
		f := strings.Fields(l)
		if i > 0 && len(f) > 1 && f[0] == "hwaddress" && isMAC(f[len(f)-1]) {
			continue
		}
		b.WriteString(l)
	}
	return b.String()
}

// readdress changes the method, and the options that go with it.
func readdress(s stanza, f fate, four bool) string {
	name, _, method := s.iface()
	own := f.net != nil && len(familyOf(*f.net, four)) > 0
	if !own && method != "static" {
		return withoutCard(s)
	}
	to := map[bool]string{true: "dhcp", false: "auto"}[four]
	if own {
		to = "static"
	}
	var b strings.Builder
	b.WriteString(regexp.MustCompile(`^(\s*iface\s+\S+\s+\S+\s+)\S+`).ReplaceAllString(joined(s.lines[0]), "${1}"+to))
	var n wire.Network
	if own {
		n = withGateway(*f.net, s.option("gateway"), four)
		if !strings.HasSuffix(b.String(), "\n") {
			b.WriteString("\n")
		}
		b.WriteString(interfacesOptions(n, familyOf(n, four)[0], four, true))
	}
	for _, l := range s.lines[1:] {
		w := strings.Fields(l)
		if len(w) > 0 && (isInterfacesAddress(w[0]) || own && (w[0] == "dns-nameservers" && len(n.DNS) > 0 || w[0] == "dns-search" && n.Domain != "")) {
			continue
		}
		if len(w) > 1 && w[0] == "hwaddress" && isMAC(w[len(w)-1]) {
			continue
		}
		b.WriteString(l)
	}
	if own && !strings.HasSuffix(b.String(), "\n") {
		b.WriteString("\n")
	}
	if own {
		for _, a := range familyOf(n, four)[1:] {
			b.WriteString("iface " + name + " " + familyWord(four) + " static\n" + interfacesOptions(n, a, four, false))
		}
	}
	return b.String()
}

func familyWord(four bool) string {
	if four {
		return "inet"
	}
	return "inet6"
}

// interfacesStanzas are all of one family's.
func interfacesStanzas(n wire.Network, name string, four bool) string {
	out := ""
	for i, a := range familyOf(n, four) {
		out += "iface " + name + " " + familyWord(four) + " static\n" + interfacesOptions(n, a, four, i == 0)
	}
	return out
}

// interfacesOptions have the mask by itself: ifupdown before 0.7 wants it so.
func interfacesOptions(n wire.Network, addr string, four, first bool) string {
	p := netip.MustParsePrefix(addr) // familyOf's
	mask := itoa(p.Bits())
	if four {
		mask = netmask(p)
	}
	out := "    address " + p.Addr().String() + "\n    netmask " + mask + "\n"
	if first && n.Gateway != "" && isFour(n.Gateway) == four {
		out += "    gateway " + n.Gateway + "\n"
	}
	if first && len(n.DNS) > 0 {
		out += "    dns-nameservers " + strings.Join(n.DNS, " ") + "\n"
	}
	if first && n.Domain != "" {
		out += "    dns-search " + n.Domain + "\n"
	}
	return out
}

// dropWord takes an interface out of the lists of those that are brought up.
func dropWord(text, name string) string {
	var b strings.Builder
	for _, line := range continued(text) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "auto" && !strings.HasPrefix(f[0], "allow-") || !slices.Contains(f[1:], name) {
			b.WriteString(line)
			continue
		}
		rest := slices.DeleteFunc(f[1:], func(s string) bool { return s == name || s == "\\" })
		if len(rest) > 0 {
			b.WriteString(f[0] + " " + strings.Join(rest, " ") + "\n")
		}
	}
	return b.String()
}
