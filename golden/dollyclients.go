package golden

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/wire"
)

// lookupTime is how long golden asks for the address of a name.
const lookupTime = 10 * time.Second

// dollyClient is a machine that dolly.cfg names.
type dollyClient struct {
	name  string
	line  int
	addrs []netip.Addr // by the name, or the nodes file
	mac   string       // by the nodes file
}

// clients are all of them, and which machine has come as which.
type clients struct {
	all []dollyClient

	mu   sync.Mutex
	came map[string]string // by network card: the name
}

// find looks the names up: in the nodes file, and where it is silent in
// /etc/hosts and DNS.
func (c *clients) find(ctx context.Context, d *Dolly) error {
	c.came = map[string]string{}
	c.all = make([]dollyClient, len(d.file.Clients))
	var wg sync.WaitGroup
	for i, f := range d.file.Clients {
		c.all[i] = dollyClient{name: f.Name, line: f.Line}
		x := &c.all[i]
		if a, err := netip.ParseAddr(f.Name); err == nil {
			x.addrs = []netip.Addr{a.Unmap()}
		}
		if x.named(d.opt.Named); x.mac != "" || len(x.addrs) > 0 {
			continue
		}
		wg.Go(func() { // ends by its time
			ctx, cancel := context.WithTimeout(ctx, lookupTime)
			defer cancel()
			list, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", f.Name)
			for _, a := range list {
				x.addrs = append(x.addrs, a.Unmap())
			}
		})
	}
	wg.Wait()
	own, _ := net.InterfaceAddrs()
	seen := map[netip.Addr]dollyClient{}
	for _, x := range c.all {
		for _, n := range d.opt.Named {
			if n.Local() && x.is(n) {
				return d.at(x.line, x.name, "is machine %s of the nodes file, whose label is local: its disk is not to be written", n.MAC)
			}
		}
		if x.mac == "" && len(x.addrs) == 0 {
			d.Notes = append(d.Notes, fmt.Sprintf("%s:%d: %s: neither the nodes file nor /etc/hosts nor DNS has an address for it: it is known only if its DHCP server gives it that name", d.opt.File, x.line, x.name))
		}
		for _, a := range x.addrs {
			if o, twice := seen[a]; twice && o.name != x.name {
				return d.at(x.line, x.name, "has the address of %s, %s: the chain would run in a circle", o.name, a)
			}
			seen[a] = x
			if slices.ContainsFunc(own, func(n net.Addr) bool {
				p, err := netip.ParsePrefix(n.String())
				return err == nil && p.Addr().Unmap() == a
			}) {
				return d.at(x.line, x.name, "is this machine itself, %s: the chain would run in a circle", a)
			}
		}
	}
	return nil
}

// named takes what a nodes file says of a machine of that name or address.
func (x *dollyClient) named(list []Named) {
	for _, n := range list {
		if x.is(n) {
			x.mac = n.MAC
		}
	}
}

// is tells whether a machine of a nodes file has the client's name or address.
func (x *dollyClient) is(n Named) bool {
	return sameName(n.Name, x.name) || slices.ContainsFunc(n.Addresses, func(p netip.Prefix) bool { return slices.Contains(x.addrs, p.Addr()) })
}

// sameName compares host names; one may lack the domain.
func sameName(a, b string) bool {
	a, b = strings.ToLower(strings.TrimSuffix(a, ".")), strings.ToLower(strings.TrimSuffix(b, "."))
	if a == "" || b == "" {
		return false
	}
	short := func(s string) string { s, _, _ = strings.Cut(s, "."); return s }
	return a == b || (short(a) == a || short(b) == b) && short(a) == short(b)
}

// MACs are the network cards of the machines, if the nodes file has all.
func (d *Dolly) MACs() []string {
	var out []string
	for _, x := range d.clients.all {
		if x.mac == "" {
			return nil
		}
		out = append(out, x.mac)
	}
	return out
}

// Wants lets in who is named, and nobody else.
func (d *Dolly) Wants() *Wants {
	return &Wants{
		Register: func(r wire.Register) error { return d.clients.register(d.opt.File, r) },
		Arrived:  d.clients.arrived,
		Boot:     d.clients.boot,
	}
}

// match finds the client that a machine is.
func (c *clients) match(mac string, addr netip.Addr, hostname string) (dollyClient, bool) {
	for _, x := range c.all {
		own, err := roster.ParseMAC(mac)
		switch {
		case x.mac != "":
			if other, oerr := roster.ParseMAC(x.mac); err == nil && oerr == nil && own == other {
				return x, true
			}
		case addr.IsValid() && slices.Contains(x.addrs, addr.Unmap()):
			return x, true
		case len(x.addrs) == 0 && sameName(x.name, hostname):
			return x, true
		}
	}
	return dollyClient{}, false
}

func (c *clients) register(file string, r wire.Register) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	x, ok := c.match(r.MAC, r.From, r.Hostname)
	if !ok && c.came[r.MAC] != "" {
		return nil // it said its name when it came
	}
	if !ok {
		who := r.From.String()
		if r.Hostname != "" {
			who += ", " + r.Hostname
		}
		return fmt.Errorf("this machine (%s) is not named in %s: it takes no part, and nothing of it is touched", who, file)
	}
	for mac, name := range c.came {
		if name == x.name && mac != r.MAC && x.mac == "" && len(x.addrs) == 0 {
			return fmt.Errorf("machine %s is %s already: this one says the same name", mac, name)
		}
	}
	return nil
}

// arrived keeps a name for the machine that was let in by it.
func (c *clients) arrived(r wire.Register) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x, ok := c.match(r.MAC, r.From, r.Hostname); ok {
		c.came[r.MAC] = x.name
	}
}

// boot says who may boot stage 1. While a machine is known by its name alone,
// anybody might be it.
func (c *clients) boot(mac string, addr netip.Addr) bool {
	if _, ok := c.match(mac, addr, ""); ok {
		return true
	}
	return slices.ContainsFunc(c.all, func(x dollyClient) bool { return x.mac == "" && len(x.addrs) == 0 })
}

// Fits refuses a machine whose disks are too small, before anybody is asked.
// Partitions the machine looks at itself, before it writes.
func (d *Dolly) Fits(n *Node) error {
	for _, c := range d.Plan.Copies {
		for _, dev := range n.Disks {
			if "/dev/"+dev.Name == c.To && dev.Bytes < c.Bytes {
				return fmt.Errorf("%s has %d bytes, %s has %d: too small; nothing was written", c.To, dev.Bytes, c.From, c.Bytes)
			}
		}
	}
	return nil
}
