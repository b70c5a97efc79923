package netboot

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Subnet is a network whose requests reach us through a relay (RFC 1542 4),
// or that may fetch boot files from us. In proxy mode only its Prefix counts.
type Subnet struct {
	Prefix   netip.Prefix
	From, To netip.Addr // pool; zero: the upper half of the network
	Router   netip.Addr // option 3; zero: not sent
}

// maxSubnets is more than any relay has interfaces; each request looks
// through the list.
const maxSubnets = 64

// ParseSubnet reads "10.1.0.0/24,10.1.0.10-10.1.0.99,10.1.0.254": network,
// pool, router. What follows the network may be left out or be empty.
func ParseSubnet(s string) (Subnet, error) {
	var n Subnet
	w := strings.Split(s, ",")
	if len(w) > 3 {
		return n, fmt.Errorf("subnet %q: want NETWORK/BITS,FROM-TO,ROUTER", s)
	}
	w = append(w, "", "")
	p, err := netip.ParsePrefix(strings.TrimSpace(w[0]))
	if err != nil {
		return n, fmt.Errorf("subnet %q: %w", s, err)
	}
	if p != p.Masked() {
		return n, fmt.Errorf("subnet %q: %v has host bits; the network is %v", s, p, p.Masked())
	}
	n.Prefix = p
	if pool := strings.TrimSpace(w[1]); pool != "" {
		from, to, ok := strings.Cut(pool, "-")
		if !ok {
			return n, fmt.Errorf("subnet %q: pool %q: want FROM-TO", s, pool)
		}
		var e1, e2 error
		n.From, e1 = netip.ParseAddr(strings.TrimSpace(from))
		n.To, e2 = netip.ParseAddr(strings.TrimSpace(to))
		if err := errors.Join(e1, e2); err != nil {
			return n, fmt.Errorf("subnet %q: pool %q: %w", s, pool, err)
		}
	}
	if r := strings.TrimSpace(w[2]); r != "" {
		if n.Router, err = netip.ParseAddr(r); err != nil {
			return n, fmt.Errorf("subnet %q: router: %w", s, err)
		}
	}
	return n, nil
}

// subnet is one network that is served, worked out of a Config.
type subnet struct {
	prefix   netip.Prefix // ours with our own address in it, a relay's masked
	from, to netip.Addr   // pool of full mode
	router   netip.Addr

	strangers int // addresses that strangers have; the lease table's
}

// plan is what DHCP works with: the networks, and who has which address for
// ever.
type plan struct {
	subnets []*subnet // the first is that of our interface
	fixed   map[[6]byte]netip.Addr
	owner   map[netip.Addr][6]byte // fixed, the other way round
	names   map[[6]byte]string     // option 12
}

// plan checks networks, pools and fixed addresses against our own address.
func (c Config) plan(self netip.Prefix) (plan, error) {
	p := plan{subnets: []*subnet{{prefix: self, from: c.RangeFrom, to: c.RangeTo, router: c.Router}},
		fixed: map[[6]byte]netip.Addr{}, owner: map[netip.Addr][6]byte{}, names: map[[6]byte]string{}}
	if len(c.Subnets) > maxSubnets {
		return p, fmt.Errorf("%d subnets: at most %d", len(c.Subnets), maxSubnets)
	}
	for _, n := range c.Subnets {
		if !n.Prefix.Addr().Is4() || n.Prefix.Bits() < 8 {
			return p, fmt.Errorf("subnet %v: want an IPv4 network of at most 24 host bits", n.Prefix)
		}
		for _, o := range p.subnets {
			if o.prefix.Overlaps(n.Prefix) {
				return p, fmt.Errorf("subnet %v overlaps %v", n.Prefix, o.prefix.Masked())
			}
		}
		p.subnets = append(p.subnets, &subnet{prefix: n.Prefix.Masked(), from: n.From, to: n.To, router: n.Router})
	}
	if c.DHCP != DHCPFull {
		return p, nil
	}
	for _, n := range p.subnets {
		if err := n.check(); err != nil {
			return p, err
		}
	}
	return p, p.fix(c)
}

// check fills in the pool that nobody had to write down.
func (n *subnet) check() error {
	if n.prefix.Bits() > 29 {
		return fmt.Errorf("subnet %v is too small for full DHCP: a /29 or larger", n.prefix.Masked())
	}
	switch {
	case !n.from.IsValid() && !n.to.IsValid():
		n.from, n.to = upperHalf(n.prefix)
	case !n.from.IsValid() || !n.to.IsValid():
		return errors.New("dhcp range: both ends or none")
	}
	for _, a := range []netip.Addr{n.from, n.to} {
		if err := usable(n.prefix, a); err != nil {
			return fmt.Errorf("dhcp range %v to %v: %w", n.from, n.to, err)
		}
	}
	if n.to.Less(n.from) {
		return fmt.Errorf("dhcp range %v to %v: the end is before the start", n.from, n.to)
	}
	if n.router.IsValid() {
		if err := usable(n.prefix, n.router); err != nil {
			return fmt.Errorf("router of %v: %w", n.prefix.Masked(), err)
		}
	}
	return nil
}

// fix takes in the fixed addresses and the names.
func (p *plan) fix(c Config) error {
	for s, a := range c.Fixed {
		mac, err := macKey(s)
		if err != nil {
			return err
		}
		n := p.of(a)
		if n == nil {
			return fmt.Errorf("fixed address of %s: %v is not in %s", s, a, p.networks())
		}
		if err := usable(n.prefix, a); err != nil {
			return fmt.Errorf("fixed address of %s: %w", s, err)
		}
		if a == p.subnets[0].prefix.Addr() {
			return fmt.Errorf("fixed address of %s: %v is our own", s, a)
		}
		if o, ok := p.owner[a]; ok && o != mac {
			return fmt.Errorf("fixed address %v: given to %v and %s", a, net.HardwareAddr(o[:]), s)
		}
		p.owner[a] = mac
		p.fixed[mac] = a
	}
	for s, name := range c.Names {
		mac, err := macKey(s)
		if err == nil {
			err = checkName(name)
		}
		if err != nil {
			return fmt.Errorf("name of %s: %w", s, err)
		}
		p.names[mac] = name
	}
	return nil
}

// of is the network of an address, or nil.
func (p *plan) of(a netip.Addr) *subnet {
	for _, n := range p.subnets {
		if n.prefix.Contains(a) {
			return n
		}
	}
	return nil
}

// networks lists what is served, for an error message.
func (p *plan) networks() string {
	var w []string
	for _, n := range p.subnets {
		w = append(w, n.prefix.Masked().String())
	}
	return strings.Join(w, ", ")
}

// size is how many addresses a pool has. A larger one than anybody's room is
// used in part, which bounds the search and the memory.
func (n *subnet) size() int {
	const most = 1 << 16
	return int(min(uint64(ipNumber(n.to))-uint64(ipNumber(n.from))+1, most))
}

// has says whether an address is in the pool.
func (n *subnet) has(ip netip.Addr) bool {
	return ip.Is4() && ip != n.prefix.Addr() && !ip.Less(n.from) && ipNumber(ip)-ipNumber(n.from) < uint32(n.size())
}

// usable says whether a machine of the subnet can have this address.
func usable(self netip.Prefix, a netip.Addr) error {
	if !a.Is4() || !self.Contains(a) {
		return fmt.Errorf("%v is not in %v", a, self.Masked())
	}
	if a == self.Masked().Addr() || a == broadcastOf(self) {
		return fmt.Errorf("%v is the network's own or its broadcast address", a)
	}
	return nil
}

func macKey(s string) ([6]byte, error) {
	hw, err := net.ParseMAC(s)
	if err != nil || len(hw) != 6 {
		return [6]byte{}, fmt.Errorf("MAC address %q: want six bytes in hex", s)
	}
	return [6]byte(hw), nil
}

// upperHalf is the pool that nobody had to write down.
func upperHalf(p netip.Prefix) (from, to netip.Addr) {
	b := p.Masked().Addr().As4()
	bit := p.Bits() // first host bit, counted from the left
	b[bit/8] |= 0x80 >> (bit % 8)
	return netip.AddrFrom4(b), broadcastOf(p).Prev()
}

func broadcastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b)
}
