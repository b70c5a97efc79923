package netboot

import (
	"net/netip"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// proxyDHCP answers firmware beside another DHCP server: boot information,
// never an address (PXE 2.1, proxyDHCP). A REQUEST on port 67 is the other
// server's.
func (s *Server) proxyDHCP(m *dhcpv4.DHCPv4, c Client, archs []iana.Arch, netboot bool) (*out, error) {
	if !netboot || m.MessageType() != dhcpv4.MessageTypeDiscover || s.subnetOf(m) == nil {
		return nil, nil
	}
	r := s.replyTo(m, dhcpv4.MessageTypeOffer)
	if !s.bootInfo(r, m, c, archs) {
		return nil, nil
	}
	s.emit(Event{MAC: c.MAC, What: "offer", Name: r.BootFileName})
	return s.address(m, r), nil
}

// bootServer answers on port 4011, where firmware asks that has its address
// already. The answer goes back to where the request came from.
func (s *Server) bootServer(m *dhcpv4.DHCPv4, c Client, archs []iana.Arch, netboot bool, from netip.AddrPort) (*out, error) {
	t := m.MessageType()
	if !netboot || (t != dhcpv4.MessageTypeRequest && t != dhcpv4.MessageTypeInform) {
		return nil, nil
	}
	if !s.mayAsk(from.Addr()) || s.link.own.Load().ips[from.Addr()] {
		return nil, errNotOurs
	}
	if !c.IP.IsValid() {
		c.IP = from.Addr()
	}
	r := s.replyTo(m, dhcpv4.MessageTypeAck)
	if !s.bootInfo(r, m, c, archs) {
		return nil, nil
	}
	r.ClientIPAddr = m.ClientIPAddr
	s.emit(Event{MAC: c.MAC, IP: c.IP, What: "boot server answer", Name: r.BootFileName})
	return &out{msg: r, to: from, bare: true}, nil
}
