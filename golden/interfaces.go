package golden

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// Golden may serve several networks, each by an interface of its own: a boot
// server on each, which tells nodes golden's address in their network. The
// chain goes through all of them, so what lies between, this machine or
// another, has to route.
//
//	eth0 10.1.0.1 --- nodes     ka.server=10.1.0.1:PORT
//	eth1 10.2.0.1 --- nodes     ka.server=10.2.0.1:PORT

// Interfaces finds golden's addresses on the interfaces of a list, "eth0" or
// "eth0,eth1". An empty list means the one interface that has an address.
func Interfaces(list string) (names []string, addrs []netip.Addr, err error) {
	for w := range strings.SplitSeq(list, ",") {
		w = strings.TrimSpace(w)
		if w == "" && list != "" {
			return nil, nil, fmt.Errorf("interfaces %q: one of them has no name", list)
		}
		name, addr, err := Interface(w)
		if err != nil {
			return nil, nil, err
		}
		if slices.Contains(names, name) {
			return nil, nil, fmt.Errorf("interfaces %q: %s is there twice", list, name)
		}
		names, addrs = append(names, name), append(addrs, addr)
	}
	return names, addrs, nil
}

// listenAll listens at one port of several addresses; none means all of this
// machine. Port 0 is any that the first address has free.
func listenAll(addrs []netip.Addr, port int) (net.Listener, error) {
	if len(addrs) == 0 {
		return net.Listen("tcp", fmt.Sprintf(":%d", port))
	}
	m := &listeners{came: make(chan net.Conn), ended: make(chan struct{}), failed: make(chan error, len(addrs))}
	for _, a := range addrs {
		ln, err := net.Listen("tcp", net.JoinHostPort(a.String(), fmt.Sprint(port)))
		if err != nil {
			return nil, errors.Join(err, m.close())
		}
		port = ln.Addr().(*net.TCPAddr).Port
		m.list = append(m.list, ln)
	}
	if len(addrs) == 1 {
		return m.list[0], nil
	}
	for _, ln := range m.list {
		go m.accept(ln)
	}
	return m, nil
}

// listeners are several as one.
type listeners struct {
	list   []net.Listener
	came   chan net.Conn
	failed chan error
	ended  chan struct{}
}

// acceptPause is the wait after a connection that couldn't be taken: there
// are too many open files, or it was gone already.
const acceptPause = 50 * time.Millisecond

// accept hands connections on until the listener is closed. No other error
// ends it: the machines of this network have no other way to us.
func (m *listeners) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			m.failed <- err // has room for one of each
			return
		}
		if err != nil {
			select {
			case <-time.After(acceptPause):
				continue
			case <-m.ended:
				return
			}
		}
		select {
		case m.came <- c:
		case <-m.ended:
			c.Close()
			return
		}
	}
}

// Accept is the next connection of any of them.
func (m *listeners) Accept() (net.Conn, error) {
	select {
	case c := <-m.came:
		return c, nil
	case err := <-m.failed:
		return nil, err
	case <-m.ended:
		return nil, net.ErrClosed
	}
}

// Addr is the first one's.
func (m *listeners) Addr() net.Addr { return m.list[0].Addr() }

// Close closes all of them. It is called once, by who serves.
func (m *listeners) Close() error {
	select {
	case <-m.ended:
		return net.ErrClosed
	default:
	}
	close(m.ended)
	return m.close()
}

func (m *listeners) close() error {
	var errs []error
	for _, ln := range m.list {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// bootServers are one for each interface.
type bootServers []*netboot.Server

// Serve serves until ctx ends, or one of them fails.
func (l bootServers) Serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range l {
		g.Go(func() error { return s.Serve(ctx) })
	}
	return g.Wait()
}

// Close closes those that were never served.
func (l bootServers) Close() error {
	var errs []error
	for _, s := range l {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// servers makes the boot servers. words gives each the kernel words for stage 1,
// which differ in golden's address. With DHCP off there may be a server on
// an interface already, which has the tree that make image made: then it
// does all that.
func (b Boot) servers(c netboot.Config, addrs []netip.Addr, words func(*netboot.Config, netip.Addr) error, log *slog.Logger) (bootServers, error) {
	var list bootServers
	configs, err := b.share(c)
	if err != nil {
		return nil, err
	}
	if len(configs) > 1 && !forwards() {
		log.Warn("nodes of different networks reach each other only by a router; this machine is none (sysctl net.ipv4.ip_forward=1 makes it one)")
	}
	for i, c := range configs {
		var addr netip.Addr
		if i < len(addrs) {
			addr = addrs[i]
		}
		if len(configs) > 1 && !c.Router.IsValid() && forwards() {
			c.Router = addr
		}
		if err := words(&c, addr); err != nil {
			return nil, errors.Join(err, list.Close())
		}
		b.own(&c)
		s, err := netboot.New(c)
		if b.DHCP == netboot.DHCPOff && errors.Is(err, syscall.EADDRINUSE) {
			log.Info("the boot files are left to the server that is here", "interface", c.Interface, "err", err)
			continue
		}
		if err != nil {
			return nil, errors.Join(err, list.Close())
		}
		list = append(list, s)
	}
	return list, nil
}

// share gives each interface what is for its network: the pool and the router
// where they belong, the fixed addresses of its machines. Networks behind
// relays are the first one's.
func (b Boot) share(c netboot.Config) ([]netboot.Config, error) {
	if len(b.Interfaces) < 2 {
		if len(b.Interfaces) == 1 {
			c.Interface = b.Interfaces[0]
		}
		return []netboot.Config{c}, nil
	}
	var out []netboot.Config
	left := map[string]netip.Addr{"--from": c.RangeFrom, "--to": c.RangeTo, "--router": c.Router}
	for mac, a := range c.Fixed {
		left["fixed address of "+mac] = a
	}
	for i, name := range b.Interfaces {
		nets, err := networksOf(name)
		if err != nil {
			return nil, err
		}
		n := c
		n.Interface, n.Fixed = name, map[string]netip.Addr{}
		if i > 0 {
			n.Subnets = nil
		}
		for _, s := range n.Subnets {
			nets = append(nets, s.Prefix)
		}
		here := func(what string, a netip.Addr) bool {
			ok := slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
			if ok {
				delete(left, what)
			}
			return ok
		}
		for what, a := range map[string]*netip.Addr{"--from": &n.RangeFrom, "--to": &n.RangeTo, "--router": &n.Router} {
			if !here(what, *a) {
				*a = netip.Addr{}
			}
		}
		for mac, a := range c.Fixed {
			if here("fixed address of "+mac, a) {
				n.Fixed[mac] = a
			}
		}
		if c.LeaseFile != "" {
			n.LeaseFile = c.LeaseFile + "-" + name
		}
		out = append(out, n)
	}
	for what, a := range left {
		if a.IsValid() {
			return nil, fmt.Errorf("%s %v is in no network of the interfaces %s", what, a, strings.Join(b.Interfaces, ", "))
		}
	}
	return out, nil
}

// forwards tells whether this machine is a router.
func forwards() bool {
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward")
	return err == nil && strings.TrimSpace(string(b)) == "1"
}

func networksOf(name string) ([]netip.Prefix, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	addrs, err := i.Addrs()
	if err != nil {
		return nil, fmt.Errorf("addresses of %s: %w", name, err)
	}
	var out []netip.Prefix
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() {
			out = append(out, p)
		}
	}
	return out, nil
}

// leases reads what a DHCP server of this network is told beside its pool.
func (b Boot) leases(c *netboot.Config) error {
	for _, text := range b.Subnets {
		n, err := netboot.ParseSubnet(text)
		if err != nil {
			return err
		}
		c.Subnets = append(c.Subnets, n)
	}
	if b.Fixed != "" {
		f, err := os.Open(b.Fixed)
		if err != nil {
			return fmt.Errorf("open list of fixed addresses: %w", err)
		}
		defer f.Close()
		if c.Fixed, c.Names, err = netboot.ReadFixed(f); err != nil {
			return fmt.Errorf("list of fixed addresses %s: %w", b.Fixed, err)
		}
	}
	if len(b.Named) == 0 || b.DHCP != netboot.DHCPFull {
		return nil
	}
	return b.leaseNamed(c)
}

// leaseNamed gives the machines of a nodes file their own addresses from the
// beginning. What --fixed says of one besides has to be the same.
func (b Boot) leaseNamed(c *netboot.Config) error {
	var nets []netip.Prefix
	for _, name := range b.Interfaces {
		here, err := networksOf(name)
		if err != nil {
			return err
		}
		nets = append(nets, here...)
	}
	for _, s := range c.Subnets {
		nets = append(nets, s.Prefix)
	}
	fixed, names := fixedLeases(b.Named, func(a netip.Addr) bool {
		return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
	})
	for mac, a := range c.Fixed {
		if own, ok := fixed[mac]; ok && own != a {
			return fmt.Errorf("machine %s: %v by the list of fixed addresses, %v by the list of nodes", mac, a, own)
		}
		fixed[mac] = a
	}
	for mac, name := range c.Names {
		if names[mac] == "" {
			names[mac] = name
		}
	}
	c.Fixed, c.Names = fixed, names
	return nil
}
