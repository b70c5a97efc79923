package golden

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/templates"
)

// Boot says how machines are booted into stage 1.
type Boot struct {
	Interfaces []string
	DHCP       string     // "full", "proxy" or "off"
	From, To   netip.Addr // pool of full mode; zero: the upper half of the network
	Router     netip.Addr
	DNS        []netip.Addr
	Domain     string
	Subnets    []string // networks behind relays, "10.1.0.0/24,FROM-TO,ROUTER"
	Fixed      string   // file with lines "MAC ADDRESS [NAME]"
	Named      []Named  // of a nodes file: their addresses are leased to them
	LeaseFile  string
	Force      bool   // full mode although another DHCP server answers
	TFTPRoot   string // the tree that make image made
	HTTPPort   int
	Console    string // kernel console words
	MACs       []string
	BootFiles  []string // "ARCH=FILE": what machines of an architecture boot, instead of the table's choice
	Option43   string   // "auto", "always" or "never"
	Label      string   // what machines boot where there is no Named; empty: kamethod
}

// config is what the boot servers of all interfaces have in common.
func (b Boot) config(h *hub, log *slog.Logger) (netboot.Config, error) {
	files, err := netboot.FromFS(os.DirFS(b.TFTPRoot))
	if err != nil {
		return netboot.Config{}, fmt.Errorf("read the boot files in %s: %w (make image makes them)", b.TFTPRoot, err)
	}
	c := netboot.Config{
		DHCP: b.DHCP, RangeFrom: b.From, RangeTo: b.To,
		Router: b.Router, DNS: b.DNS, Domain: b.Domain, LeaseFile: b.LeaseFile, Force: b.Force,
		Decide: h.decide, Console: b.Console,
		Files: files, HTTPPort: b.HTTPPort, Log: log,
		Event: func(e netboot.Event) {
			log.Debug(e.What, "mac", e.MAC, "ip", e.IP, "file", e.Name, "bytes", e.Bytes)
			h.heard(e)
		},
	}
	if b.Label != "" {
		c.Own = func(net.HardwareAddr) netboot.Own {
			return netboot.Own{Label: b.Label, Boot: templates.LabelWords(b.Label, "", "")}
		}
	}
	if err := b.loaders(&c, log); err != nil {
		return c, err
	}
	return c, b.leases(&c)
}

// Interface finds golden's address on an interface, or, where none is named,
// the one interface that has one.
func Interface(name string) (string, netip.Addr, error) {
	list, err := net.Interfaces()
	if err != nil {
		return "", netip.Addr{}, fmt.Errorf("list the network interfaces: %w", err)
	}
	var found []string
	var addr netip.Addr
	for _, i := range list {
		if name != "" && i.Name != name || name == "" && (i.Flags&net.FlagUp == 0 || i.Flags&net.FlagLoopback != 0) {
			continue
		}
		a := firstIPv4(i)
		if name != "" && !a.IsValid() {
			return "", a, fmt.Errorf("interface %s has no IPv4 address: give it one (ip addr add ADDRESS/24 brd + dev %s)", name, name)
		}
		if a.IsValid() {
			found, addr = append(found, i.Name), a
		}
	}
	switch {
	case len(found) == 1:
		return found[0], addr, nil
	case name != "":
		return "", addr, fmt.Errorf("no interface %s on this machine", name)
	case len(found) == 0:
		return "", addr, fmt.Errorf("no interface of this machine has an IPv4 address")
	}
	return "", addr, fmt.Errorf("this machine has several networks (%s): name one with --interface", strings.Join(found, ", "))
}

func firstIPv4(i net.Interface) netip.Addr {
	addrs, err := i.Addrs()
	if err != nil {
		return netip.Addr{}
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			addr, _ := netip.AddrFromSlice(n.IP.To4())
			return addr
		}
	}
	return netip.Addr{}
}
