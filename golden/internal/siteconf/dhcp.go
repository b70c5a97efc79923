package siteconf

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"
	"text/template"
)

// dhcp is what the templates are filled with.
type dhcp struct {
	Site
	PXERules, HTTPRules []rule
	Ranges              []span
	Hosts               []host
	BIOS                string // PXELINUX
	OwnTFTP             bool   // the TFTP server is this machine
}

// host is a machine of the nodes file.
type host struct {
	ID      string // unique
	MAC     string
	Name    string
	Address netip.Addr // zero: of the pool
}

func (s Site) dhcp() (dhcp, error) {
	d := dhcp{Site: s, PXERules: s.rules(false), HTTPRules: s.rules(true), BIOS: path.Join(s.Prefix, "pxelinux.0"), OwnTFTP: s.TFTP == s.PXE}
	taken := append([]netip.Addr{s.PXE, s.TFTP}, s.DNS...)
	if s.Gateway.IsValid() {
		taken = append(taken, s.Gateway)
	}
	for _, n := range s.Nodes {
		h := host{ID: fmt.Sprintf("node%d", n.Number), MAC: n.MAC, Name: n.Name}
		for _, a := range n.Addresses {
			if s.Network.Contains(a.Addr()) && !h.Address.IsValid() {
				h.Address = a.Addr()
				taken = append(taken, h.Address)
			}
		}
		if h.Address.IsValid() && (h.Address == s.PXE || h.Address == s.TFTP || h.Address == s.Gateway) {
			return d, fmt.Errorf("machine %s has the address %v, which is a server's", n.MAC, h.Address)
		}
		if h.Name != "" || h.Address.IsValid() {
			d.Hosts = append(d.Hosts, h)
		}
	}
	var err error
	d.Ranges, err = s.ranges(taken)
	return d, err
}

// dnsmasqTakes refuses names that stand for something else in a dhcp-host of
// dnsmasq, which tells its parts by their form (dnsmasq(8)): "ignore" would have
// it not answer the machine at all.
func (d dhcp) dnsmasqTakes() error {
	for _, h := range d.Hosts {
		word := strings.ToLower(h.Name)
		_, err := netip.ParseAddr(word)
		number := strings.TrimRight(word, "0123456789") == ""
		if len(word) > 1 && strings.ContainsAny(word[len(word)-1:], "smhdw") { // of a time
			number = strings.TrimRight(word[:len(word)-1], "0123456789") == ""
		}
		if word != "" && (err == nil || number || word == "ignore" || word == "infinite") {
			return fmt.Errorf("name %q of machine %s: dnsmasq takes the word for its own (ignore, infinite, a time as 12h, an address): give the machine another name", h.Name, h.MAC)
		}
	}
	return nil
}

// keaOption is one of the network.
type keaOption struct{ Name, Data string }

// KeaOptions are what Kea tells all machines.
func (d dhcp) KeaOptions() []keaOption {
	var out []keaOption
	if d.Gateway.IsValid() {
		out = append(out, keaOption{"routers", d.Gateway.String()})
	}
	if len(d.DNS) > 0 {
		out = append(out, keaOption{"domain-name-servers", join(d.DNS, ", ")})
	}
	if d.Domain != "" {
		out = append(out, keaOption{"domain-name", d.Domain})
	}
	return out
}

// service is a boot server that dnsmasq tells of beside another DHCP server.
type service struct{ Tag, System, File string }

// Services are for the systems by dnsmasq's names (dnsmasq(8), pxe-service).
func (d dhcp) Services() []service {
	return []service{
		{"", "x86PC", d.BIOS},
		{"tag:!ipxe,", "X86-64_EFI", "snponly.efi"}, {"tag:ipxe,", "X86-64_EFI", "boot.ipxe"}, // architecture 7
		{"tag:!ipxe,", "BC_EFI", "snponly.efi"}, {"tag:ipxe,", "BC_EFI", "boot.ipxe"}, // architecture 9
	}
}

func join(list []netip.Addr, between string) string {
	var out []string
	for _, a := range list {
		out = append(out, a.String())
	}
	return strings.Join(out, between)
}

func functions() template.FuncMap {
	return template.FuncMap{
		"join": join,
		"mask": func(p netip.Prefix) string { return net.IP(net.CIDRMask(p.Bits(), 32)).String() },
		"hex":  func(n uint16) string { return fmt.Sprintf("0x%04X", n) },
		"hex2": func(n uint16) string { return fmt.Sprintf("%02x:%02x", n>>8, n&255) },
		"json": func(s string) (string, error) {
			b, err := json.Marshal(s)
			return string(b), err
		},
	}
}
