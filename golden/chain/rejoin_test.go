package chain

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// holding is a Holder of what a vessel has already, up to a piece.
type holding struct {
	v    *vessel
	upTo uint32
	wait time.Duration // per piece
}

func (h *holding) Held(ctx context.Context, tell func(uint16, uint32, wire.Hash)) error {
	for i, s := range h.v.m.streams {
		for p := range min(s.Pieces, h.upTo) {
			if h.wait > 0 {
				pause(ctx, h.wait)
			}
			off := int64(p) * int64(s.PieceSize)
			tell(s.ID, p, blake3.Sum256(h.v.data[i][off:off+int64(s.Len(p))]))
		}
	}
	return ctx.Err()
}

// What every node holds is not sent; what one lacks, or holds in another
// version, is.
func TestWhatAllHoldIsNotSent(t *testing.T) {
	m := newMemory(t, 11, false, 40<<20+5)
	l := newLab(t, m, nil)
	var nodes []*labNode
	for i := range uint32(3) {
		nodes = append(nodes, l.add(i+1, m, func(k *Link, v *vessel) {
			copy(v.data[0], m.data[0])
			if i == 1 {
				v.data[0][7<<20] ^= 1 // another version of piece 7
			}
			k.Holder = &holding{v: v, upTo: 30 + i, wait: time.Millisecond}
			v.fail = func(_ uint16, p uint32) error {
				if p != 7 && p < 30 {
					return fmt.Errorf("piece %d came although all hold it", p)
				}
				return nil
			}
		}))
	}
	out := l.run()
	l.wantComplete(out, nodes...)
	p := l.head.Progress()
	if want := int64(1<<20) + m.streams[0].Bytes - 30<<20; p.Sent != want || p.Kept != 29<<20 {
		t.Errorf("%d bytes sent, want %d; %d kept, want %d", p.Sent, want, p.Kept, 29<<20)
	}
}

// A node that says it looks and never comes to an end is waited for no longer.
func TestSearchWithoutEnd(t *testing.T) {
	m := newMemory(t, 12, false, 8<<20)
	l := newLab(t, m, func(h *Head) { h.Patience = 2 * time.Second })
	a := l.add(1, m, func(k *Link, v *vessel) { k.Holder = endless{} })
	b := l.add(2, m, nil)
	l.wantComplete(l.run(), a, b)
}

type endless struct{}

func (endless) Held(ctx context.Context, _ func(uint16, uint32, wire.Hash)) error {
	<-ctx.Done()
	return ctx.Err()
}

// A node that is cut out and comes back is sent what it hasn't stored, and no
// more.
func TestNodeComesBack(t *testing.T) {
	m := newMemory(t, 13, false, 64<<20)
	l := newLab(t, m, nil)
	a := l.add(1, m, func(k *Link, v *vessel) { v.delay = 4 * time.Millisecond })
	var again *labNode
	var puts sync.Map
	var twice atomic.Int64
	count := func(_ uint16, p uint32) error {
		if _, was := puts.LoadOrStore(p, true); was {
			twice.Add(1)
		}
		return nil
	}
	back := make(chan struct{})
	b := l.add(2, m, func(k *Link, v *vessel) {
		v.fail = func(s uint16, p uint32) error {
			if v.puts.Load() == 20 {
				go func() {
					defer close(back)
					l.head.Expect(1)
					defer l.head.Expect(-1)
					old := l.nodes[2]
					old.cancel()
					<-old.ended
					l.head.Leave(2, errors.New("silent"))
					again = l.add(2, m, func(k *Link, v *vessel) {
						old.sink.fail, k.Sink, k.Resume = count, old.sink, old.link
					})
				}()
			}
			return count(s, p)
		}
	})
	c := l.add(3, m, nil)
	out, err := l.head.Run(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	<-back
	l.wg.Wait()
	again.sink = b.sink
	l.wantComplete(out, a, again, c)
	if n := twice.Load(); n > 8 { // workers and what was under way
		t.Errorf("%d pieces came to the node twice", n)
	}
}

// Nodes that are complete may leave; one that comes afterwards gets it all.
func TestLateAfterAllOthersHaveLeft(t *testing.T) {
	m := newMemory(t, 14, false, 16<<20)
	l := newLab(t, m, nil)
	l.head.Expect(1)
	a, b := l.add(1, m, nil), l.add(2, m, nil)
	late := make(chan *labNode, 1)
	go func() {
		<-a.link.Complete()
		<-b.link.Complete()
		for l.head.Progress().Nodes[1].Complete == false || l.head.Progress().Nodes[2].Complete == false {
			time.Sleep(time.Millisecond)
		}
		l.head.Retire(1)
		l.head.Retire(2)
		<-a.ended
		<-b.ended
		l.head.Leave(1, errors.New("closed its connections"))
		time.Sleep(50 * time.Millisecond)
		n := l.add(3, m, nil)
		l.head.Expect(-1)
		late <- n
	}()
	out := l.run()
	l.wantComplete(out, a, b, <-late)
}

// growing is a source whose first stream changes after it was read once, and
// a sink for it: streams that are announced later replace what came before.
type growing struct {
	*memory
	settled atomic.Int32
	patch   map[uint16][]byte
	mu      sync.Mutex
	change  func()
	void    [][]wire.Range
}

func (g *growing) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if int(stream) < len(g.streams) {
		return g.memory.ReadPiece(stream, piece, buf)
	}
	copy(buf, g.patch[stream][int64(piece)<<20:])
	return nil
}

func (g *growing) Settle(_ context.Context, void []wire.Range) ([]wire.Stream, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.void = append(g.void, void)
	id := uint16(len(g.streams)) + uint16(g.settled.Add(1)) - 1
	g.patch[id] = append([]byte{byte(id)}, g.data[0]...)
	if g.change != nil {
		g.change()
		g.change = nil
	}
	return []wire.Stream{mebibytes(id, len(g.patch[id]))}, nil
}

type growingVessel struct {
	*vessel
	mu    sync.Mutex
	grown [][]byte
}

func (v *growingVessel) Grow(streams []wire.Stream) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range streams[len(v.m.streams)+len(v.grown):] {
		v.grown = append(v.grown, make([]byte, s.Bytes))
	}
	return nil
}

func (v *growingVessel) Put(stream uint16, piece uint32, data []byte) error {
	if i := int(stream) - len(v.m.streams); i >= 0 {
		v.mu.Lock()
		defer v.mu.Unlock()
		copy(v.grown[i][int64(piece)<<20:], data)
		return nil
	}
	return v.vessel.Put(stream, piece, data)
}

// A source that changes while it is sent: what replaces the old is announced,
// sent and stored; a piece that is not there any more holds nobody up.
func TestSourceThatChanges(t *testing.T) {
	m := newMemory(t, 15, false, 24<<20)
	g := &growing{memory: m, patch: map[uint16][]byte{}}
	g.change = func() { // after the first lap, before the second
		for p := range 24 {
			m.data[0][p<<20]++
		}
	}
	l := newLab(t, m, func(h *Head) { h.Source = g })
	var vs []*growingVessel
	var nodes []*labNode
	for i := range uint32(3) {
		nodes = append(nodes, l.add(i+1, m, func(k *Link, v *vessel) {
			if i == 1 { // misses pieces in lap 1
				v.fail = func(uint16, uint32) error {
					if v.puts.Load() <= 10 {
						return ErrNotYet
					}
					return nil
				}
			}
			gv := &growingVessel{vessel: v}
			vs = append(vs, gv)
			k.Sink = gv
		}))
	}
	out := l.run()
	for i, n := range nodes {
		if o := out[n.id]; !o.Complete || n.err != nil {
			t.Errorf("node %d: %+v, %v", n.id, o, n.err)
		}
		want := 1 // streams that a node complete after lap 1 must have
		if i == 1 {
			want = 2
		}
		if len(vs[i].grown) < want {
			t.Errorf("node %d was told of %d further streams, want %d", n.id, len(vs[i].grown), want)
			continue
		}
		for j := range want {
			if id := uint16(j) + 1; blake3.Sum256(vs[i].grown[j]) != blake3.Sum256(g.patch[id]) {
				t.Errorf("node %d has other bytes in stream %d", n.id, id)
			}
		}
	}
	if len(g.void) < 2 || count(g.void[1]) == 0 {
		t.Errorf("nothing was void in a second lap (%v): the test shows nothing", g.void)
	}
}

// restless is a source that is another one from some moment on.
type restless struct {
	*memory
	other atomic.Bool
}

func (r *restless) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	err := r.memory.ReadPiece(stream, piece, buf)
	if r.other.Load() {
		buf[0]++
	}
	return err
}

// The same from a source that can't replace what changed: whoever has it all
// is done, the others fail and the error says why.
func TestSourceThatChangesAndCannotSettle(t *testing.T) {
	m := newMemory(t, 16, false, 24<<20)
	src := &restless{memory: m}
	l := newLab(t, m, func(h *Head) { h.Source = src })
	fast := l.add(1, m, nil)
	slow := l.add(2, m, func(k *Link, v *vessel) {
		v.fail = func(uint16, uint32) error {
			if !src.other.Load() {
				return ErrNotYet
			}
			return nil
		}
	})
	go func() {
		<-fast.link.Complete()
		src.other.Store(true)
	}()
	out, err := l.head.Run(l.ctx)
	l.wg.Wait()
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("head: %v, want that the source is in use", err)
	}
	if !out[1].Complete || out[2].Complete || out[2].Err == nil || slow.err == nil {
		t.Errorf("outcomes %+v, slow node's link says %v", out, slow.err)
	}
}

// A node that has settled everything and never says what it misses is cut
// out: nobody waits for it for ever.
func TestNodeThatNeverEndsItsLap(t *testing.T) {
	m := newMemory(t, 17, false, 8<<20)
	l := newLab(t, m, func(h *Head) { h.Patience = 2 * time.Second })
	a := l.add(1, m, nil)
	l.add(2, m, func(k *Link, v *vessel) {
		tell := k.Tell
		k.Tell = func(r wire.LinkReport) {
			r.Lap, r.Missing, r.Complete = 0, nil, false
			tell(r)
		}
	})
	out := l.run()
	l.wantComplete(out, a)
	if out[2].Complete || out[2].Err == nil {
		t.Errorf("silent node: %+v", out[2])
	}
}
