package netboot

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

// FuzzRelayed sends bytes by relays: whatever they say, the answer goes to a
// network that is served, within what a packet holds, and addresses are of
// the network that the relay is in.
func FuzzRelayed(f *testing.F) {
	for _, typ := range []dhcpv4.MessageType{1, 3, 4, 7, 8} {
		for _, gi := range []string{"0.0.0.0", relayIP, "10.77.0.9", "8.8.8.8", "255.255.255.255"} {
			m := pxe(f, typ, dhcpv4.WithGeneric(dhcpv4.OptionRelayAgentInformation, []byte{1, 2, 'p', '7'}),
				dhcpv4.WithGeneric(dhcpv4.OptionOptionOverload, []byte{3}), dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 79, 0, 101))))
			b := m.ToBytes()
			copy(b[fileFrom:], "\x3c\x09PXEClient\xff")
			copy(b[snameFrom:], "\x39\x02\x02\x40\xff")
			a := addr(gi).As4()
			f.Add(b, a[:], byte(1))
		}
	}
	full, proxy := offWire(f, DHCPFull, func(c Client) Answer { return Answer(c.MAC[5] % 3) }), offWire(f, DHCPProxy, nil2local)
	now := time.Now()
	f.Fuzz(func(t *testing.T, b, relay []byte, mac byte) {
		if len(b) > 34 && len(relay) == 4 {
			b = bytes.Clone(b)
			copy(b[24:28], relay)
			b[33] = mac
		}
		for _, s := range []*Server{full, proxy} {
			now = now.Add(100 * time.Millisecond)
			o, err := s.handleDHCP(b, dhcpServerPort, netip.AddrPort{}, now)
			if o == nil {
				continue
			}
			if err != nil || len(o.wire) > maxDatagram {
				t.Errorf("reply of %d bytes, %v", len(o.wire), err)
			}
			to := o.to.Addr()
			if to != addr("255.255.255.255") && s.plan.of(to) == nil || to == s.link.self.Addr() {
				t.Errorf("sent to %v", o.to)
			}
			ip, gi := v4(o.msg.YourIPAddr), v4(o.msg.GatewayIPAddr)
			if ip.IsValid() && gi.IsValid() && s.plan.of(ip) != s.plan.of(gi) {
				t.Errorf("%v for a machine behind %v", ip, gi)
			}
			if _, err := dhcpv4.FromBytes(o.wire); err != nil {
				t.Errorf("the reply can't be read: %v", err)
			}
		}
		strangers := 0
		for _, l := range full.leases.byMAC {
			if l.counted != nil {
				strangers++
			}
		}
		n := 0
		for _, s := range full.plan.subnets {
			n += s.strangers
			if s.strangers < 0 || s.strangers > s.size() {
				t.Errorf("%d strangers in %v", s.strangers, s.prefix)
			}
		}
		if n != strangers || len(full.leases.byMAC) != len(full.leases.byIP) {
			t.Errorf("%d strangers counted, there are %d; %d machines with %d addresses", n, strangers, len(full.leases.byMAC), len(full.leases.byIP))
		}
	})
}

// FuzzFixed reads any list of machines.
func FuzzFixed(f *testing.F) {
	f.Add("52:54:00:77:00:01 10.77.0.7 n1 # first\n52:54:00:77:00:02 - n2\n", "10.1.0.0/24,10.1.0.10-10.1.0.99,10.1.0.254")
	f.Add("x", "10.1.0.0/24,,")
	f.Fuzz(func(t *testing.T, list, net string) {
		fixed, names, err := ReadFixed(strings.NewReader(list))
		n, nerr := ParseSubnet(net)
		c := Config{DHCP: DHCPFull, Fixed: fixed, Names: names}
		if nerr == nil {
			c.Subnets = []Subnet{n}
		}
		if err != nil {
			return
		}
		p, err := c.plan(prefix("10.77.0.1/24"))
		if err != nil {
			return
		}
		for mac, ip := range p.fixed {
			if p.of(ip) == nil || p.owner[ip] != mac {
				t.Errorf("%v has %v", mac, ip)
			}
		}
		for _, s := range p.subnets {
			if s.size() < 1 || !s.prefix.Contains(s.from) || !s.prefix.Contains(s.to) {
				t.Errorf("%v: %v to %v", s.prefix, s.from, s.to)
			}
		}
	})
}
