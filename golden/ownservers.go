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
	"syscall"

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

// WriteSite writes files below a folder, with the owner and mode of what is
// there. If that has other contents it is kept beside, with .sav behind its
// name, or .sav.2 and so on: what was kept once is never written over.
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
		if err := replaceKeeping(file, f.Text); err != nil {
			return out, err
		}
		out = append(out, file)
	}
	return out, nil
}

func replaceKeeping(file string, text []byte) error {
	st, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err := renameio.WriteFile(file, text, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
		return nil
	}
	var old []byte
	if err == nil {
		old, err = os.ReadFile(file)
	}
	if err != nil {
		return fmt.Errorf("look what was there before: %w", err)
	}
	if bytes.Equal(old, text) {
		return nil
	}
	if err := keepOld(file, old, st); err != nil {
		return fmt.Errorf("keep the old %s: %w", file, err)
	}
	t, err := renameio.NewPendingFile(file)
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	defer t.Cleanup()
	_, err = t.Write(text)
	if err = errors.Join(err, sameOwner(t.File, st)); err == nil {
		err = t.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}

// maxSaved bounds how many old versions of a file are kept.
const maxSaved = 1000

// keepOld keeps contents beside a file, unless they have been kept already.
func keepOld(file string, old []byte, st fs.FileInfo) error {
	for n := 1; n <= maxSaved; n++ {
		sav := file + ".sav"
		if n > 1 {
			sav += fmt.Sprintf(".%d", n)
		}
		f, err := os.OpenFile(sav, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if errors.Is(err, fs.ErrExist) {
			if kept, err := os.ReadFile(sav); err == nil && bytes.Equal(kept, old) {
				return nil
			}
			continue
		}
		if err != nil {
			return err
		}
		_, err = f.Write(old)
		if err = errors.Join(err, sameOwner(f, st), f.Sync(), f.Close()); err != nil {
			return errors.Join(err, os.Remove(sav))
		}
		return nil
	}
	return fmt.Errorf("there are %d old versions already", maxSaved)
}

// sameOwner gives a file another's owner and mode.
func sameOwner(f *os.File, st fs.FileInfo) error {
	if s, ok := st.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(s.Uid), int(s.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(st.Mode().Perm()) // the last: chown takes bits away
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
