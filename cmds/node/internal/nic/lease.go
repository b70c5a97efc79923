// Package nic brings a node onto the network: it finds the interface that
// booted, waits for its link, gets a lease by DHCP, sets what the lease says
// and keeps it. It does no IPv6 and no static addresses, and it doesn't look
// for the golden node.
//
//	BOOTIF, interface: ──▶ candidates ──▶ carrier ──▶ DHCP ──▶ address, route, resolv.conf
//	                          ▲              │none       │none          │
//	                          └── next one ──┴───────────┘              └──▶ Keep: renew at T1
package nic

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// Lease is what a DHCP server granted.
type Lease struct {
	Interface  string        `json:"interface"`
	MAC        string        `json:"mac"`
	Addr       netip.Prefix  `json:"addr"`
	Router     netip.Addr    `json:"router"`
	DNS        []netip.Addr  `json:"dns,omitempty"`
	Domain     string        `json:"domain,omitempty"`
	ServerID   netip.Addr    `json:"server_id"`   // who granted it
	NextServer netip.Addr    `json:"next_server"` // siaddr, else option 66: who has the boot files
	Hostname   string        `json:"hostname,omitempty"`
	Duration   time.Duration `json:"duration"`
	Acquired   time.Time     `json:"acquired"`
	Raw        []byte        `json:"raw"` // the DHCPACK, for renewing and for options not named here
}

// infinite is the lease time without end, RFC 2131, 3.3.
const infinite = 0xffffffff * time.Second

// defaultDuration is for a server that names no lease time although RFC 2131
// says it must.
const defaultDuration = time.Hour

// leaseOf reads a DHCPACK.
func leaseOf(ifName string, mac net.HardwareAddr, ack *dhcpv4.DHCPv4, now time.Time) (*Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || addr.IsUnspecified() {
		return nil, fmt.Errorf("dhcp answer has no address")
	}
	bits := defaultBits(addr)
	if m := ack.SubnetMask(); m != nil {
		ones, size := m.Size()
		if size != 32 || ones == 0 {
			return nil, fmt.Errorf("dhcp answer has the impossible netmask %s", net.IP(m))
		}
		bits = ones
	}
	l := &Lease{
		Interface: ifName,
		MAC:       mac.String(),
		Addr:      netip.PrefixFrom(addr, bits),
		Domain:    printable(ack.DomainName()),
		ServerID:  addrOf(ack.ServerIdentifier()),
		Hostname:  printable(ack.HostName()),
		Duration:  ack.IPAddressLeaseTime(defaultDuration),
		Acquired:  now,
		Raw:       ack.ToBytes(),
	}
	if r := ack.Router(); len(r) > 0 {
		l.Router = addrOf(r[0])
	}
	for _, ip := range ack.DNS() {
		if a := addrOf(ip); a.IsValid() {
			l.DNS = append(l.DNS, a)
		}
	}
	l.NextServer = addrOf(ack.ServerIPAddr)
	if !l.NextServer.IsValid() {
		if a, err := netip.ParseAddr(ack.TFTPServerName()); err == nil {
			l.NextServer = a
		}
	}
	return l, nil
}

// renewAt and rebindAt are T1 and T2, RFC 2131, 4.4.5.
func (l *Lease) renewAt() time.Time {
	return l.Acquired.Add(l.option(dhcpv4.OptionRenewTimeValue, l.Duration/2))
}

func (l *Lease) rebindAt() time.Time {
	return l.Acquired.Add(l.option(dhcpv4.OptionRebindingTimeValue, l.Duration/8*7))
}

func (l *Lease) expires() time.Time { return l.Acquired.Add(l.Duration) }

func (l *Lease) option(code dhcpv4.OptionCode, otherwise time.Duration) time.Duration {
	ack, err := dhcpv4.FromBytes(l.Raw)
	if err != nil {
		return otherwise
	}
	var d dhcpv4.Duration
	if b := ack.Options.Get(code); b == nil || d.FromBytes(b) != nil {
		return otherwise
	}
	if t := time.Duration(d); t > 0 && t <= l.Duration {
		return t
	}
	return otherwise
}

// Lines are the lease for a person to read.
func (l *Lease) Lines() []string {
	lines := []string{fmt.Sprintf("interface %s, %s", l.Interface, l.MAC), fmt.Sprintf("address %s", l.Addr)}
	add := func(what string, a netip.Addr) {
		if a.IsValid() {
			lines = append(lines, what+" "+a.String())
		}
	}
	add("router", l.Router)
	for _, a := range l.DNS {
		add("name server", a)
	}
	add("granted by", l.ServerID)
	add("boot server", l.NextServer)
	if l.Hostname != "" {
		lines = append(lines, "host name "+l.Hostname)
	}
	if l.Duration == infinite {
		return append(lines, "for ever")
	}
	return append(lines, "for "+l.Duration.String())
}

func (l *Lease) String() string {
	s := fmt.Sprintf("lease %s on %s from %s", l.Addr, l.Interface, l.ServerID)
	if l.NextServer.IsValid() {
		s += ", boot server " + l.NextServer.String()
	}
	return s
}

// addrOf is ip as a usable IPv4 address, or the zero Addr.
func addrOf(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// defaultBits is the mask of the address's class, for a server that sends
// none (RFC 950).
func defaultBits(a netip.Addr) int {
	b := a.As4()
	ip := net.IP(b[:])
	if m := ip.DefaultMask(); m != nil {
		ones, _ := m.Size()
		return ones
	}
	return 32
}

// printable keeps a server's text from steering a console or a file's lines.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r >= 0x7f {
			return -1
		}
		return r
	}, s)
}
