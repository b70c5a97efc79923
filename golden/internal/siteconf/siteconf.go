// Package siteconf writes the configurations of a site's own servers, so that
// machines boot stage 1 from those: DHCP servers, TFTP servers, and the tree of
// a TFTP server. It starts none of them and installs nothing; what golden-serve
// answers with itself is package netboot's.
//
//	this machine, its network ─┐          ┌─▶ dhcpd.conf, kea-dhcp4.conf, ...
//	nodes file ────────────────┼─▶ Render ┼─▶ xinetd.d/tftp, default/tftpd-hpa
//	options of clone_script ───┘          └─▶ pxelinux.cfg/01-MAC, grub/, boot.ipxe
package siteconf

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/nodesfile"
	"github.com/kamethod/kamethod/templates"
)

// Site is a network with its servers, and what its machines are to boot.
type Site struct {
	Interface string // of this machine; empty: not said
	PXE, TFTP netip.Addr
	Gateway   netip.Addr // zero: none
	Network   netip.Prefix
	DNS       []netip.Addr
	Domain    string
	From, To  netip.Addr // addresses to lease; zero: the upper half of the network
	Proxy     bool       // dnsmasq: beside another DHCP server
	TFTPRoot  string
	Prefix    string // folder of PXELINUX and its files below TFTPRoot; empty: itself
	HTTP      string // URL of the TFTP root; empty: no HTTP boot
	Nodes     []nodesfile.Node

	// the boot lines
	Default           string // label of the machines that have no file of their own
	Server, Directory string // where stage 2 lies, for nfs, http and ftp; empty: not said
	Golden            string // ka.server=; empty: stage 1 looks for golden
	Session           string // kaopt=; empty: not said
	Console           string // kernel words
}

// File is a configuration; Name has no ".." and doesn't begin with a slash.
type File struct {
	Name string
	Text []byte
}

// Kinds are the programs that there are configurations for.
func Kinds() []string {
	return []string{"dhcpd", "dnsmasq", "kea", "pxe", "xinetd", "tftpd-hpa", "pxelinux"}
}

// Render writes the files of a kind.
func (s Site) Render(kind string) ([]File, error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	names := map[string][2]string{ // template and file
		"dhcpd": {"dhcpd.conf", "dhcpd.conf"}, "dnsmasq": {"dnsmasq.conf", "dnsmasq.conf"}, "kea": {"kea-dhcp4.conf", "kea-dhcp4.conf"},
		"pxe": {"pxe.conf", "pxe.conf"}, "xinetd": {"xinetd", "xinetd.d/tftp"}, "tftpd-hpa": {"tftpd-hpa", "default/tftpd-hpa"},
	}
	if kind == "pxelinux" {
		return s.tree()
	}
	n, ok := names[kind]
	if !ok {
		return nil, fmt.Errorf("no configuration for %q: want %s", kind, strings.Join(Kinds(), ", "))
	}
	d, err := s.dhcp()
	if err != nil {
		return nil, err
	}
	if kind == "dnsmasq" && !s.Proxy {
		if err := d.dnsmasqTakes(); err != nil {
			return nil, fmt.Errorf("%s: %w", n[1], err)
		}
	}
	text, err := templates.Server(n[0], functions(), d)
	return []File{{Name: n[1], Text: text}}, err
}

// check refuses what would break out of its place in a file, or can't be.
func (s Site) check() error {
	for _, a := range []struct {
		what string
		addr netip.Addr
		need bool
	}{{"PXE server (-p)", s.PXE, true}, {"TFTP server (-t)", s.TFTP, true}, {"gateway (-w)", s.Gateway, false}} {
		if a.addr.IsValid() && !usable(a.addr) || !a.addr.IsValid() && a.need {
			return fmt.Errorf("%s: want an IPv4 address of a machine", a.what)
		}
	}
	for _, a := range s.DNS {
		if !usable(a) {
			return fmt.Errorf("DNS server (-s) %v: want an IPv4 address", a)
		}
	}
	switch {
	case !s.Network.IsValid() || !s.Network.Addr().Is4() || s.Network.Masked() != s.Network || s.Network.Bits() < 8 || s.Network.Bits() > 29:
		return fmt.Errorf("network (-n) %v: want an IPv4 network from a /8 to a /29, as 10.0.1.0/24 or 10.0.1", s.Network)
	case s.Gateway.IsValid() && !s.Network.Contains(s.Gateway):
		return fmt.Errorf("gateway (-w) %v is not in the network %v", s.Gateway, s.Network)
	case !templates.IsLabel(s.Default):
		return fmt.Errorf("label %q: want %s", s.Default, strings.Join(templates.Labels(), ", "))
	case s.Domain != "" && !isName(s.Domain):
		return fmt.Errorf("domain %q: want letters, digits, hyphens and dots", s.Domain)
	case !isPath(s.TFTPRoot) || !path.IsAbs(s.TFTPRoot):
		return fmt.Errorf("TFTP root %q: want an absolute path of letters, digits and ._-/+", s.TFTPRoot)
	case s.Prefix != "" && (!isPath(s.Prefix) || path.Clean("/"+s.Prefix) != "/"+s.Prefix):
		return fmt.Errorf("prefix %q: want a folder below the TFTP root, as X86PC/linux", s.Prefix)
	case s.Interface != "" && !isPath(s.Interface):
		return fmt.Errorf("interface %q: no such name", s.Interface)
	case s.HTTP != "" && (!strings.HasPrefix(s.HTTP, "http://") || !isPath(strings.TrimPrefix(s.HTTP, "http://"))):
		return fmt.Errorf("HTTP address %q: want http://HOST/PATH", s.HTTP)
	}
	return s.checkWords()
}

func (s Site) checkWords() error {
	for what, word := range map[string]string{"server": s.Server, "directory": s.Directory, "golden node": s.Golden, "session": s.Session} {
		if strings.ContainsAny(word, " \t\n,\"") {
			return fmt.Errorf("%s %q: want one word", what, word)
		}
	}
	for _, e := range s.entries(0) {
		if err := stage1Takes(e.Words); err != nil {
			return fmt.Errorf("boot line of label %s: %w", e.Label, err)
		}
	}
	return nil
}

func usable(a netip.Addr) bool {
	return a.Is4() && !a.IsUnspecified() && !a.IsMulticast() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

func isName(s string) bool {
	return len(s) <= 253 && !strings.ContainsFunc(s, func(r rune) bool { return !letter(r) && r != '-' && r != '.' })
}

// isPath is for what stands unquoted in a file of any of these programs.
func isPath(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !letter(r) && !strings.ContainsRune("._-+/:@", r) }) &&
		!slices.Contains(strings.Split(s, "/"), "..")
}

func letter(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
}

// rule says which file firmware of an architecture boots.
type rule struct {
	Arch uint16
	Name string
	File string
}

// rules are for the firmware whose loaders make image makes: the first of the
// table that isn't PXELINUX by HTTP. What has no HTTP server can't boot by it.
func (s Site) rules(http bool) []rule {
	made := []string{"pxelinux.0", "shimx64.efi", "snponly.efi", "undionly.kpxe"}
	var out []rule
	for _, b := range netboot.BootFiles() {
		byHTTP := netboot.ByHTTP(b.Arch)
		if byHTTP != http || http && s.HTTP == "" || !slices.Contains(made, b.File) || slices.ContainsFunc(out, func(r rule) bool { return r.Arch == uint16(b.Arch) }) {
			continue
		}
		r := rule{Arch: uint16(b.Arch), Name: b.Arch.String(), File: b.File}
		if b.File == "pxelinux.0" {
			r.File = path.Join(s.Prefix, b.File)
		}
		if http {
			r.File = strings.TrimSuffix(s.HTTP, "/") + "/" + b.File
		}
		out = append(out, r)
	}
	return out
}

// span is a part of the addresses to lease.
type span struct{ From, To netip.Addr }

// ranges are the addresses to lease without those that are somebody's already.
func (s Site) ranges(taken []netip.Addr) ([]span, error) {
	from, to := s.From, s.To
	if !from.IsValid() && !to.IsValid() {
		from, to = netboot.UpperHalf(s.Network)
	}
	if !from.IsValid() || !to.IsValid() || !s.Network.Contains(from) || !s.Network.Contains(to) || to.Less(from) {
		return nil, fmt.Errorf("addresses to lease %v to %v: want both ends, in this order, in the network %v", s.From, s.To, s.Network)
	}
	slices.SortFunc(taken, netip.Addr.Compare)
	var out []span
	for _, a := range taken {
		if a.Less(from) || to.Less(a) {
			continue
		}
		if from.Less(a) {
			out = append(out, span{from, a.Prev()})
		}
		from = a.Next()
	}
	if !to.Less(from) {
		out = append(out, span{from, to})
	}
	if len(out) == 0 {
		return nil, errors.New("addresses to lease: all are somebody's already")
	}
	return out, nil
}
