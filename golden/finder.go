package golden

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/wire"
)

// finder answers who looks for a golden node by broadcast. Its port is one for
// all golden-serve of this machine: each hears every broadcast and answers for
// its own sessions, with its own control port.
type finder struct {
	h       *hub
	pc      *ipv4.PacketConn
	control int
}

func (h *hub) openFinder(control int) (*finder, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) // socket(7): a broadcast goes to all
		}), err)
	}}
	c, err := lc.ListenPacket(context.Background(), "udp4", fmt.Sprintf(":%d", wire.ControlPort))
	if err != nil {
		return nil, fmt.Errorf("answer nodes that look for golden: %w", err)
	}
	f := &finder{h: h, pc: ipv4.NewPacketConn(c), control: control}
	if err := f.pc.SetControlMessage(ipv4.FlagInterface, true); err != nil {
		return nil, errors.Join(fmt.Errorf("answer nodes that look for golden: %w", err), c.Close())
	}
	return f, nil
}

// serve answers until the context ends.
func (f *finder) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { f.pc.Close() })
	defer stop()
	b := make([]byte, 2048)
	for {
		n, cm, from, err := f.pc.ReadFrom(b)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(pingEvery / 10)
			continue
		}
		src, ok := f.here(cm)
		if !ok {
			continue
		}
		f.h.tellFind(b[:n], from)
		for _, reply := range f.h.answers(b[:n], f.control) {
			f.pc.WriteTo(reply, &ipv4.ControlMessage{Src: src}, from)
		}
	}
}

// here tells whether a packet came by a network that golden serves, and by
// which of its addresses golden is there.
func (f *finder) here(cm *ipv4.ControlMessage) (src net.IP, ok bool) {
	if len(f.h.addrs) == 0 || cm == nil {
		return nil, true
	}
	i, err := net.InterfaceByIndex(cm.IfIndex)
	if err != nil {
		return nil, false
	}
	if i.Flags&net.FlagLoopback != 0 {
		return nil, true
	}
	list, _ := i.Addrs() // none: not here
	for _, a := range list {
		p, err := netip.ParsePrefix(a.String())
		if err == nil && slices.Contains(f.h.addrs, p.Addr()) {
			return p.Addr().AsSlice(), true
		}
	}
	return nil, false
}

// tellFind says who looks for which session, for whoever wonders why a node
// isn't here.
func (h *hub) tellFind(b []byte, from net.Addr) {
	name, ok := wire.ParseFind(b)
	if !ok {
		return
	}
	if _, err := h.named(name); err != nil {
		h.log.Debug("a node looks for another session", "addr", from, "session", printable(name))
		return
	}
	h.log.Debug("Session name matches", "addr", from, "session", name) // the words of ka-d-server
}

// answers are what a broadcast is answered.
func (h *hub) answers(b []byte, control int) (out [][]byte) {
	if name, ok := wire.ParseFind(b); ok {
		if d, err := h.named(name); err == nil && !d.over.Load() {
			out = append(out, wire.FindReply(name, control))
		}
		return out
	}
	q, ok := wire.ParseRivalRequest(b)
	if !ok || q.Golden == h.run {
		return nil
	}
	for _, d := range h.all {
		c, boots := d.claim()
		if !boots || d.over.Load() {
			continue
		}
		r := wire.RivalReply{Golden: h.run, Session: d.Session, Any: c.any}
		for _, s := range q.MACs {
			if mac, err := roster.ParseMAC(s); err == nil && c.has(mac) {
				r.MACs = append(r.MACs, mac)
			}
		}
		out = append(out, r.Marshal())
	}
	return out
}
