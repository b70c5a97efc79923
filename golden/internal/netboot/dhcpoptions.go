package netboot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"
)

// Options of PXELINUX (RFC 5071), as in the dhcpd.conf of the old manuals.
const (
	optPXELinuxMagic  = dhcpv4.GenericOptionCode(208)
	optPXELinuxReboot = dhcpv4.GenericOptionCode(211)
	pxelinuxReboot    = 30 // seconds until a machine that found nothing tries again
)

// Where a request holds file and sname, which may have options in them (RFC
// 2131 2, RFC 2132 9.3).
const (
	snameFrom, snameTo = 44, 108
	fileFrom, fileTo   = 108, 236
)

var errOverload = errors.New("option 52 (overload)")

// readOverload adds the options that a request has put into file and sname.
// One that says so and has none there is refused.
func readOverload(m *dhcpv4.DHCPv4, b []byte) error {
	how := m.Options.Get(dhcpv4.OptionOptionOverload)
	if how == nil {
		return nil
	}
	if len(how) != 1 || how[0] < 1 || how[0] > 3 || len(b) < fileTo {
		return fmt.Errorf("%w: value %x", errOverload, how)
	}
	where := how[0]
	if where&1 != 0 { // file comes first (RFC 3396 5)
		if err := m.Options.FromBytes(b[fileFrom:fileTo]); err != nil {
			return fmt.Errorf("%w in file: %w", errOverload, err)
		}
	}
	if where&2 != 0 {
		if err := m.Options.FromBytes(b[snameFrom:snameTo]); err != nil {
			return fmt.Errorf("%w in sname: %w", errOverload, err)
		}
	}
	return nil
}

// bootp says whether a request is one of before DHCP: it has no option 53 at
// all (RFC 1534).
func bootp(m *dhcpv4.DHCPv4) bool { return !m.Options.Has(dhcpv4.OptionDHCPMessageType) }

// subnetOptions are those of the network. What is not needed to reach the
// others is sent to who asked for it, or asked for nothing.
func (s *Server) subnetOptions(m *dhcpv4.DHCPv4, n *subnet) []dhcpv4.Option {
	list := m.ParameterRequestList()
	asked := func(c dhcpv4.OptionCode) bool { return len(list) == 0 || list.Has(c) }
	out := []dhcpv4.Option{dhcpv4.OptSubnetMask(net.CIDRMask(n.prefix.Bits(), 32))}
	if n.router.IsValid() {
		out = append(out, dhcpv4.OptRouter(n.router.AsSlice()))
	}
	if asked(dhcpv4.OptionBroadcastAddress) {
		out = append(out, dhcpv4.OptBroadcastAddress(broadcastOf(n.prefix).AsSlice()))
	}
	if len(s.cfg.DNS) > 0 && asked(dhcpv4.OptionDomainNameServer) {
		var ips []net.IP
		for _, a := range s.cfg.DNS {
			ips = append(ips, a.AsSlice())
		}
		out = append(out, dhcpv4.OptDNS(ips...))
	}
	if s.cfg.Domain != "" && asked(dhcpv4.OptionDomainName) {
		out = append(out, dhcpv4.OptDomainName(s.cfg.Domain))
	}
	if name := s.leases.plan.names[[6]byte(m.ClientHWAddr)]; name != "" && asked(dhcpv4.OptionHostName) {
		out = append(out, dhcpv4.OptHostName(name))
	}
	return out
}

func leaseTimes(d time.Duration) []dhcpv4.Option {
	return []dhcpv4.Option{
		dhcpv4.OptIPAddressLeaseTime(d),
		dhcpv4.OptRenewTimeValue(d / 2),         // RFC 2131 4.4.5
		dhcpv4.OptRebindingTimeValue(d * 7 / 8), // RFC 2131 4.4.5
	}
}

// pxelinuxOptions are for a BIOS, whose loader is PXELINUX. Those of before
// 3.55 want the magic number in each answer that has 209 to 211.
func pxelinuxOptions(r *dhcpv4.DHCPv4, archs []iana.Arch) {
	if slices.Contains(archs, iana.INTEL_X86PC) {
		r.UpdateOption(dhcpv4.OptGeneric(optPXELinuxMagic, []byte{0xf1, 0x00, 0x74, 0x7e}))
		r.UpdateOption(dhcpv4.OptGeneric(optPXELinuxReboot, []byte{0, 0, 0, pxelinuxReboot}))
	}
}

// etherboot is the class of iPXE's grandparent, which boots what a BIOS does.
const etherboot = "Etherboot"

func isEtherboot(class string) bool { return strings.HasPrefix(class, etherboot) }

// etherbootOptions say that an answer is meant for Etherboot: its own class,
// and its name in option 43 (the dhcpd.conf of the old manuals).
func etherbootOptions(r *dhcpv4.DHCPv4, class string) {
	r.UpdateOption(dhcpv4.OptClassIdentifier(class))
	mark := append([]byte{dhcpv4.OptionClassIdentifier.Code(), byte(len(etherboot))}, etherboot...)
	r.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionVendorSpecificInformation, append(mark, 255)))
}

// dispensable are what a reply can do without, the first to go first.
var dispensable = []dhcpv4.OptionCode{
	dhcpv4.OptionDomainName, dhcpv4.OptionHostName, optPXELinuxReboot, optPXELinuxMagic, dhcpv4.OptionBroadcastAddress,
	dhcpv4.OptionRenewTimeValue, dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionDomainNameServer,
}

// encode writes a reply in as many bytes as the client takes: those of its
// option 57, else those that every client takes.
func encode(m, r *dhcpv4.DHCPv4) ([]byte, error) {
	limit := dhcpMinMaxSize
	if max, err := m.MaxMessageSize(); err == nil {
		// It counts the IP and UDP headers, as its least value of 576 does
		// (RFC 2132 9.10).
		limit = min(maxDatagram, int(max)-ipHeaderLen-udpHeaderLen)
	}
	limit = max(limit, dhcpMinMaxSize)
	b := r.ToBytes()
	for _, code := range dispensable {
		if len(b) <= limit {
			break
		}
		if r.Options.Has(code) {
			r.Options.Del(code)
			b = r.ToBytes()
		}
	}
	if len(b) > maxDatagram {
		return nil, fmt.Errorf("reply of %d bytes to %v: at most %d", len(b), m.ClientHWAddr, maxDatagram)
	}
	return b, nil
}

// v4 is the address, or an invalid one for "none" and 0.0.0.0.
func v4(ip net.IP) netip.Addr {
	a, ok := netip.AddrFromSlice(ip.To4())
	if !ok || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
