package chain

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// paced dials with the kernel's own limit on what a socket sends
// (SO_MAX_PACING_RATE, socket(7)), in bytes a second by address.
func paced(rate func(addr string) int) Dialer {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		c, err := dialTCP(ctx, addr)
		if err != nil {
			return nil, err
		}
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return nil, err
		}
		raw.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MAX_PACING_RATE, rate(addr))
		})
		return c, err
	}
}

// The way to one node is slow, wherever it stands: the others are done long
// before it, and it gets everything, too.
func TestSlowLinkGoesToTheTail(t *testing.T) {
	if testing.Short() {
		t.Skip("takes 15 s")
	}
	for _, at := range []uint32{1, 2} {
		t.Run(map[uint32]string{1: "first", 2: "second"}[at], func(t *testing.T) {
			t.Parallel()
			m := newMemory(t, 17, false, 32<<20)
			var slow atomic.Value // its address
			dial := paced(func(addr string) int {
				if addr == slow.Load() {
					return 2_500_000
				}
				return 40_000_000
			})
			l := newLab(t, m, func(h *Head) { h.Dial, h.Plain = dial, true })
			var nodes []*labNode
			type end struct {
				id uint32
				at time.Time
			}
			ends := make(chan end, 4)
			for i := uint32(1); i <= 4; i++ {
				n := l.add(i, m, func(k *Link, v *vessel) {
					k.Dial, k.Plain = dial, true
				})
				if i == at {
					slow.Store(n.ln.Addr().String())
				}
				nodes = append(nodes, n)
				go func() { <-n.link.Complete(); ends <- end{i, time.Now()} }()
			}
			begun := time.Now()
			out := l.run()
			l.wantComplete(out, nodes...)
			var last, slowEnd time.Duration
			for range nodes {
				e := <-ends
				if e.id == at {
					slowEnd = e.at.Sub(begun)
				} else {
					last = max(last, e.at.Sub(begun))
				}
			}
			t.Logf("the slow node is done after %v, the others after %v", slowEnd, last)
			if last > slowEnd*3/4 {
				t.Errorf("the slow node held the others up: they were done after %v, it after %v", last, slowEnd)
			}
		})
	}
}

// Auto compresses while a link is full, whichever it is, and not while nodes
// are what holds the chain up.
func TestCompressionPaysOnFullLinks(t *testing.T) {
	m := newMemory(t, 18, true, 48<<20)
	dial := paced(func(string) int { return 8_000_000 })
	l := newLab(t, m, func(h *Head) { h.Dial, h.Plain = dial, true })
	a := l.add(1, m, func(k *Link, v *vessel) { k.Dial, k.Plain = dial, true })
	b := l.add(2, m, func(k *Link, v *vessel) { k.Dial, k.Plain = dial, true })
	l.wantComplete(l.run(), a, b)
	// Half of it is left out where the link is full all the time; on a busy
	// machine it is not.
	if p := l.head.Progress(); p.Wire > p.Sent*9/10 {
		t.Errorf("%d bytes went as %d over a full link", p.Sent, p.Wire)
	}
	h := newLab(t, m, nil).head
	h.Tell = func(uint32, wire.LinkOrder) {}
	for i := uint32(1); i <= 3; i++ {
		h.Join(Member{ID: i, Addr: "127.0.0.1:1"})
	}
	hop := func(to uint32, busy, receiver float64) {
		h.Report(to-1, wire.LinkReport{Transfer: h.Transfer, Hop: &wire.Hop{
			Peer: to, Epoch: h.hops[[2]uint32{to - 1, to}], Rate: 1e8, Busy: busy, Receiver: receiver}})
	}
	for _, c := range []struct {
		to             uint32
		busy, receiver float64
		want           bool
	}{
		{1, 0.2, 0, false},
		{1, 1, 0.9, false}, // node 1 takes no more: its own affair, or that of those behind it
		{3, 1, 0.1, true},
		{3, 0.3, 0.1, false},
	} {
		hop(c.to, c.busy, c.receiver)
		if got := h.linkBound(); got != c.want {
			t.Errorf("hop to %d is busy %.1f, %.1f of it by its receiver: link bound %v, want %v", c.to, c.busy, c.receiver, got, c.want)
		}
	}
}

// A node whose link is slow both ways makes the hop behind it slow too. When it
// has gone to the tail, that hop is no more, and what was said of it, or still
// comes, is not held against the node that was behind it.
func TestSlowBothWaysMovesOne(t *testing.T) {
	m := newMemory(t, 19, false, 1<<20)
	h := newLab(t, m, nil).head
	h.Tell = func(uint32, wire.LinkOrder) {}
	for i := uint32(1); i <= 4; i++ {
		h.Join(Member{ID: i, Addr: "127.0.0.1:1"})
	}
	report := func(from, to uint32, rate int64) {
		h.Report(from, wire.LinkReport{Transfer: h.Transfer, Hop: &wire.Hop{Peer: to, Epoch: h.hops[[2]uint32{from, to}], Rate: rate, Busy: 1}})
	}
	move := func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.moveSlow()
	}
	for range slowReports {
		report(0, 1, 1e8)
		report(1, 2, 1e6)
		report(2, 3, 1e6)
		report(3, 4, 1e8)
	}
	move()
	report(2, 3, 1e6) // on its way when the order changed
	move()
	if want := []uint32{1, 3, 4, 2}; !slices.Equal(h.order, want) {
		t.Errorf("order %v, want %v", h.order, want)
	}
	if h.members[3].shed || !h.members[2].shed {
		t.Error("node 3 is let go of in place of node 2, or with it")
	}
	for range slowReports { // the way to it is slow from the other side too
		report(1, 3, 1e6)
	}
	move()
	if want := []uint32{1, 4, 2, 3}; !slices.Equal(h.order, want) {
		t.Errorf("order %v, want %v: the hop that is there counts", h.order, want)
	}
}
