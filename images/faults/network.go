package faults

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

// Unplugged is a cable pulled for good. #7
func Unplugged() Fault {
	return Fault{Name: "cable pulled", Promise: 8 * time.Second, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Fails)
		if n == nil {
			return errNobody
		}
		n[0].Left = true
		r.Did("cable of %s is pulled", n[0])
		return r.cable(n[0], netlink.LinkSetDown)
	}}
}

// cable does something to the switch's port of a node.
func (r *Run) cable(n *Node, do func(netlink.Link) error) error {
	return r.room.wire.Do(func() error { return setLink(port(n.Index), do) })
}

// Reset is a machine whose power fails: its cable is dead, its neighbours hear
// nothing, and when it is back it knows nothing of its connections. #6
func Reset() Fault {
	return Fault{Name: "power-cycled", Promise: 8 * time.Second, To: 0.4, Bytes: 120 << 20, Inject: func(ctx context.Context, r *Run) error {
		nodes := r.Take(Anywhere, 1, Finishes)
		if nodes == nil {
			return errNobody
		}
		n := nodes[0]
		n.Slow = true
		if err := r.cable(n, netlink.LinkSetDown); err != nil {
			return err
		}
		n.Signal(syscall.SIGKILL) // its reset gets nowhere
		r.Did("power of %s fails", n)
		n.prog.Wait(5 * time.Second)
		n.blank()
		r.Sleep(ctx, 2*time.Second)
		if err := r.cable(n, netlink.LinkSetUp); err != nil {
			return err
		}
		r.Did("power of %s is back", n)
		return r.Start(n)
	}}
}

// filter drops what matches at a node.
func (r *Run) filter(n *Node, in, out string) error {
	rules := "table inet fault {\n"
	for hook, match := range map[string]string{"input": in, "output": out} {
		if match != "" {
			rules += fmt.Sprintf("chain %s {\ntype filter hook %s priority 0\n%s drop\n}\n", hook, hook, match)
		}
	}
	return n.Space.Run(rules+"}\n", "nft", "-f", "-")
}

// everything matches any packet.
const everything = "counter"

// Partitioned is a node that packets don't reach any more, nor leave; its
// cable is well. #7
func Partitioned() Fault { return dropping("packets dropped both ways", everything, everything) }

// Deaf is a node that hears nothing, Mute one that nobody hears. #8
func Deaf() Fault { return dropping("packets dropped to it", everything, "") }

// Mute is a node that nobody hears.
func Mute() Fault { return dropping("packets dropped from it", "", everything) }

func dropping(name, in, out string) Fault {
	return Fault{Name: name, Promise: 10 * time.Second, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Fails)
		if n == nil {
			return errNobody
		}
		n[0].Left = true
		r.Did("%s: %s", n[0], name)
		return r.filter(n[0], in, out)
	}}
}

// Lossy is a link that loses one packet of a hundred. #9
func Lossy() Fault {
	const loss = "numgen random mod 100 < 1"
	return Fault{Name: "1 % loss on a link", Promise: 10 * time.Second, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Finishes)
		if n == nil {
			return errNobody
		}
		r.Did("%s loses packets", n[0])
		return r.filter(n[0], loss, loss)
	}}
}

// SlowLink is a cable that fell back to a twentieth. DESIGN §6
func SlowLink() Fault {
	return Fault{Name: "link at a twentieth", Promise: 6 * time.Second, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Finishes)
		if n == nil {
			return errNobody
		}
		n[0].Slow = true
		r.Did("link of %s is slow", n[0])
		return r.shapeNode(n[0], max(1, r.Mbit/20))
	}}
}

func (r *Run) shapeNode(n *Node, mbit int) error {
	if err := shape(r.room.wire, port(n.Index), mbit); err != nil {
		return err
	}
	return shape(n.Space, "eth0", mbit)
}

// Renumbered is a node that its DHCP server gives another address. #29
func Renumbered() Fault {
	return Fault{Name: "gets another address", Promise: 10 * time.Second, To: 0.4, Bytes: 120 << 20, Inject: func(ctx context.Context, r *Run) error {
		nodes := r.Take(Anywhere, 1, Finishes)
		if nodes == nil {
			return errNobody
		}
		n := nodes[0]
		n.Slow = true
		other := fmt.Sprintf("10.79.0.%d", 200+n.Index)
		n.Addrs = append(n.Addrs, other)
		r.Did("%s becomes %s", n, other)
		return n.Space.Do(func() error {
			if err := address("eth0", other+"/24", netlink.AddrAdd); err != nil {
				return err
			}
			// The second address of a net goes away with its first, unless it is promoted.
			if err := address("eth0", nodeAddr(n.Index)+"/24", netlink.AddrDel); err != nil {
				return err
			}
			return address("eth0", other+"/24", netlink.AddrReplace)
		})
	}}
}

// Flapped is a switch that is away for a while, and all links with it. #31
func Flapped(away time.Duration) Fault {
	return Fault{Name: fmt.Sprintf("switch away for %.0f s", away.Seconds()), Alone: true, Promise: 15*time.Second + away, Bytes: 120 << 20, Inject: func(ctx context.Context, r *Run) error {
		set := func(do func(netlink.Link) error) error {
			return r.room.wire.Do(func() error { return setLink("br0", do) })
		}
		if err := set(netlink.LinkSetDown); err != nil {
			return err
		}
		r.Did("the switch is away")
		r.Sleep(ctx, away)
		r.Did("the switch is back")
		return set(netlink.LinkSetUp)
	}}
}
