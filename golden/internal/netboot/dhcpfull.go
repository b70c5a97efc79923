package netboot

import (
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// fullDHCP is the network's DHCP server, and that of networks behind relays:
// addresses for every machine, boot information for firmware.
func (s *Server) fullDHCP(m *dhcpv4.DHCPv4, c Client, archs []iana.Arch, netboot bool, now time.Time) (*out, error) {
	n := s.subnetOf(m)
	if n == nil {
		return nil, errNotOurs // a relay of a network that nobody told us about
	}
	a := asker{mac: [6]byte(m.ClientHWAddr), net: n, known: netboot && s.decideOffer(c) == BootImage}
	wanted := v4(m.RequestedIPAddress())
	var ip netip.Addr
	var t dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		got, ok := s.leases.offer(a, wanted, now)
		if !ok {
			if s.noAddress.now(now) {
				s.cfg.Log.Warn("no free address", "mac", c.MAC, "from", n.from, "to", n.to, "known", a.known)
			}
			return nil, nil
		}
		ip, t = got, dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		got, ok := s.request(m, a, wanted, now)
		if !got.IsValid() {
			return nil, nil
		}
		ip, t = got, dhcpv4.MessageTypeAck
		if !ok && !s.mayRefuse(m, a, got) {
			return nil, nil
		}
		if !ok {
			return s.refuse(m, got), nil
		}
	case dhcpv4.MessageTypeInform:
		t = dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeDecline:
		s.cfg.Log.Warn("address is used by another machine", "ip", wanted, "mac", c.MAC)
		s.leases.decline(a, wanted, now)
		return nil, nil
	case dhcpv4.MessageTypeRelease:
		s.leases.release(a.mac, c.IP, now)
		return nil, nil
	default:
		fixed, ok := s.leases.fixed(a)
		if !ok || !bootp(m) {
			return nil, nil // what only a server says
		}
		ip = fixed
	}
	return s.leaseReply(m, c, archs, netboot, n, ip, t), nil
}

// subnetOf is the network that a request came from: the relay's, that of a
// machine behind a relay that renews its lease without it, or else ours. nil:
// none that we serve.
func (s *Server) subnetOf(m *dhcpv4.DHCPv4) *subnet {
	own := s.plan.subnets[0]
	if gi := v4(m.GatewayIPAddr); gi.IsValid() {
		n := s.plan.of(gi)
		if n == nil || gi == own.prefix.Addr() || usable(n.prefix, gi) != nil {
			return nil // would make us send to whom a stranger names
		}
		return n
	}
	if n := s.plan.of(v4(m.ClientIPAddr)); n != nil {
		return n
	}
	return own
}

// request decides on a REQUEST in each of its states (RFC 2131 4.3.2). An
// invalid address means no reply, false means NAK.
func (s *Server) request(m *dhcpv4.DHCPv4, a asker, wanted netip.Addr, now time.Time) (netip.Addr, bool) {
	if id := v4(m.ServerIdentifier()); id.IsValid() && id != s.link.self.Addr() {
		s.leases.forget(a.mac)
		if s.chosen.now(now) {
			s.cfg.Log.Warn("a machine chose another DHCP server", "mac", m.ClientHWAddr, "server", id)
		}
		return netip.Addr{}, false
	}
	ip := wanted
	if !ip.IsValid() {
		ip = v4(m.ClientIPAddr) // RENEWING, REBINDING
	}
	if !ip.IsValid() {
		return ip, false
	}
	ok := s.leases.confirm(a, ip, now)
	if err := s.leases.flush(); err != nil {
		// The lease holds in memory: a full disk mustn't stop the network.
		s.cfg.Log.Error("lease not kept", "mac", m.ClientHWAddr, "ip", ip, "err", err)
	}
	return ip, ok
}

// mayRefuse says whether an address is ours to refuse. Beside another server
// (--force) it may be one of that server's: who has no record of a client stays
// silent (RFC 2131 4.3.2), unless it asks us, or the address is wrong whoever
// gave it.
func (s *Server) mayRefuse(m *dhcpv4.DHCPv4, a asker, ip netip.Addr) bool {
	if !s.cfg.Force || v4(m.ServerIdentifier()).IsValid() || !a.net.prefix.Contains(ip) {
		return true
	}
	mac, ok := s.leases.holder(ip)
	return ok && mac != a.mac
}

func (s *Server) refuse(m *dhcpv4.DHCPv4, ip netip.Addr) *out {
	if s.refused.now(time.Now()) {
		s.cfg.Log.Info("address refused", "mac", m.ClientHWAddr, "ip", ip)
	}
	r := s.replyTo(m, dhcpv4.MessageTypeNak)
	if v4(m.GatewayIPAddr).IsValid() {
		r.SetBroadcast() // RFC 2131 4.3.2: so that the relay broadcasts it
	}
	return s.address(m, r)
}

// leaseReply makes the answer to a machine of this network. Without a type
// it is one of BOOTP, for ever and without options of DHCP.
func (s *Server) leaseReply(m *dhcpv4.DHCPv4, c Client, archs []iana.Arch, netboot bool, n *subnet, ip netip.Addr, t dhcpv4.MessageType) *out {
	r := s.replyTo(m, t)
	if ip.IsValid() {
		c.IP = ip
		r.YourIPAddr = ip.AsSlice()
	}
	r.ClientIPAddr = m.ClientIPAddr // RFC 2131 table 3: also in the answer to an INFORM
	if t == dhcpv4.MessageTypeNone {
		r.Options.Del(dhcpv4.OptionDHCPMessageType)
		r.Options.Del(dhcpv4.OptionServerIdentifier)
	} else if ip.IsValid() {
		for _, o := range leaseTimes(s.leases.term) {
			r.UpdateOption(o)
		}
	}
	for _, o := range s.subnetOptions(m, n) {
		r.UpdateOption(o)
	}
	event := map[dhcpv4.MessageType]string{dhcpv4.MessageTypeOffer: "address offered", dhcpv4.MessageTypeAck: "address", dhcpv4.MessageTypeNone: "address"}[t]
	if netboot && s.bootInfo(r, m, c, archs) && t == dhcpv4.MessageTypeOffer {
		event = "offer"
	}
	s.emit(Event{MAC: c.MAC, IP: c.IP, What: event, Name: r.BootFileName})
	return s.address(m, r)
}

// bootInfo adds what makes firmware boot, and remembers the machine.
func (s *Server) bootInfo(r, m *dhcpv4.DHCPv4, c Client, archs []iana.Arch) bool {
	as := c
	if isEtherboot(c.ClassID) {
		as.ClassID = "PXEClient"
	}
	ok := s.bootOptions(r, m, as, archs)
	s.seen.put(c, ok)
	if !ok {
		return false
	}
	pxelinuxOptions(r, archs)
	if isEtherboot(c.ClassID) {
		etherbootOptions(r, c.ClassID)
	}
	return true
}
