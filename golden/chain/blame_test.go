package chain

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// Bytes turn on the way into a node, whoever sends them. Golden can't know at
// first which end of the hop it is: the node before is cut out for it, and no
// other but the node itself.
func TestNodeThatGetsWrongBytesIsFound(t *testing.T) {
	m := newMemory(t, 8, false, 96<<20)
	l := newLab(t, m, func(h *Head) { h.Plain = true })
	var lies atomic.Int64
	lies.Store(1000)
	var victim atomic.Pointer[string]
	dial := func(k *Link, v *vessel) {
		k.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			for victim.Load() == nil && ctx.Err() == nil {
				pause(ctx, time.Millisecond)
			}
			c, err := dialTCP(ctx, addr)
			if bad := victim.Load(); err == nil && addr == *bad {
				c = &liar{Conn: c, left: 3 << 20, n: &lies}
			}
			return c, err
		}
	}
	var nodes []*labNode
	for i := range uint32(5) {
		nodes = append(nodes, l.add(i+1, m, dial))
	}
	addr := nodes[3].ln.Addr().String()
	victim.Store(&addr)
	out := l.run()
	l.wantComplete(out, nodes[0], nodes[1], nodes[4])
	if out[3].Complete || out[4].Complete {
		t.Errorf("the node before: %+v, the one whose bytes turn: %+v; both must be cut out", out[3], out[4])
	}
}

// A node that can reach nobody is cut out for it at the second try, not all
// behind it one after another.
func TestNodeThatReachesNobodyIsFound(t *testing.T) {
	m := newMemory(t, 9, false, 64<<20)
	l := newLab(t, m, nil)
	var nodes []*labNode
	for i := range uint32(6) {
		nodes = append(nodes, l.add(i+1, m, func(k *Link, v *vessel) {
			if i == 1 {
				k.Dial = func(context.Context, string) (net.Conn, error) { return nil, errors.New("too many open files") }
			}
		}))
	}
	out := l.run()
	l.wantComplete(out, nodes[0], nodes[3], nodes[4], nodes[5])
	if out[2].Complete || out[3].Complete {
		t.Errorf("the node that reaches nobody: %+v, the first that it did not reach: %+v; both must be cut out", out[2], out[3])
	}
}

// What came before a hop was there is sent over it, however small it is beside
// what came after.
func TestNothingIsLostBeforeTheFirstConnection(t *testing.T) {
	m := newMemory(t, 10, false, 500, 48<<20)
	slow := func(ctx context.Context, addr string) (net.Conn, error) {
		pause(ctx, 300*time.Millisecond)
		return dialTCP(ctx, addr)
	}
	l := newLab(t, m, func(h *Head) { h.Dial = slow })
	a := l.add(1, m, func(k *Link, v *vessel) { k.Dial = slow })
	b := l.add(2, m, nil)
	l.wantComplete(l.run(), a, b)
	if p := l.head.Progress(); p.Lap > 1 || p.Sent != p.Bytes {
		t.Errorf("%d laps, %d bytes sent of %d", p.Lap, p.Sent, p.Bytes)
	}
}
