package netboot

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

const (
	dhcpServerPort = 67   // RFC 2131 4.1
	dhcpClientPort = 68   // RFC 2131 4.1
	proxyPort      = 4011 // PXE 2.1, boot server
)

// PXE options that the library has no name for.
const (
	optIPXE        = dhcpv4.GenericOptionCode(175) // encapsulated, ipxe.org/howto/dhcpd
	ipxeNoProxy    = 176                           // its sub-option no-pxedhcp
	pxeDiscovery   = 6                             // sub-option 6 of option 43, PXE 2.1 table 2-1
	pxeUseOffer    = 8                             // its bit 3: no discovery, use the file of this offer
	dhcpMinMaxSize = 548                           // DHCP part of the 576 bytes that every client takes
)

// out is one reply and where it goes.
type out struct {
	msg  *dhcpv4.DHCPv4
	to   netip.AddrPort
	hw   net.HardwareAddr // link address for a packet socket
	bare bool             // to a relay or a configured client: the kernel routes it
	wire []byte           // msg, as it is sent
}

var errNotOurs = errors.New("not for us")

// handleDHCP makes at most one reply to a packet that came to port 67, or to
// port 4011 from an address.
func (s *Server) handleDHCP(b []byte, port uint16, from netip.AddrPort, now time.Time) (*out, error) {
	m, err := dhcpv4.FromBytes(b)
	if err != nil {
		return nil, fmt.Errorf("read DHCP packet of %d bytes: %w", len(b), err)
	}
	if err := s.checkSender(m); err != nil {
		return nil, err
	}
	if err := readOverload(m, b); err != nil {
		return nil, err
	}
	c, archs, netboot := clientOf(m)
	var o *out
	switch {
	case port == proxyPort:
		o, err = s.bootServer(m, c, archs, netboot, from)
	case s.cfg.DHCP == DHCPFull:
		o, err = s.fullDHCP(m, c, archs, netboot, now)
	default:
		o, err = s.proxyDHCP(m, c, archs, netboot)
	}
	if o == nil || err != nil {
		return nil, err
	}
	if to := o.to.Addr(); port == dhcpServerPort && to != netip.AddrFrom4([4]byte{255, 255, 255, 255}) && s.plan.of(to) == nil {
		return nil, errNotOurs // it says that it has an address of another network
	}
	if o.wire, err = encode(m, o.msg); err != nil {
		return nil, err
	}
	return o, nil
}

// checkSender refuses what isn't a request of an Ethernet machine other than
// ourselves.
func (s *Server) checkSender(m *dhcpv4.DHCPv4) error {
	hw := m.ClientHWAddr
	switch {
	case m.OpCode != dhcpv4.OpcodeBootRequest:
		return errNotOurs
	case m.HWType != iana.HWTypeEthernet || len(hw) != 6:
		return errNotOurs
	case hw[0]&1 != 0 || bytes.Equal(hw, make([]byte, 6)): // group address, or none
		return errNotOurs
	}
	own := s.link.own.Load()
	if own.macs[[6]byte(hw)] || own.ips[v4(m.ClientIPAddr)] {
		return errNotOurs
	}
	return nil
}

// clientOf reads who asks, and whether it is firmware that boots.
func clientOf(m *dhcpv4.DHCPv4) (c Client, archs []iana.Arch, netboot bool) {
	c = Client{MAC: m.ClientHWAddr, ClassID: m.ClassIdentifier(), UserClass: string(m.Options.Get(dhcpv4.OptionUserClassInformation))}
	if ip, ok := netip.AddrFromSlice(m.ClientIPAddr.To4()); ok && !ip.IsUnspecified() {
		c.IP = ip
	}
	if b := m.Options.Get(dhcpv4.OptionClientSystemArchitectureType); len(b) > 0 && len(b)%2 == 0 {
		for ; len(b) > 1; b = b[2:] {
			archs = append(archs, iana.Arch(binary.BigEndian.Uint16(b)))
		}
	} else if a, ok := archOfClass(c.ClassID); ok {
		archs = []iana.Arch{a}
	}
	if len(archs) > 0 {
		c.Arch = archs[0]
	}
	id := m.Options.Get(dhcpv4.OptionClientMachineIdentifier)
	idOK := len(id) == 0 || (len(id) == 17 && id[0] == 0) // RFC 4578 2.3
	if len(id) == 17 {
		c.UUID = uuidText([16]byte(id[1:]))
	}
	class := strings.HasPrefix(c.ClassID, "PXEClient") || strings.HasPrefix(c.ClassID, "HTTPClient")
	if isEtherboot(c.ClassID) {
		class = true
		archs = []iana.Arch{iana.INTEL_X86PC} // it knows no other
		c.Arch = archs[0]
	}
	return c, archs, class && len(archs) > 0 && idOK
}

// uuidText prints an SMBIOS UUID: its first three fields are little-endian
// (SMBIOS 2.6, 7.2.1). All zero means that the board has none.
func uuidText(u [16]byte) string {
	if u == [16]byte{} {
		return ""
	}
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(u[:]),
		binary.LittleEndian.Uint16(u[4:]), binary.LittleEndian.Uint16(u[6:]), u[8:10], u[10:])
}

// isIPXE tells iPXE by its user class, which some versions send bare and
// some with the length byte of RFC 3004.
func (c Client) isIPXE() bool { return strings.HasSuffix(c.UserClass, "iPXE") }

// bootOptions adds what makes firmware load our boot file. It says no if
// this machine is to hear nothing, or nothing can be served for it.
func (s *Server) bootOptions(reply, m *dhcpv4.DHCPv4, c Client, archs []iana.Arch) bool {
	if s.decideOffer(c) == Silent {
		return false
	}
	o, why := s.offerFor(c, archs, ipxeHasHTTP(m.Options.Get(optIPXE)))
	if why != "" {
		if s.noFile.now(time.Now()) {
			s.cfg.Log.Warn("no boot file for this firmware", "mac", c.MAC, "arch", c.Arch, "class", c.ClassID, "why", why)
		}
		s.emit(Event{MAC: c.MAC, IP: c.IP, What: "no boot file for this firmware", Name: c.Arch.String()})
		return false
	}
	self := s.link.self.Addr()
	reply.ServerIPAddr = self.AsSlice()
	reply.ServerHostName = self.String()
	reply.BootFileName = o.file
	reply.UpdateOption(dhcpv4.OptTFTPServerName(self.String()))
	if o.file != "" {
		reply.UpdateOption(dhcpv4.OptBootFileName(o.file))
	}
	reply.UpdateOption(dhcpv4.OptClassIdentifier(o.class))
	if o.useOffer {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, []byte{pxeDiscovery, 1, pxeUseOffer, 255}))
	}
	if o.prefix != "" || o.config != "" {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionPXELinuxMagicString, []byte{0xf1, 0x00, 0x74, 0x7e})) // RFC 5071 3
	}
	if o.prefix != "" {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionPXELinuxPathPrefix, []byte(o.prefix)))
	}
	if o.config != "" {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionPXELinuxConfigFile, []byte(o.config)))
	}
	if id := m.Options.Get(dhcpv4.OptionClientMachineIdentifier); len(id) == 17 {
		reply.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionClientMachineIdentifier, id))
	}
	// Saves iPXE the three seconds in which it waits for a proxy. As a proxy
	// we are the one it waits for.
	if c.isIPXE() && s.cfg.DHCP == DHCPFull {
		reply.UpdateOption(dhcpv4.OptGeneric(optIPXE, []byte{ipxeNoProxy, 1, 1}))
	}
	return true
}

// replyTo starts a reply of ours. Written out, for the library's own draws a
// random number for each and takes a sixth of the time of an answer.
func (s *Server) replyTo(m *dhcpv4.DHCPv4, t dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	none := net.IPv4zero
	r := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: m.HWType, TransactionID: m.TransactionID, Flags: m.Flags, ClientHWAddr: m.ClientHWAddr,
		ClientIPAddr: none, YourIPAddr: none, ServerIPAddr: none, GatewayIPAddr: m.GatewayIPAddr, Options: dhcpv4.Options{},
	}
	// RFC 3046 2.2 and RFC 6842 3: the same again.
	for _, code := range []dhcpv4.OptionCode{dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientIdentifier} {
		if m.Options.Has(code) {
			r.UpdateOption(dhcpv4.OptGeneric(code, m.Options.Get(code)))
		}
	}
	r.UpdateOption(dhcpv4.OptMessageType(t))
	r.UpdateOption(dhcpv4.OptServerIdentifier(s.link.self.Addr().AsSlice()))
	return r
}

// address chooses the way back (RFC 2131 4.1).
func (s *Server) address(m, r *dhcpv4.DHCPv4) *out {
	all := netip.AddrFrom4([4]byte{255, 255, 255, 255})
	if gi, ok := netip.AddrFromSlice(m.GatewayIPAddr.To4()); ok && !gi.IsUnspecified() {
		return &out{msg: r, to: netip.AddrPortFrom(gi, dhcpServerPort), bare: true}
	}
	bcast := &out{msg: r, to: netip.AddrPortFrom(all, dhcpClientPort), hw: broadcastMAC()}
	if r.MessageType() == dhcpv4.MessageTypeNak {
		return bcast
	}
	if ci := v4(m.ClientIPAddr); ci.IsValid() {
		far := !s.link.self.Contains(ci) // a router is between us
		return &out{msg: r, to: netip.AddrPortFrom(ci, dhcpClientPort), hw: m.ClientHWAddr, bare: far}
	}
	yi, ok := netip.AddrFromSlice(r.YourIPAddr.To4())
	if m.IsBroadcast() || !ok || yi.IsUnspecified() {
		return bcast
	}
	return &out{msg: r, to: netip.AddrPortFrom(yi, dhcpClientPort), hw: m.ClientHWAddr}
}
