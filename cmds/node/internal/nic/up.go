package nic

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Config says which interface to bring up and how long to try.
type Config struct {
	BootIF     net.HardwareAddr // the interface the firmware booted from; nil when unknown
	Interface  string           // a name, or "auto" or empty
	ResolvConf string           // file for the name servers; empty: none is written
	Log        *slog.Logger

	Appear  time.Duration // for the interface to turn up; 0: 20 s
	Carrier time.Duration // for its link; 0: 45 s, more than a switch's spanning tree takes (IEEE 802.1D: 2 × 15 s)
	Timeout time.Duration // for a lease once there is a link; 0: 90 s
}

func (c *Config) defaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&c.Appear, 20*time.Second)
	set(&c.Carrier, 45*time.Second)
	set(&c.Timeout, 90*time.Second)
}

// Up brings an interface up, gets a lease and applies it. Among several
// interfaces with a link it takes the first that gets a lease.
func Up(ctx context.Context, cfg Config) (*Lease, error) {
	cfg.defaults()
	if err := seed(); err != nil {
		return nil, err
	}
	if err := loopback(); err != nil {
		cfg.Log.Warn("without the loopback interface", "cause", err)
	}
	list, err := waitInterface(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := raise(list); err != nil {
		return nil, err
	}
	ready, err := waitCarrier(ctx, list, cfg.Carrier)
	if err != nil {
		return nil, err
	}
	l, err := firstLease(ctx, cfg, list, ready)
	if err != nil {
		return nil, err
	}
	return l, l.Apply(cfg.ResolvConf)
}

// loopback is for programs that talk to themselves, such as those in the
// clone's chroot.
func loopback() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find interface lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("set interface lo up: %w", err)
	}
	return nil
}

// firstLease asks on each interface in turn, a few seconds on each, until one
// answers or the time is up. Links that come up late join in.
func firstLease(ctx context.Context, cfg Config, list, ready []link) (*Lease, error) {
	ctx, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	var last error
	for {
		for _, l := range ready {
			cfg.Log.Info("asking for a lease", "interface", l.name, "mac", l.mac.String())
			lease, err := request(ctx, l)
			if err == nil {
				return lease, nil
			}
			if !errors.Is(err, context.DeadlineExceeded) {
				last = err
			}
			if ctx.Err() != nil {
				return nil, fmt.Errorf("get a lease on %s within %s: %w", namesOf(ready), cfg.Timeout, errors.Join(last, ctx.Err()))
			}
			cfg.Log.Warn("no lease yet", "interface", l.name, "cause", err)
		}
		if err := pause(ctx, 500*time.Millisecond); err != nil { // a server that refuses at once isn't flooded
			return nil, fmt.Errorf("get a lease on %s within %s: %w", namesOf(ready), cfg.Timeout, errors.Join(last, err))
		}
		if again, err := waitCarrier(ctx, list, time.Second); err == nil {
			ready = again
		}
	}
}

// seed waits until the kernel's random generator is ready. The DHCP library
// polls it without blocking, which never starts the kernel's own collecting
// of jitter; a blocking read does.
func seed() error {
	var b [8]byte
	for {
		_, err := unix.Getrandom(b[:], 0)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for the random generator: %w", err)
		}
	}
}

// Apply sets the address, the default route and the name servers.
func (l *Lease) Apply(resolvConf string) error {
	dev, err := netlink.LinkByName(l.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", l.Interface, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: l.Addr.Addr().AsSlice(), Mask: net.CIDRMask(l.Addr.Bits(), 32)}}
	if err := netlink.AddrReplace(dev, addr); err != nil { // sets the broadcast address too
		return fmt.Errorf("set address %s on %s: %w", l.Addr, l.Interface, err)
	}
	if l.Router.IsValid() {
		route := &netlink.Route{LinkIndex: dev.Attrs().Index, Gw: l.Router.AsSlice(), Protocol: unix.RTPROT_DHCP}
		if !l.Addr.Contains(l.Router) { // a cloud's /32 with a router outside
			route.Flags = int(netlink.FLAG_ONLINK)
		}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("set default route by %s on %s: %w", l.Router, l.Interface, err)
		}
	}
	return l.writeResolvConf(resolvConf)
}

// drop takes an address away again that a new lease replaced.
func (l *Lease) drop() error {
	dev, err := netlink.LinkByName(l.Interface)
	if err != nil {
		return fmt.Errorf("find interface %s: %w", l.Interface, err)
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: l.Addr.Addr().AsSlice(), Mask: net.CIDRMask(l.Addr.Bits(), 32)}}
	if err := netlink.AddrDel(dev, addr); err != nil {
		return fmt.Errorf("remove address %s from %s: %w", l.Addr, l.Interface, err)
	}
	return nil
}
