package fixup

import (
	"io/fs"
	"net/netip"
	"path"
	"regexp"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// ifcfgDialect is that of Red Hat, its kin and Mandriva: initscripts' sysconfig.txt.
func ifcfgDialect() dialect {
	const dir = "/etc/sysconfig/network-scripts/"
	return dialect{name: "ifcfg", files: []string{dir + "ifcfg-*"}, parse: parseIfcfg, rewrite: rewriteIfcfg,
		fresh: func(n wire.Network, name string) (string, string, fs.FileMode) {
			return dir + "ifcfg-" + name, "DEVICE=" + name + "\nONBOOT=yes\nTYPE=Ethernet\nHWADDR=" + n.MAC + "\n" + ifcfgLines(n) + "\n", 0o644
		}}
}

// suseDialect is that of SUSE, ifcfg(5): the address carries its length, and
// gateways and name servers are elsewhere.
func suseDialect() dialect {
	const dir = "/etc/sysconfig/network/"
	return dialect{name: "suse", files: []string{dir + "ifcfg-*"}, parse: parseIfcfg, rewrite: rewriteSuse,
		fresh: func(n wire.Network, name string) (string, string, fs.FileMode) {
			return dir + "ifcfg-" + name, "STARTMODE='auto'\n" + suseLines(n) + "\n", 0o644
		}}
}

// shellLine is "KEY='value'" of a file that a shell reads.
type shellLine struct{ raw, key, value string }

func splitShell(text string) []shellLine {
	var out []shellLine
	form := regexp.MustCompile(`^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$`)
	for raw := range strings.SplitAfterSeq(text, "\n") {
		if raw == "" {
			continue
		}
		l := shellLine{raw: raw}
		if m := form.FindStringSubmatch(strings.TrimRight(raw, "\r\n")); m != nil {
			l.key, l.value = m[1], unquote(m[2])
		}
		out = append(out, l)
	}
	return out
}

// unquote is what a shell makes of a word without anything to expand; a
// comment behind it goes.
func unquote(s string) string {
	s = strings.TrimSpace(s)
	if s != "" && (s[0] == '"' || s[0] == '\'') {
		if end := strings.IndexByte(s[1:], s[0]); end >= 0 {
			return s[1 : 1+end]
		}
		return s
	}
	s, _, _ = strings.Cut(s, " ")
	return s
}

func shellValue(ls []shellLine, key string) string {
	v := ""
	for _, l := range ls {
		if l.key == key {
			v = l.value
		}
	}
	return v
}

// ifcfgName is the interface of a file, and whether it is a further address
// of one ("eth0:1").
func ifcfgName(file string, ls []shellLine) (name string, alias bool) {
	name = strings.TrimPrefix(path.Base(file), "ifcfg-")
	if d := shellValue(ls, "DEVICE"); d != "" {
		name = d
	}
	return name, strings.Contains(name, ":")
}

func parseIfcfg(file, text string) []wired {
	ls := splitShell(text)
	name, alias := ifcfgName(file, ls)
	kind := strings.ToLower(shellValue(ls, "TYPE"))
	w := wired{name: name}
	w.leave = name == "lo" || regexp.MustCompile(`^(tun|tap|ppp|wg|gre|sit|dummy|ipsec|virbr|docker)`).MatchString(name) ||
		kind != "" && !strings.Contains(" ethernet bond bridge team vlan wireless infiniband ovsbridge ", " "+kind+" ")
	made := shellValue(ls, "MASTER") + shellValue(ls, "BRIDGE") + shellValue(ls, "VLAN") + shellValue(ls, "BONDING_MASTER") + shellValue(ls, "ETHERDEVICE")
	w.plain = !w.leave && !alias && made == "" && (kind == "" || kind == "ethernet") && !regexp.MustCompile(`^(bond|br|team|vlan)|\.`).MatchString(name)
	if m := shellValue(ls, "HWADDR"); isMAC(m) {
		w.mac = m
	}
	for _, l := range ls {
		suffix, ok := strings.CutPrefix(l.key, "IPADDR")
		if !ok && l.key != "IPV6ADDR" {
			continue
		}
		mask := shellValue(ls, "NETMASK"+suffix)
		for _, k := range []string{"PREFIX" + suffix, "PREFIXLEN" + suffix} {
			if v := shellValue(ls, k); v != "" {
				mask = v
			}
		}
		if p, ok := prefixOf(l.value, mask); ok {
			w.fixed = append(w.fixed, p)
		}
	}
	return []wired{w}
}

// isIfcfgAddress names the keys that are golden's address, and follow from it.
func isIfcfgAddress(key string) bool {
	return regexp.MustCompile(`^(IPADDR\w*|(NETMASK|PREFIX|PREFIXLEN|NETWORK|BROADCAST|GATEWAY|REMOTE_IPADDR)(\d+|_\w+)?|IPV6ADDR|IPV6ADDR_SECONDARIES|IPV6_DEFAULTGW)$`).MatchString(key)
}

func isIfcfgCard(key string) bool {
	return key == "HWADDR" || key == "MACADDR" || key == "UUID" || key == "LLADDR"
}

func rewriteIfcfg(file, text string, fs fates) (string, bool) {
	ls := splitShell(text)
	f, ok := fs[""]
	if !ok {
		return text, false
	}
	anew := ""
	if f.net != nil {
		n := withGateway(*f.net, shellValue(ls, "GATEWAY"), true)
		anew = ifcfgLines(withGateway(n, shellValue(ls, "IPV6_DEFAULTGW"), false))
	}
	return rewriteShell(file, ls, f, anew, "BOOTPROTO=dhcp", f.mac)
}

func rewriteSuse(file, text string, fs fates) (string, bool) {
	f, ok := fs[""]
	if !ok {
		return text, false
	}
	anew := ""
	if f.net != nil {
		anew = suseLines(*f.net)
	}
	return rewriteShell(file, splitShell(text), f, anew, "BOOTPROTO='dhcp'", "")
}

// rewriteShell puts the new address where golden's was, or at the end.
func rewriteShell(file string, ls []shellLine, f fate, anew, dhcp, mac string) (string, bool) {
	if _, alias := ifcfgName(file, ls); alias && f.addressed() {
		return "", true
	}
	own := map[string]bool{}
	for line := range strings.Lines(anew) {
		k, _, _ := strings.Cut(line, "=")
		own[k] = true
	}
	var b strings.Builder
	put, bound := false, false
	place := func() {
		if put || !f.addressed() {
			return
		}
		put = true
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteString("\n")
		}
		if f.net != nil {
			b.WriteString(anew + "\n")
		} else {
			b.WriteString(dhcp + "\n")
		}
	}
	for _, l := range ls {
		switch {
		case l.key == "HWADDR" && mac != "":
			if !bound {
				b.WriteString(sameCase(l, mac))
			}
			bound = true
		case isIfcfgCard(l.key):
		case f.addressed() && (l.key == "BOOTPROTO" || isIfcfgAddress(l.key) || own[l.key]):
			place()
		default:
			b.WriteString(l.raw)
		}
	}
	place()
	if mac != "" && !bound && f.net != nil {
		if b.Len() > 0 && !strings.HasSuffix(b.String(), "\n") {
			b.WriteString("\n")
		}
		b.WriteString("HWADDR=" + mac + "\n")
	}
	return b.String(), false
}

// sameCase keeps a line that says the same in capitals.
func sameCase(l shellLine, mac string) string {
	if strings.EqualFold(l.value, mac) {
		return l.raw
	}
	return "HWADDR=" + mac + "\n"
}

// ifcfgLines have masks in the place of lengths: the oldest know only those.
func ifcfgLines(n wire.Network) string {
	out := []string{"BOOTPROTO=none"}
	for i, a := range familyOf(n, true) {
		p := netip.MustParsePrefix(a) // familyOf's
		k := ""
		if i > 0 {
			k = itoa(i)
		}
		out = append(out, "IPADDR"+k+"="+p.Addr().String(), "NETMASK"+k+"="+netmask(p))
	}
	for i, a := range familyOf(n, false) {
		switch i {
		case 0:
			out = append(out, "IPV6INIT=yes", "IPV6ADDR="+a)
		case 1:
			out = append(out, `IPV6ADDR_SECONDARIES="`+strings.Join(familyOf(n, false)[1:], " ")+`"`)
		}
	}
	if n.Gateway != "" {
		k := "GATEWAY="
		if !isFour(n.Gateway) {
			k = "IPV6_DEFAULTGW="
		}
		out = append(out, k+n.Gateway)
	}
	for i, d := range n.DNS {
		out = append(out, "DNS"+itoa(i+1)+"="+d)
	}
	if n.Domain != "" {
		out = append(out, "DOMAIN="+n.Domain)
	}
	return strings.Join(out, "\n")
}

func suseLines(n wire.Network) string {
	out := []string{"BOOTPROTO='static'"}
	for i, a := range append(familyOf(n, true), familyOf(n, false)...) {
		k := "IPADDR"
		if i > 0 {
			k += "_" + itoa(i)
		}
		out = append(out, k+"='"+a+"'")
	}
	return strings.Join(out, "\n")
}
