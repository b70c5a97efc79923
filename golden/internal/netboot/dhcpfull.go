package netboot

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// fullDHCP is the subnet's DHCP server: addresses for every machine, boot
// information for firmware.
func (s *Server) fullDHCP(m *dhcpv4.DHCPv4, c Client, archs []iana.Arch, netboot bool, now time.Time) (*out, error) {
	if gi, ok := netip.AddrFromSlice(m.GatewayIPAddr.To4()); ok && !gi.IsUnspecified() && !s.link.self.Contains(gi) {
		return nil, errNotOurs // a relay of a subnet for which we have no pool
	}
	mac := [6]byte(m.ClientHWAddr)
	wanted := v4(m.RequestedIPAddress())
	var ip netip.Addr
	var t dhcpv4.MessageType
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		got, ok := s.leases.offer(mac, wanted, now)
		if !ok {
			s.cfg.Log.Warn("no free address", "mac", c.MAC, "from", s.leases.plan.from, "to", s.leases.plan.to)
			return nil, nil
		}
		ip, t = got, dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		got, ok := s.request(m, mac, wanted, now)
		if !got.IsValid() {
			return nil, nil
		}
		ip, t = got, dhcpv4.MessageTypeAck
		if !ok {
			return s.refuse(m, got)
		}
	case dhcpv4.MessageTypeInform:
		t = dhcpv4.MessageTypeAck
	case dhcpv4.MessageTypeDecline:
		s.cfg.Log.Warn("address is used by another machine", "ip", wanted, "mac", c.MAC)
		s.leases.decline(mac, wanted, now)
		return nil, nil
	case dhcpv4.MessageTypeRelease:
		s.leases.release(mac, c.IP, now)
		return nil, nil
	default: // BOOTP, or what only a server says
		return nil, nil
	}
	return s.leaseReply(m, c, archs, netboot, ip, t)
}

// request decides on a REQUEST in each of its states (RFC 2131 4.3.2). An
// invalid address means no reply, false means NAK.
func (s *Server) request(m *dhcpv4.DHCPv4, mac [6]byte, wanted netip.Addr, now time.Time) (netip.Addr, bool) {
	if id := v4(m.ServerIdentifier()); id.IsValid() && id != s.link.self.Addr() {
		s.leases.forget(mac)
		s.cfg.Log.Warn("a machine chose another DHCP server", "mac", m.ClientHWAddr, "server", id)
		return netip.Addr{}, false
	}
	ip := wanted
	if !ip.IsValid() {
		ip = v4(m.ClientIPAddr) // RENEWING, REBINDING
	}
	if !ip.IsValid() {
		return ip, false
	}
	ok, err := s.leases.confirm(mac, ip, now)
	if err := errors.Join(err, s.leases.compact()); err != nil {
		// The lease holds in memory: a full disk mustn't stop the network.
		s.cfg.Log.Error("lease not kept", "mac", m.ClientHWAddr, "ip", ip, "err", err)
	}
	return ip, ok
}

func (s *Server) refuse(m *dhcpv4.DHCPv4, ip netip.Addr) (*out, error) {
	s.cfg.Log.Info("address refused", "mac", m.ClientHWAddr, "ip", ip)
	r, err := s.replyTo(m, dhcpv4.MessageTypeNak)
	if err != nil {
		return nil, err
	}
	if v4(m.GatewayIPAddr).IsValid() {
		r.SetBroadcast() // RFC 2131 4.3.2: so that the relay broadcasts it
	}
	return address(m, r), nil
}

func (s *Server) leaseReply(m *dhcpv4.DHCPv4, c Client, archs []iana.Arch, netboot bool, ip netip.Addr, t dhcpv4.MessageType) (*out, error) {
	r, err := s.replyTo(m, t)
	if err != nil {
		return nil, err
	}
	if ip.IsValid() {
		c.IP = ip
		r.YourIPAddr = ip.AsSlice()
		r.ClientIPAddr = m.ClientIPAddr
		for _, o := range leaseTimes(s.leases.term) {
			r.UpdateOption(o)
		}
	}
	for _, o := range s.subnetOptions() {
		r.UpdateOption(o)
	}
	event := map[dhcpv4.MessageType]string{dhcpv4.MessageTypeOffer: "address offered", dhcpv4.MessageTypeAck: "address"}[t]
	if netboot {
		s.seen.put(c)
		if s.bootOptions(r, m, c, archs) && t == dhcpv4.MessageTypeOffer {
			event = "offer"
		}
	}
	if len(r.ToBytes()) > dhcpMinMaxSize {
		r.Options.Del(dhcpv4.OptionDomainName) // the one long option that no firmware needs
	}
	s.emit(Event{MAC: c.MAC, IP: c.IP, What: event, Name: r.BootFileName})
	return address(m, r), nil
}

func leaseTimes(d time.Duration) []dhcpv4.Option {
	return []dhcpv4.Option{
		dhcpv4.OptIPAddressLeaseTime(d),
		dhcpv4.OptRenewTimeValue(d / 2),         // RFC 2131 4.4.5
		dhcpv4.OptRebindingTimeValue(d * 7 / 8), // RFC 2131 4.4.5
	}
}

func (s *Server) subnetOptions() []dhcpv4.Option {
	self := s.link.self
	out := []dhcpv4.Option{
		dhcpv4.OptSubnetMask(net.CIDRMask(self.Bits(), 32)),
		dhcpv4.OptBroadcastAddress(broadcastOf(self).AsSlice()),
	}
	if s.cfg.Router.IsValid() {
		out = append(out, dhcpv4.OptRouter(s.cfg.Router.AsSlice()))
	}
	if len(s.cfg.DNS) > 0 {
		var ips []net.IP
		for _, a := range s.cfg.DNS {
			ips = append(ips, a.AsSlice())
		}
		out = append(out, dhcpv4.OptDNS(ips...))
	}
	if s.cfg.Domain != "" {
		out = append(out, dhcpv4.OptDomainName(s.cfg.Domain))
	}
	return out
}

// v4 is the address, or an invalid one for "none" and 0.0.0.0.
func v4(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
