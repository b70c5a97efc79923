package golden

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/vishvananda/netlink"

	"github.com/kamethod/kamethod/golden/internal/siteconf"
)

// Site is a network with servers of its own, which boot machines in our
// place.
type Site = siteconf.Site

// SiteFile is a configuration of one of them.
type SiteFile = siteconf.File

// SiteKinds are the servers that there are configurations for.
func SiteKinds() []string { return siteconf.Kinds() }

// FillSite puts in what nobody has said, as it is on this machine: its
// interface, address and network, its gateway and name servers where they
// serve that network too.
func FillSite(s *Site, iface string) error {
	if iface == "" && s.PXE.IsValid() && s.Network.IsValid() {
		s.TFTP = or(s.TFTP, s.PXE)
		return nil
	}
	name, addr, err := Interface(iface)
	if err != nil {
		return err
	}
	s.Interface = name
	s.PXE = or(s.PXE, addr)
	s.TFTP = or(s.TFTP, s.PXE)
	list, err := networksOf(name)
	if err != nil {
		return err
	}
	here := slices.IndexFunc(list, func(p netip.Prefix) bool { return p.Addr() == addr })
	if !s.Network.IsValid() && here >= 0 {
		s.Network = list[here].Masked()
	}
	if !s.Gateway.IsValid() {
		s.Gateway = gatewayOf(name, s.Network)
	}
	if len(s.DNS) == 0 || s.Domain == "" {
		servers, domain := resolver("/etc/resolv.conf")
		if len(s.DNS) == 0 {
			s.DNS = servers
		}
		if s.Domain == "" {
			s.Domain = domain
		}
	}
	return nil
}

func or(a, b netip.Addr) netip.Addr {
	if a.IsValid() {
		return a
	}
	return b
}

// gatewayOf is this machine's default gateway, if it is in a network.
func gatewayOf(iface string, network netip.Prefix) netip.Addr {
	link, err := netlink.LinkByName(iface)
	if err != nil {
		return netip.Addr{}
	}
	routes, err := netlink.RouteList(link, netlink.FAMILY_V4)
	if err != nil {
		return netip.Addr{}
	}
	for _, r := range routes {
		everywhere := r.Dst == nil || r.Dst.IP.Equal(net.IPv4zero)
		if a, ok := netip.AddrFromSlice(r.Gw.To4()); ok && everywhere && network.Contains(a) {
			return a
		}
	}
	return netip.Addr{}
}

// resolver reads resolv.conf(5). What answers this machine alone is no name
// server of the network.
func resolver(file string) (servers []netip.Addr, domain string) {
	f, err := os.Open(file)
	if err != nil {
		return nil, ""
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	for in.Scan() {
		w := strings.Fields(in.Text())
		if len(w) < 2 {
			continue
		}
		switch w[0] {
		case "nameserver":
			if a, err := netip.ParseAddr(w[1]); err == nil && a.Is4() && !a.IsLoopback() {
				servers = append(servers, a)
			}
		case "domain", "search":
			if domain = strings.TrimSuffix(w[1], "."); !isDomain(domain) {
				domain = ""
			}
		}
	}
	return servers, domain
}

func isDomain(s string) bool { return s != "" && checkHostname(s) == nil && !strings.Contains(s, "%") }

// ParseNetwork reads "10.0.1.0/24", or the "10.0.1" of clone_script.
func ParseNetwork(s string) (netip.Prefix, error) {
	text := s
	if n := strings.Count(s, "."); !strings.Contains(s, "/") && n < 3 {
		text = s + strings.Repeat(".0", 3-n) + fmt.Sprintf("/%d", 8*(n+1))
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || !p.Addr().Is4() || p.Masked() != p {
		return netip.Prefix{}, fmt.Errorf("network %q: want 10.0.1.0/24, or 10.0.1", s)
	}
	return p, nil
}

// WriteSite writes files below a folder. What is there with other contents is
// kept beside, with .sav behind its name.
func WriteSite(dir string, list []SiteFile) ([]string, error) {
	var out []string
	for _, f := range list {
		if !filepath.IsLocal(f.Name) {
			return out, fmt.Errorf("BUG: file name %q", f.Name)
		}
		file := filepath.Join(dir, f.Name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return out, fmt.Errorf("make the folder of %s: %w", file, err)
		}
		old, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return out, fmt.Errorf("look what was there before: %w", err)
		}
		if err == nil && !bytes.Equal(old, f.Text) {
			if err := renameio.WriteFile(file+".sav", old, 0o644); err != nil {
				return out, fmt.Errorf("keep the old %s: %w", file, err)
			}
		}
		if err := renameio.WriteFile(file, f.Text, 0o644); err != nil {
			return out, fmt.Errorf("write %s: %w", file, err)
		}
		out = append(out, file)
	}
	return out, nil
}

// InstallLines are the commands that install the programs of some kinds, for a
// distribution by the ID and ID_LIKE of its os-release(5), or else for all.
func InstallLines(kinds []string, distribution []string) []string {
	var out []string
	for _, m := range siteconf.PackageManagers() {
		if p := m.Packages(kinds); slices.ContainsFunc(distribution, func(d string) bool { return slices.Contains(m.For, d) }) {
			return []string{strings.Join(append(slices.Clone(m.Command), p...), " ")}
		} else {
			out = append(out, strings.Join(append(slices.Clone(m.Command), p...), " "))
		}
	}
	return out
}

// Distribution is what this machine runs, and what that is like.
func Distribution() []string {
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		return nil
	}
	var out []string
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if key == "ID" || key == "ID_LIKE" {
			out = append(out, strings.Fields(strings.Trim(value, `"'`))...)
		}
	}
	return out
}
