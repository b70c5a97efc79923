package chain

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// memory is a source and what a sink must become.
type memory struct {
	streams []wire.Stream
	data    [][]byte
}

func newMemory(t testing.TB, seed uint64, compressible bool, sizes ...int) *memory {
	t.Helper()
	m := &memory{}
	src := rand.NewChaCha8([32]byte{byte(seed)})
	for i, n := range sizes {
		b := make([]byte, n)
		src.Read(b)
		if compressible {
			for j := range b {
				b[j] &= 3
			}
		}
		m.data = append(m.data, b)
		m.streams = append(m.streams, mebibytes(uint16(i), n))
	}
	return m
}

// mebibytes is a stream of n bytes in pieces of 1 MiB, however small it is: the
// tests count pieces.
func mebibytes(id uint16, n int) wire.Stream {
	return wire.Stream{ID: id, Kind: wire.ImageStream, PieceSize: 1 << 20, Pieces: uint32((n + 1<<20 - 1) >> 20), Bytes: int64(n)}
}

func (m *memory) Streams() []wire.Stream { return m.streams }

func (m *memory) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	s := m.streams[stream]
	if n := copy(buf, m.data[stream][int64(piece)*int64(s.PieceSize):]); n != len(buf) {
		return fmt.Errorf("short read")
	}
	return nil
}

// vessel is a sink in memory, as slow or as broken as a test wants.
type vessel struct {
	m     *memory
	data  [][]byte
	delay time.Duration
	fail  func(stream uint16, piece uint32) error
	puts  atomic.Int64
}

func newVessel(m *memory) *vessel {
	v := &vessel{m: m}
	for _, d := range m.data {
		v.data = append(v.data, make([]byte, len(d)))
	}
	return v
}

func (v *vessel) Put(stream uint16, piece uint32, data []byte) error {
	time.Sleep(v.delay)
	v.puts.Add(1)
	if v.fail != nil {
		if err := v.fail(stream, piece); err != nil {
			return err
		}
	}
	copy(v.data[stream][int64(piece)*int64(v.m.streams[stream].PieceSize):], data)
	return nil
}

func (v *vessel) equal() bool {
	for i := range v.data {
		if blake3.Sum256(v.data[i]) != blake3.Sum256(v.m.data[i]) {
			return false
		}
	}
	return true
}

// lab is a head and its nodes in one process, over loopback TCP; orders and
// reports go through queues, as they do over the control connection.
type lab struct {
	t     testing.TB
	ctx   context.Context
	head  *Head
	mu    sync.Mutex
	nodes map[uint32]*labNode
	wg    sync.WaitGroup
}

type labNode struct {
	id     uint32
	link   *Link
	sink   *vessel
	ln     net.Listener
	orders chan wire.LinkOrder
	cancel context.CancelFunc
	err    error
	doneAt time.Time
	ended  chan struct{} // Run has returned
}

func newLab(t testing.TB, m *memory, edit func(*Head)) *lab {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	l := &lab{t: t, ctx: ctx, nodes: map[uint32]*labNode{}}
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	l.head = &Head{Transfer: wire.TransferID{1, 2, 3}, Source: m, Identity: id, Log: testLog(t),
		Tell: func(n uint32, o wire.LinkOrder) {
			l.mu.Lock()
			defer l.mu.Unlock()
			select {
			case l.nodes[n].orders <- o:
			default:
				t.Errorf("node %d takes no orders", n)
			}
		}}
	if edit != nil {
		edit(l.head)
	}
	l.head.Start()
	t.Cleanup(func() { cancel(); l.wg.Wait() })
	return l
}

func testLog(t testing.TB) *slog.Logger {
	if testing.Verbose() {
		return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return slog.New(slog.DiscardHandler)
}

func (l *lab) add(n uint32, m *memory, edit func(*Link, *vessel)) *labNode {
	l.t.Helper()
	id, err := trust.New()
	if err != nil {
		l.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	node := &labNode{id: n, sink: newVessel(m), ln: ln, orders: make(chan wire.LinkOrder, 1000)}
	node.link = &Link{Transfer: l.head.Transfer, Self: n, Streams: m.streams, Identity: id, Plain: l.head.Plain,
		Sink: node.sink, Log: testLog(l.t).With("node", n)}
	reports := make(chan wire.LinkReport, 100000)
	node.link.Tell = func(r wire.LinkReport) { reports <- r }
	if edit != nil {
		edit(node.link, node.sink)
	}
	if err := node.link.Start(); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(l.ctx)
	node.cancel = cancel
	l.mu.Lock()
	l.nodes[n] = node
	l.mu.Unlock()
	node.ended = make(chan struct{})
	l.wg.Go(func() { node.err = node.link.Run(ctx, ln); node.doneAt = time.Now(); close(node.ended) })
	l.wg.Go(func() {
		for {
			select {
			case o := <-node.orders:
				node.link.Order(o)
			case r := <-reports:
				l.head.Report(n, r)
			case <-node.ended:
				return
			}
		}
	})
	l.head.Join(Member{ID: n, Addr: ln.Addr().String(), Pin: id.Pin, Queue: node.link.Queue,
		Holds: node.link.Holder != nil || node.link.Resume != nil})
	return node
}

// run runs the head and waits for the nodes.
func (l *lab) run() map[uint32]Outcome {
	l.t.Helper()
	out, err := l.head.Run(l.ctx)
	if err != nil {
		l.t.Fatalf("head: %v", err)
	}
	l.wg.Wait()
	return out
}

func (l *lab) wantComplete(out map[uint32]Outcome, nodes ...*labNode) {
	l.t.Helper()
	for _, n := range nodes {
		if o := out[n.id]; !o.Complete || n.err != nil {
			l.t.Errorf("node %d: outcome %+v, link says %v", n.id, o, n.err)
		}
		if !n.sink.equal() {
			l.t.Errorf("node %d: bytes differ", n.id)
		}
	}
}

func TestEveryNodeGetsEveryByte(t *testing.T) {
	for _, n := range []uint32{1, 2, 5} {
		for _, plain := range []bool{true, false} {
			for _, squash := range []bool{true, false} {
				t.Run(fmt.Sprintf("n=%d plain=%v compressible=%v", n, plain, squash), func(t *testing.T) {
					m := newMemory(t, uint64(n), squash, 3<<20+5, 0, 20<<20+17, 1)
					l := newLab(t, m, func(h *Head) { h.Plain, h.Compress = plain, 1 })
					var nodes []*labNode
					for i := range n {
						nodes = append(nodes, l.add(i+1, m, nil))
					}
					out := l.run()
					l.wantComplete(out, nodes...)
					p := l.head.Progress()
					if squash && p.Wire > p.Sent*2/3 || !squash && p.Wire != p.Sent {
						t.Errorf("%d bytes went as %d over the wire", p.Sent, p.Wire)
					}
				})
			}
		}
	}
}

func TestNothingToSend(t *testing.T) {
	m := newMemory(t, 1, false, 0)
	l := newLab(t, m, nil)
	l.wantComplete(l.run2(l.add(1, m, nil), l.add(2, m, nil)))
}

func (l *lab) run2(nodes ...*labNode) (map[uint32]Outcome, *labNode, *labNode) {
	return l.run(), nodes[0], nodes[1]
}

// A node that dies at any place in the chain is cut out, the rest finish.
func TestNodeDies(t *testing.T) {
	for _, dead := range []uint32{1, 3, 5} {
		t.Run(fmt.Sprint(dead), func(t *testing.T) {
			m := newMemory(t, uint64(dead), false, 64<<20)
			l := newLab(t, m, nil)
			var rest []*labNode
			for i := uint32(1); i <= 5; i++ {
				if i == dead {
					l.add(i, m, func(k *Link, v *vessel) {
						v.fail = func(uint16, uint32) error {
							if v.puts.Load() == 20 {
								l.head.Leave(i, errors.New("killed"))
								go l.nodes[i].cancel()
							}
							return nil
						}
					})
					continue
				}
				rest = append(rest, l.add(i, m, func(k *Link, v *vessel) { v.delay = 2 * time.Millisecond }))
			}
			out := l.run()
			l.wantComplete(out, rest...)
			if out[dead].Complete || out[dead].Err == nil {
				t.Errorf("dead node: %+v", out[dead])
			}
		})
	}
}

// The same when nobody tells golden: the neighbour finds it out.
func TestNodeDiesSilently(t *testing.T) {
	m := newMemory(t, 9, false, 64<<20)
	l := newLab(t, m, nil)
	a := l.add(1, m, nil)
	var b *labNode
	b = l.add(2, m, func(k *Link, v *vessel) {
		v.fail = func(uint16, uint32) error {
			if v.puts.Load() == 10 {
				go b.cancel()
			}
			return nil
		}
	})
	c := l.add(3, m, nil)
	out := l.run()
	l.wantComplete(out, a, c)
	if out[2].Complete {
		t.Errorf("dead node: %+v", out[2])
	}
}

// When a node hangs, all before it stall too. Once it is cut out, whoever was
// accused in the meantime is to be judged anew.
func TestCutClearsTheStallsBehindIt(t *testing.T) {
	l := newLab(t, newMemory(t, 1, false, 1<<20), nil)
	h := l.head
	h.Tell = func(uint32, wire.LinkOrder) {}
	for i := uint32(1); i <= 3; i++ {
		h.Join(Member{ID: i, Addr: "127.0.0.1:1"})
	}
	for i := uint32(1); i <= 2; i++ {
		lost := wire.LinkReport{Transfer: h.Transfer, Lost: &wire.Trouble{Peer: i, Epoch: h.hops[[2]uint32{i - 1, i}], Stall: true}}
		h.Report(i-1, lost)
		h.members[i].stallBegan = time.Now().Add(-h.Quiet)
	}
	h.Leave(2, errors.New("silent"))
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cutStalled()
	if h.members[1].cause != nil {
		t.Errorf("node 1, which node 2 held up, was cut out too: %v", h.members[1].cause)
	}
	h.members[1].stalled, h.members[1].stallBegan = time.Now(), time.Now().Add(-h.Quiet)
	h.cutStalled()
	if h.members[1].cause == nil {
		t.Error("a node that takes nothing was not cut out")
	}
}

// Two neighbours die at once; the ring of the one before serves the one after.
func TestTwoNeighboursDie(t *testing.T) {
	m := newMemory(t, 7, false, 64<<20)
	l := newLab(t, m, nil)
	a := l.add(1, m, nil)
	kill := func(k *Link, v *vessel) {
		v.fail = func(uint16, uint32) error {
			if v.puts.Load() == 15 {
				go func() {
					l.nodes[2].cancel()
					l.nodes[3].cancel()
					l.head.Leave(3, errors.New("killed"))
					l.head.Leave(2, errors.New("killed"))
				}()
			}
			return nil
		}
	}
	l.add(2, m, nil)
	l.add(3, m, kill)
	d := l.add(4, m, nil)
	e := l.add(5, m, nil)
	l.wantComplete(l.run(), a, d, e)
}

// A slow disk costs its node another lap; the others are done long before. It
// is a quarter as fast as that of the first node, however fast that one is.
func TestSlowDiskHoldsNobodyUp(t *testing.T) {
	m := newMemory(t, 3, false, 48<<20)
	l := newLab(t, m, nil)
	var first *vessel
	fast := []*labNode{l.add(1, m, func(k *Link, v *vessel) { first = v }), l.add(3, m, nil), l.add(4, m, nil)}
	slow := l.add(2, m, func(k *Link, v *vessel) {
		k.Queue, k.Workers = 4, 1
		v.fail = func(uint16, uint32) error {
			time.Sleep(10 * time.Millisecond)
			for all := int64(m.streams[0].Pieces); first.puts.Load() < min(4*v.puts.Load(), all) && l.ctx.Err() == nil; {
				time.Sleep(time.Millisecond)
			}
			return nil
		}
	})
	at := make(chan time.Time, len(fast))
	for _, n := range fast {
		go func() { <-n.link.Complete(); at <- time.Now() }()
	}
	out := l.run()
	l.wantComplete(out, append(fast, slow)...)
	if l.head.Progress().Lap < 2 {
		t.Error("the slow node needed no second lap: the test shows nothing")
	}
	for range fast {
		if d := slow.doneAt.Sub(<-at); d <= 0 {
			t.Errorf("a fast node was done %v before the slow one", d)
		}
	}
}

// A sink that fails makes its node fail, and nobody else.
func TestBrokenDiskGoesOnRelaying(t *testing.T) {
	m := newMemory(t, 4, false, 48<<20)
	l := newLab(t, m, nil)
	a := l.add(1, m, nil)
	l.add(2, m, func(k *Link, v *vessel) {
		v.fail = func(uint16, uint32) error {
			if v.puts.Load() > 5 {
				return errors.New("write /mnt/disk/x: no space left on device")
			}
			return nil
		}
	})
	c := l.add(3, m, nil)
	out := l.run()
	l.wantComplete(out, a, c)
	if o := out[2]; o.Complete || o.Err == nil || !bytes.Contains([]byte(o.Err.Error()), []byte("no space left")) {
		t.Errorf("broken node: %+v", o)
	}
}

// A sink that is not ready yet gets its pieces in the next lap.
func TestNotYet(t *testing.T) {
	m := newMemory(t, 5, false, 2<<20, 30<<20)
	l := newLab(t, m, nil)
	n := l.add(1, m, func(k *Link, v *vessel) {
		v.fail = func(s uint16, _ uint32) error {
			if s == 1 && v.puts.Load() < 10 {
				return ErrNotYet
			}
			return nil
		}
	})
	l.wantComplete(l.run(), n)
	if l.head.Progress().Lap < 2 {
		t.Error("no second lap")
	}
}

// A late node joins at any time, the ring long past what it missed, and even
// when a lap is over.
func TestLateNodeJoins(t *testing.T) {
	const pieces = 64
	for name, at := range map[string]int64{"10 %": pieces / 10, "50 %": pieces / 2, "95 %": pieces * 95 / 100, "after lap 1": 0} {
		t.Run(name, func(t *testing.T) {
			m := newMemory(t, 6, false, pieces<<20)
			l := newLab(t, m, func(h *Head) { h.Ring = 8 << 20 })
			late := make(chan *labNode, 1)
			join := sync.OnceFunc(func() {
				l.head.Expect(1)
				go func() {
					defer l.head.Expect(-1)
					late <- l.add(3, m, nil)
				}()
			})
			a := l.add(1, m, func(k *Link, v *vessel) {
				k.Ring = 8 << 20
				v.fail = func(uint16, uint32) error {
					if at > 0 && v.puts.Load() >= at {
						join()
					}
					return nil
				}
				v.delay = 5 * time.Millisecond
			})
			b := l.add(2, m, func(k *Link, v *vessel) { // makes a second lap
				v.fail = func(uint16, uint32) error {
					if l.head.Progress().Lap > 1 {
						join()
					} else if v.puts.Load() <= 10 {
						return ErrNotYet
					}
					return nil
				}
			})
			out := l.run()
			l.wantComplete(out, a, b, <-late)
		})
	}
}

// liar flips one byte of what goes through it, every so often.
type liar struct {
	net.Conn
	left int
	n    *atomic.Int64
}

func (c *liar) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 && len(b) > 1000 && c.n.Add(-1) >= 0 {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 1
		c.left = 4 << 20
	}
	return c.Conn.Write(b)
}

func TestWrongPieceIsNeitherStoredNorForwarded(t *testing.T) {
	m := newMemory(t, 8, false, 64<<20)
	l := newLab(t, m, func(h *Head) { h.Plain = true })
	a := l.add(1, m, nil)
	var lies atomic.Int64
	lies.Store(2)
	b := l.add(2, m, func(k *Link, v *vessel) {
		k.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dialTCP(ctx, addr)
			return &liar{Conn: c, left: 5 << 20, n: &lies}, err
		}
	})
	c := l.add(3, m, nil)
	l.wantComplete(l.run(), a, b, c)
	if lies.Load() > 0 {
		t.Error("nothing was corrupted: the test shows nothing")
	}
}

func TestNodeThatCorruptsIsCutOut(t *testing.T) {
	m := newMemory(t, 8, false, 64<<20)
	l := newLab(t, m, func(h *Head) { h.Plain = true })
	a := l.add(1, m, nil)
	var lies atomic.Int64
	lies.Store(1000)
	l.add(2, m, func(k *Link, v *vessel) {
		k.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
			c, err := dialTCP(ctx, addr)
			return &liar{Conn: c, left: 5 << 20, n: &lies}, err
		}
	})
	c := l.add(3, m, nil)
	out := l.run()
	l.wantComplete(out, a, c)
	if out[2].Complete {
		t.Error("the corrupting node was not cut out")
	}
}

// A stranger who knows the port, and one who knows even the hello, get nothing.
func TestStrangersAreRefused(t *testing.T) {
	m := newMemory(t, 2, false, 1<<20)
	l := newLab(t, m, nil)
	n := l.add(1, m, nil)
	stranger, _ := trust.New()
	from := &outlet{identity: stranger}
	from.init()
	hello := wire.Hello{Transfer: l.head.Transfer, Epoch: 1, From: 0, To: 1}
	_, _, _, err := from.connect(l.ctx, hello, wire.Peer{Addr: n.ln.Addr().String(), Pin: n.link.Identity.Pin})
	if !errors.Is(err, errRefused) {
		t.Errorf("stranger: %v, want %v", err, errRefused)
	}
	var foreign *trust.ForeignKeyError
	_, _, _, err = from.connect(l.ctx, hello, wire.Peer{Addr: n.ln.Addr().String(), Pin: stranger.Pin})
	if !errors.As(err, &foreign) {
		t.Errorf("node with a foreign key: %v, want a ForeignKeyError", err)
	}
	l.wantComplete(l.run(), n)
}
