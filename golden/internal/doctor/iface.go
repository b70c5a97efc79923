package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// ethernetMTU is what firmware counts on (IEEE 802.3, 3.2.7).
const ethernetMTU = 1500

// network looks at the interface that is served, or finds it.
func (e *exam) network() []Finding {
	all, err := net.Interfaces()
	if err != nil {
		return []Finding{{"iface.none", Error, "interfaces", err.Error(), ""}}
	}
	var names, networks []string
	for _, i := range all {
		for _, a := range addresses(i) {
			e.own[a.Addr()] = true
		}
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		names = append(names, i.Name)
		if i.Flags&net.FlagUp != 0 && len(addresses(i)) > 0 {
			networks = append(networks, i.Name)
		}
	}
	if f := e.choose(names, networks); f != nil {
		return []Finding{*f}
	}
	e.ifi, err = net.InterfaceByName(e.Interface)
	if err != nil {
		return []Finding{{"iface.none", Error, e.Interface, "there is no such interface on this machine, only " + strings.Join(names, ", "), "name the one to which the nodes are connected with --interface"}}
	}
	return e.health()
}

// choose settles which interface it is.
func (e *exam) choose(names, networks []string) *Finding {
	if e.Interface != "" {
		return nil
	}
	switch len(networks) {
	case 1:
		e.Interface = networks[0]
		return nil
	case 0:
		return &Finding{"iface.address", Error, strings.Join(names, ", "), "no interface of this machine is up and has an IPv4 address",
			"give the one to which the nodes are connected an address: ip addr add 10.77.0.1/24 brd + dev INTERFACE; ip link set INTERFACE up"}
	}
	return &Finding{"iface.several", Error, strings.Join(networks, ", "), "this machine has several networks, and it isn't said which one the nodes are connected to",
		"name it with --interface"}
}

// health looks at the interface itself.
func (e *exam) health() []Finding {
	i, name := e.ifi, e.ifi.Name
	var out []Finding
	if len(i.HardwareAddr) != 6 {
		e.ifi = nil // nobody can ask or listen there
		return []Finding{{"iface.kind", Error, name, "is no Ethernet interface", "name one with --interface"}}
	}
	if list := addresses(*i); len(list) > 0 {
		e.self = list[0]
		if len(list) > 1 {
			out = append(out, Finding{"iface.addresses", Note, name, fmt.Sprintf("has %d IPv4 addresses; golden-serve uses %v", len(list), e.self), ""})
		}
	} else {
		out = append(out, Finding{"iface.address", Error, name, "has no IPv4 address", fmt.Sprintf("ip addr add 10.77.0.1/24 brd + dev %s", name)})
	}
	if e.DHCP == netboot.DHCPFull && e.self.IsValid() && e.self.Bits() > 29 {
		out = append(out, Finding{"iface.subnet", Error, name, fmt.Sprintf("%v is too small a network to lease addresses in", e.self.Masked()), "give the interface an address with /29 or less, as in 10.77.0.1/24"})
	}
	switch {
	case i.Flags&net.FlagUp == 0:
		out = append(out, Finding{"iface.down", Error, name, "is down", fmt.Sprintf("ip link set %s up", name)})
	case i.Flags&net.FlagRunning == 0:
		out = append(out, Finding{"iface.carrier", Error, name, "has no link: no cable, or nothing at its other end", "look at the cable, the switch port and its light"})
	}
	out = append(out, mtu(name, i.MTU)...)
	if len(out) == 0 {
		out = append(out, Finding{"iface.ok", OK, name, fmt.Sprintf("is up, has a link and %v", e.self), ""})
	}
	return out
}

// mtu compares with what the firmware of the nodes takes.
func mtu(name string, n int) []Finding {
	do := fmt.Sprintf("ip link set %s mtu %d, unless all nodes and the switch have the same", name, ethernetMTU)
	switch {
	case n < 576: // RFC 791: what every host takes
		return []Finding{{"iface.mtu", Error, name, fmt.Sprintf("has an MTU of %d: too small to boot over", n), do}}
	case n < ethernetMTU:
		return []Finding{{"iface.mtu", Warning, name, fmt.Sprintf("has an MTU of %d: frames of nodes, which count on %d, don't get in, and TFTP goes in smaller blocks", n, ethernetMTU), do}}
	case n > ethernetMTU:
		return []Finding{{"iface.mtu", Warning, name, fmt.Sprintf("has an MTU of %d: nodes whose card has %d hear nothing of larger frames", n, ethernetMTU), do}}
	}
	return nil
}

// addresses lists the IPv4 addresses of an interface.
func addresses(i net.Interface) []netip.Prefix {
	list, err := i.Addrs()
	if err != nil {
		return nil
	}
	var out []netip.Prefix
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			out = append(out, p)
		}
	}
	return out
}
