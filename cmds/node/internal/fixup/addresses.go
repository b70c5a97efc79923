package fixup

import (
	"net"
	"net/netip"
	"strconv"

	"github.com/kamethod/kamethod/golden/wire"
)

func itoa(n int) string { return strconv.Itoa(n) }

func isMAC(s string) bool {
	hw, err := net.ParseMAC(s)
	return err == nil && len(hw) == 6
}

func isFour(addr string) bool {
	a, err := netip.ParseAddr(addr)
	return err == nil && a.Is4()
}

// familyOf are a network's IPv4 or IPv6 addresses, with their lengths.
func familyOf(n wire.Network, four bool) []string {
	var out []string
	for _, s := range n.Addresses {
		if p, err := netip.ParsePrefix(s); err == nil && p.Addr().Is4() == four {
			out = append(out, p.String())
		}
	}
	return out
}

// withGateway keeps golden's gateway where the nodes file has none and the
// node's own address reaches it: one cluster has one way out.
func withGateway(n wire.Network, golden string, four bool) wire.Network {
	a, err := netip.ParseAddr(golden)
	if n.Gateway != "" || err != nil || a.Is4() != four {
		return n
	}
	if reaches(n)(netip.PrefixFrom(a, a.BitLen())) {
		n.Gateway = golden
	}
	return n
}

// netmask is what is written where a prefix length isn't known: 255.255.255.0.
func netmask(p netip.Prefix) string {
	return net.IP(net.CIDRMask(p.Bits(), 32)).String()
}

// prefixOf joins an address and a mask or a prefix length; one without any is
// alone in its network.
func prefixOf(addr, mask string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(addr); err == nil {
		return p, true
	}
	a, err := netip.ParseAddr(addr)
	if err != nil {
		return netip.Prefix{}, false
	}
	bits := a.BitLen()
	if n, err := strconv.Atoi(mask); err == nil && n >= 0 && n <= bits {
		bits = n
	} else if m := net.ParseIP(mask).To4(); m != nil && a.Is4() {
		if n, size := net.IPMask(m).Size(); size > 0 {
			bits = n
		}
	}
	return netip.PrefixFrom(a, bits), true
}
