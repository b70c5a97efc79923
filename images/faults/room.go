package faults

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// room is hosts on one switch.
type room struct {
	wire   *Space // the switch: a bridge, and a port for each host
	golden *Space
	nodes  []*Space
}

const goldenAddr = "10.79.0.1"

func nodeAddr(i int) string { return fmt.Sprintf("10.79.0.%d", i+11) }

// port is the switch's end of a host's cable.
func port(i int) string { return fmt.Sprintf("port%d", i+1) }

func newRoom(nodes, mbit int) (r *room, err error) {
	r = &room{}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.wire, err = newSpace(); err != nil {
		return r, err
	}
	err = r.wire.Do(func() error {
		return errors.Join(netlink.LinkAdd(&netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}), linkUp("br0"))
	})
	if err != nil {
		return r, err
	}
	if r.golden, err = r.host("golden", goldenAddr, mbit); err != nil {
		return r, err
	}
	for i := range nodes {
		s, err := r.host(port(i), nodeAddr(i), mbit)
		if err != nil {
			return r, err
		}
		r.nodes = append(r.nodes, s)
	}
	return r, nil
}

// host is a namespace with a cable to the switch, shaped both ways.
func (r *room) host(port, addr string, mbit int) (*Space, error) {
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	err = r.wire.Do(func() error {
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: port}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.f.Fd())}
		if err := netlink.LinkAdd(cable); err != nil {
			return fmt.Errorf("lay cable %s: %w", port, err)
		}
		br, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return errors.Join(setLink(port, func(l netlink.Link) error { return netlink.LinkSetMaster(l, br) }), linkUp(port))
	})
	if err == nil {
		err = s.Do(func() error {
			return errors.Join(address("eth0", addr+"/24", netlink.AddrAdd), linkUp("eth0"))
		})
	}
	if err == nil {
		err = errors.Join(shape(r.wire, port, mbit), shape(s, "eth0", mbit))
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// shape limits what leaves by a link, with the burst that 200 Mbit/s need at
// a timer of 250 Hz (tc-tbf(8): rate/HZ).
func shape(s *Space, link string, mbit int) error {
	return s.Run("", "tc", "qdisc", "replace", "dev", link, "root", "tbf",
		"rate", fmt.Sprintf("%dmbit", mbit), "burst", "128kb", "latency", "50ms")
}

func (r *room) close() {
	for _, s := range append(r.nodes, r.golden, r.wire) {
		if s != nil {
			s.close()
		}
	}
}
