package nic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrNoInterface says that the machine has no interface to boot with, or not
// the one that was asked for. It may yet turn up while drivers load.
var ErrNoInterface = errors.New("no such network interface")

// link is one interface that could carry the node.
type link struct {
	index   int
	name    string
	mac     net.HardwareAddr
	carrier bool
}

// links lists the interfaces that speak Ethernet, in the kernel's order.
func links() ([]link, error) {
	all, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	var out []link
	for _, l := range all {
		a := l.Attrs()
		if a.EncapType != "ether" || len(a.HardwareAddr) != 6 || a.Flags&net.FlagLoopback != 0 {
			continue
		}
		// IFF_LOWER_UP comes at once; the operational state waits for the
		// kernel's link watch, up to a second.
		out = append(out, link{a.Index, a.Name, a.HardwareAddr, a.RawFlags&unix.IFF_LOWER_UP != 0})
	}
	return out, nil
}

// choose says which interfaces to try: the one that the firmware booted from,
// else the named one, else all. A BOOTIF that isn't there is passed over,
// since a loader may have invented it; a name is an order.
func choose(all []link, bootIF net.HardwareAddr, name string) ([]link, error) {
	if len(bootIF) > 0 {
		for _, l := range all {
			if bytes.Equal(l.mac, bootIF) {
				return []link{l}, nil
			}
		}
	}
	if name != "" && name != wire.Auto {
		for _, l := range all {
			if l.name == name {
				return []link{l}, nil
			}
		}
		return nil, fmt.Errorf("%w: %s (there are: %s)", ErrNoInterface, name, namesOf(all))
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no Ethernet interface at all", ErrNoInterface)
	}
	return all, nil
}

func namesOf(all []link) string {
	if len(all) == 0 {
		return "none"
	}
	var s []string
	for _, l := range all {
		s = append(s, l.name+" "+l.mac.String())
	}
	return strings.Join(s, ", ")
}

// raise sets the interfaces up, so that their links begin to negotiate.
func raise(list []link) error {
	for _, l := range list {
		dev, err := netlink.LinkByIndex(l.index)
		if err != nil {
			return fmt.Errorf("find interface %s: %w", l.name, err)
		}
		if err := netlink.LinkSetUp(dev); err != nil {
			return fmt.Errorf("set interface %s up: %w", l.name, err)
		}
	}
	return nil
}

// waitInterface is choose, again and again until there is something to choose:
// USB adapters take seconds to appear. bootIF has the first grace seconds for
// itself.
func waitInterface(ctx context.Context, cfg Config) ([]link, error) {
	start := time.Now()
	for {
		all, err := links()
		if err != nil {
			return nil, err
		}
		chosen, err := choose(all, cfg.BootIF, cfg.Interface)
		booted := len(cfg.BootIF) == 0 || slices.ContainsFunc(all, func(l link) bool { return bytes.Equal(l.mac, cfg.BootIF) })
		waited := time.Since(start)
		if err == nil && (booted || waited > cfg.Appear) {
			if !booted {
				cfg.Log.Warn("no interface has the address the loader named", "BOOTIF", cfg.BootIF.String(), "there", namesOf(all))
			}
			return chosen, nil
		}
		if waited > cfg.Appear && err != nil {
			return nil, fmt.Errorf("wait %s for an interface: %w", cfg.Appear, err)
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// waitCarrier waits until one of list has a link and returns those that have.
func waitCarrier(ctx context.Context, list []link, limit time.Duration) ([]link, error) {
	end := time.Now().Add(limit)
	for {
		all, err := links()
		if err != nil {
			return nil, err
		}
		var ready []link
		for _, l := range all {
			if l.carrier && slices.ContainsFunc(list, func(c link) bool { return c.index == l.index }) {
				ready = append(ready, l)
			}
		}
		if len(ready) > 0 {
			return ready, nil
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("no link after %s on %s: is the cable plugged in?", limit, namesOf(list))
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
