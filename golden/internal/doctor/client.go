package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/mdlayher/packet"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/netboot"
)

// client is a machine that isn't there: what it sends arrives on the
// interface as if it came from the wire, firewall and all, and what this
// machine sends to it is seen on its way out.
//
//	client ─▶ tap ─▶ tc: redirect to ingress of ─▶ eth0 ─▶ golden-serve
//	client ◀────────── packet socket ◀──────────── eth0 ◀──────┘
//
// Its frames to the wire leave by the packet socket. The tap goes away with
// the process, however that ends.
type client struct {
	ifi  *net.Interface
	self netip.Addr // golden's address
	mac  mac
	ip   netip.Addr // its own, once it has one
	tap  *os.File   // nil: the kernel can't do this
	door mac        // the tap's link address: what is sent there is for this machine
	why  error      // then: why
	conn *packet.Conn
	port uint16 // the last that was used
}

func (e *exam) newClient() (*client, error) {
	c := &client{ifi: e.ifi, self: e.self.Addr(), mac: mac(netboot.DoctorMAC()), port: 20000}
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 0, Size: 4}, // to the client …
		bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(c.mac[0])<<24 | uint32(c.mac[1])<<16 | uint32(c.mac[2])<<8 | uint32(c.mac[3]), SkipTrue: 2},
		bpf.LoadAbsolute{Off: 4, Size: 2},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(c.mac[4])<<8 | uint32(c.mac[5]), SkipTrue: 3},
		bpf.LoadAbsolute{Off: 0, Size: 4}, // … or to all
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0xffffffff, SkipTrue: 1},
		bpf.RetConstant{Val: 0},
		bpf.RetConstant{Val: 65535},
	})
	if err != nil {
		return nil, fmt.Errorf("assemble packet filter: %w", err)
	}
	if c.conn, err = packet.Listen(e.ifi, packet.Raw, unix.ETH_P_ALL, &packet.Config{Filter: prog}); err != nil {
		return nil, fmt.Errorf("open packet socket on %s: %w", e.ifi.Name, err)
	}
	c.tap, c.door, c.why = openTap(e.ifi.Index)
	return c, nil
}

// openTap makes the way in.
func openTap(to int) (*os.File, mac, error) {
	t := &netlink.Tuntap{LinkAttrs: netlink.NewLinkAttrs(), Mode: netlink.TUNTAP_MODE_TAP,
		Flags: netlink.TUNTAP_NO_PI | netlink.TUNTAP_ONE_QUEUE, NonPersist: true, Queues: 1}
	t.Name = "kadoc%d"
	if err := netlink.LinkAdd(t); err != nil {
		return nil, mac{}, fmt.Errorf("make a tap interface: %w", err)
	}
	if len(t.Fds) == 0 {
		return nil, mac{}, errors.New("make a tap interface: no file")
	}
	f := t.Fds[0]
	l, err := netlink.LinkByName(t.Name)
	if err == nil && len(l.Attrs().HardwareAddr) != 6 {
		err = errors.New("it has no link address")
	}
	if err != nil {
		return nil, mac{}, errors.Join(fmt.Errorf("find tap %s: %w", t.Name, err), f.Close())
	}
	if err := redirect(l, to); err != nil {
		return nil, mac{}, errors.Join(err, f.Close())
	}
	return f, mac(l.Attrs().HardwareAddr), nil
}

// redirect makes what comes in on the tap come in on another interface.
func redirect(l netlink.Link, to int) error {
	i, name := l.Attrs().Index, l.Attrs().Name
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	q := &netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: i, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_INGRESS}}
	if err := netlink.QdiscAdd(q); err != nil {
		return fmt.Errorf("add an ingress queue to %s (kernel option NET_SCH_INGRESS): %w", name, err)
	}
	u := &netlink.U32{
		FilterAttrs: netlink.FilterAttrs{LinkIndex: i, Parent: netlink.MakeHandle(0xffff, 0), Priority: 1, Protocol: unix.ETH_P_ALL},
		Actions: []netlink.Action{&netlink.MirredAction{ActionAttrs: netlink.ActionAttrs{Action: netlink.TC_ACT_STOLEN},
			MirredAction: netlink.TCA_INGRESS_REDIR, Ifindex: to}},
	}
	if err := netlink.FilterAdd(u); err != nil {
		return fmt.Errorf("redirect %s (kernel options NET_CLS_U32, NET_ACT_MIRRED): %w", name, err)
	}
	return nil
}

// close leaves nothing behind: not even what this machine has learned of the
// client.
func (c *client) close() error {
	errs := []error{c.conn.Close()}
	if c.tap != nil {
		errs = append(errs, c.tap.Close())
	}
	if c.ip.IsValid() {
		_ = netlink.NeighDel(&netlink.Neigh{LinkIndex: c.ifi.Index, IP: c.ip.AsSlice()}) // was it ever there?
	}
	return errors.Join(errs...)
}

// inject sends to this machine only.
func (c *client) inject(frame []byte) error {
	if c.tap == nil {
		return nil
	}
	if _, err := c.tap.Write(frame); err != nil {
		return fmt.Errorf("write to the tap: %w", err)
	}
	return nil
}

// broadcast sends a DHCP message to this machine and to the wire.
func (c *client) broadcast(msg []byte) error {
	all := mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	from := netip.AddrPortFrom(netip.IPv4Unspecified(), 68)
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 67)
	err := c.inject(udpFrame(c.mac, all, from, to, msg))
	// By its own link address, so that no switch learns another.
	out := udpFrame(mac(c.ifi.HardwareAddr), all, from, to, msg)
	if _, werr := c.conn.WriteTo(out, &packet.Addr{HardwareAddr: all[:]}); werr != nil {
		err = errors.Join(err, fmt.Errorf("send DISCOVER on %s: %w", c.ifi.Name, werr))
	}
	return err
}

// at gives the client an address, and lets this machine know where it is.
func (c *client) at(ip netip.Addr) error {
	c.ip = ip
	return c.inject(arpRequest(c.mac, ip, c.self))
}

// next is a port that wasn't used yet, with the client's address.
func (c *client) next() netip.AddrPort {
	c.port++
	return netip.AddrPortFrom(c.ip, c.port)
}

// send sends a datagram to a port of this machine.
func (c *client) send(from netip.AddrPort, port uint16, payload []byte) error {
	return c.inject(udpFrame(c.mac, c.door, from, netip.AddrPortFrom(c.self, port), payload))
}

// frames hands over what comes, until f is content, the time is over or ctx
// ends. What came in time is handed over also where this process got no time to
// read it. The frame is valid during the call only.
func (c *client) frames(ctx context.Context, wait time.Duration, f func(frame) (done bool)) bool {
	if err := c.conn.SetReadDeadline(time.Now().Add(wait)); err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, 65536)
	take := func(n int) bool {
		p, ok := parseFrame(b[:n])
		return ok && f(p)
	}
	for ctx.Err() == nil {
		n, _, err := c.conn.ReadFrom(b)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			return drain(c.conn, b, take)
		}
		if err != nil {
			return false
		}
		if take(n) {
			return true
		}
	}
	return false
}

// maxQueue bounds what drain reads: more than a socket's buffer holds
// (net.core.rmem_default, 212,992 bytes).
const maxQueue = 4096

// drain hands over what a socket has received already, until f is content. It
// waits for nothing, and minds no deadline.
func drain(c *packet.Conn, b []byte, f func(n int) (done bool)) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	for range maxQueue {
		var n int
		var rerr error
		err := raw.Control(func(fd uintptr) { n, _, rerr = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT) })
		if err != nil || rerr != nil { // EAGAIN: that was all
			return false
		}
		if f(n) {
			return true
		}
	}
	return false
}

// outcome of a question to a port.
type outcome int

const (
	silence outcome = iota
	answered
	refused // by RST or ICMP: nobody listens, or a firewall rejects it
)

// A service is asked so often, and each time has so long: one that is slow
// isn't taken for one that is dead.
const (
	tries   = 5
	tryTime = time.Second
)

// exchange sends a datagram up to five times, until something comes back to
// its port. take sees the answers and says which one it is.
func (c *client) exchange(ctx context.Context, from netip.AddrPort, port uint16, payload []byte, take func(frame) bool) (outcome, error) {
	for range tries {
		if err := c.send(from, port, payload); err != nil {
			return silence, err
		}
		got := silence
		c.frames(ctx, tryTime, func(f frame) bool {
			if inner, ok := f.about(); ok && inner.from == from {
				got = refused
				return true
			}
			if f.proto == unix.IPPROTO_UDP && f.to == from && take(f) {
				got = answered
				return true
			}
			return false
		})
		if got != silence || ctx.Err() != nil {
			return got, ctx.Err()
		}
	}
	return silence, nil
}

// knock opens a TCP connection half way.
func (c *client) knock(ctx context.Context, port uint16) (outcome, error) {
	from, to := c.next(), netip.AddrPortFrom(c.self, port)
	const seq = 1000
	for range tries {
		if err := c.inject(tcpFrame(c.mac, c.door, from, to, tcpSYN, seq, 0)); err != nil {
			return silence, err
		}
		got := silence
		c.frames(ctx, tryTime, func(f frame) bool {
			inner, ok := f.about()
			switch {
			case ok && inner.from == from, f.proto == unix.IPPROTO_TCP && f.to == from && f.flags&tcpRST != 0:
				got = refused
			case f.proto == unix.IPPROTO_TCP && f.to == from && f.flags&(tcpSYN|tcpACK) == tcpSYN|tcpACK:
				got = answered
				_ = c.inject(tcpFrame(c.mac, c.door, from, to, tcpRST, seq+1, 0)) // it times out else
			}
			return got != silence
		})
		if got != silence || ctx.Err() != nil {
			return got, ctx.Err()
		}
	}
	return silence, nil
}
