package faults

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// proxy sits before a node's data port and does something to what comes in.
//
//	node before ──▶ :30764, redirected ──▶ proxy ──▶ 127.0.0.1:30764
type proxy struct {
	ln    net.Listener
	space *Space
	turn  func(b []byte) // what it does to bytes of frames
	wg    sync.WaitGroup
}

const (
	dataPort  = 30764
	proxyPort = 40764
	greeting  = 40 // bytes of a hello, which are let through
)

func (r *Run) proxy(n *Node, turn func([]byte)) error {
	ln, err := n.Space.Listen(fmt.Sprintf("0.0.0.0:%d", proxyPort))
	if err != nil {
		return err
	}
	p := &proxy{ln: ln, space: n.Space, turn: turn}
	p.wg.Go(p.accept)
	r.Defer(func() { ln.Close(); p.wg.Wait() })
	return n.Space.Run(fmt.Sprintf("table inet proxy {\nchain in {\ntype nat hook prerouting priority dstnat\ntcp dport %d redirect to :%d\n}\n}\n",
		dataPort, proxyPort), "nft", "-f", "-")
}

func (p *proxy) accept() {
	for {
		c, err := p.ln.Accept()
		if err != nil {
			return
		}
		p.wg.Go(func() { p.carry(c) })
	}
}

// carry ends when either side does.
func (p *proxy) carry(in net.Conn) {
	defer in.Close()
	out, err := p.space.Dial(fmt.Sprintf("127.0.0.1:%d", dataPort))
	if err != nil {
		return
	}
	defer out.Close()
	var back sync.WaitGroup
	defer back.Wait()
	back.Go(func() { io.Copy(in, out); in.Close() })
	defer out.Close()
	if _, err := io.CopyN(out, in, greeting); err != nil {
		return
	}
	b := make([]byte, 64<<10)
	for {
		n, err := in.Read(b)
		p.turn(b[:n])
		if _, werr := out.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// Corrupting is a hop on which bytes turn, after the TCP checksum was right:
// so many in all, one in every spread bytes. #19
func Corrupting(name string, count int64, spread int64, want Want, plain bool) Fault {
	var left, seen atomic.Int64
	var armed atomic.Bool
	var victim *Node
	return Fault{Name: name, Plain: plain, Promise: 2 * time.Second, To: 0.5,
		Prepare: func(r *Run) error {
			if victim = r.victim(want); victim == nil {
				return errNobody
			}
			left.Store(count)
			rnd := r.rand(80)
			next := spread
			return r.proxy(victim, func(b []byte) { // one connection at a time
				if !armed.Load() || len(b) == 0 {
					return
				}
				if seen.Add(int64(len(b))) < next || left.Add(-1) < 0 {
					return
				}
				next = seen.Load() + spread
				b[rnd.IntN(len(b))] ^= 1 << rnd.IntN(8)
			})
		},
		Inject: func(ctx context.Context, r *Run) error {
			r.Did("bytes to %s turn", victim)
			if chain := r.Chain(); want != Finishes { // which end of the hop it is takes two hops to see
				if i := slices.Index(chain, victim); i > 0 && chain[i-1].Want == Finishes {
					chain[i-1].taken, chain[i-1].Want = true, Either
				}
			}
			armed.Store(true)
			return nil
		},
		Verify: func(r *Run) {
			if left.Load() == count {
				r.Break("no byte was turned")
			}
		},
	}
}
