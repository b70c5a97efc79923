package chain

import (
	"context"
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
