package chain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Memory that a hop takes, in bytes. The ring must outlast what can be under
// way to a few dead neighbours in a row; the lag is how far the sender may
// fall behind before the hop pushes back.
const (
	DefaultRing = 64 << 20
	maxLag      = 8 << 20
)

// outlet is the way to the next node: the ring of the last frames, and the
// goroutine that sends them. The head and every link have one; a tail's has
// nobody to send to.
//
//	push ─▶ [ sent, kept for replay │ not sent yet ] ─▶ next
//	         oldest                 ▲ cursor
type outlet struct {
	// config
	self     uint32
	transfer wire.TransferID
	identity *trust.Identity
	plain    bool
	dial     Dialer
	ringMax  int
	quiet    time.Duration
	wait     patience
	trouble  func(wire.Trouble) // must not block
	pace     func(wire.Hop)     // the same

	// state
	mu     sync.Mutex
	cond   *sync.Cond
	ring   []*frame // oldest first
	bytes  int      // in ring
	cursor int      // index of the next frame to send
	unsent int      // bytes from there on
	next   *wire.Peer
	lost   uint32 // epoch of a neighbour given up
	conn   io.Closer
	closed bool
}

func (o *outlet) init() {
	o.cond = sync.NewCond(&o.mu)
	if o.dial == nil {
		o.dial = dialTCP
	}
	if o.quiet == 0 {
		o.quiet = DefaultQuiet
	}
	o.wait.fill(o.quiet)
	if o.ringMax == 0 {
		o.ringMax = DefaultRing
	}
}

var errClosed = errors.New("chain is closed")

// push puts a frame into the ring. It waits only for the next node.
func (o *outlet) push(f *frame) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.next != nil && o.unsent >= maxLag && !o.closed {
		if o.next.Shed && f.Kind != wire.LapEnd {
			o.leaveOut()
			break
		}
		o.cond.Wait()
	}
	if o.closed {
		return errClosed
	}
	o.ring = append(o.ring, f.hold())
	o.bytes += f.size()
	if o.next == nil {
		o.cursor = len(o.ring)
	} else {
		o.unsent += f.size()
	}
	o.trim()
	o.cond.Broadcast()
	return nil
}

// waiting is how many bytes are not sent yet.
func (o *outlet) waiting() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unsent
}

// leaveOut moves the cursor on to the newest frames: the next node's link is
// slow, and what it does not get now it gets in another lap. The end of a lap
// is never among them, for nothing follows it until the node has it.
func (o *outlet) leaveOut() {
	for o.unsent > maxLag/2 && o.cursor < len(o.ring) {
		o.unsent -= o.ring[o.cursor].size()
		o.cursor++
	}
	o.trim()
}

// trim drops the oldest frames that are sent and too many.
func (o *outlet) trim() {
	n := 0
	for n < o.cursor && o.bytes > o.ringMax {
		o.bytes -= o.ring[n].size()
		o.ring[n].drop()
		o.ring[n] = nil
		n++
	}
	o.ring = o.ring[n:]
	o.cursor -= n
}

// setNext names the next node, or nobody. What is under way to another one is
// broken off.
func (o *outlet) setNext(p *wire.Peer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if same(o.next, p) {
		if p != nil {
			o.next = p // it may be of another pace
			o.cond.Broadcast()
		}
		return
	}
	o.next = p
	if o.conn != nil {
		o.conn.Close()
	}
	if p == nil {
		o.cursor, o.unsent = len(o.ring), 0
		o.trim()
	}
	o.cond.Broadcast()
}

func same(a, b *wire.Peer) bool {
	return a == b || a != nil && b != nil && a.ID == b.ID && a.Epoch == b.Epoch
}

// close ends run and every push.
func (o *outlet) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	if o.conn != nil {
		o.conn.Close()
	}
	for _, f := range o.ring {
		f.drop()
	}
	o.ring, o.cursor, o.unsent, o.bytes = nil, 0, 0, 0
	o.cond.Broadcast()
}

// run sends until close. It must be called once.
func (o *outlet) run(ctx context.Context) {
	stop := context.AfterFunc(ctx, o.close)
	defer stop()
	tries := 0
	for {
		p, ok := o.await()
		if !ok {
			return
		}
		sent, err := o.feed(ctx, p)
		if sent > 0 {
			tries = 0
		}
		if !o.wants(p) {
			tries = 0
			continue
		}
		if tries++; tries < redials {
			pause(ctx, redialPause)
			continue
		}
		tries = 0
		o.giveUp(p, err)
	}
}

// await gives the next node when there is one worth trying.
func (o *outlet) await() (wire.Peer, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && (o.next == nil || o.next.Epoch == o.lost) {
		o.cond.Wait()
	}
	if o.closed {
		return wire.Peer{}, false
	}
	return *o.next, true
}

func (o *outlet) wants(p wire.Peer) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !o.closed && same(o.next, &p)
}

func (o *outlet) giveUp(p wire.Peer, err error) {
	o.mu.Lock()
	closed := o.closed
	o.lost = p.Epoch
	o.mu.Unlock()
	if closed {
		return
	}
	o.trouble(wire.Trouble{Peer: p.ID, Epoch: p.Epoch, Why: err.Error()})
}

// feed connects to the next node and sends until something changes.
func (o *outlet) feed(ctx context.Context, p wire.Peer) (sent int, err error) {
	hello := wire.Hello{Transfer: o.transfer, Epoch: p.Epoch, From: o.self, To: p.ID}
	c, m, last, err := o.connect(ctx, hello, p)
	if err != nil {
		return 0, err
	}
	if !o.begin(p, m, last) {
		m.Close()
		return 0, errClosed
	}
	watched, stopWatch := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { o.watch(watched, p, m) })
	wg.Go(func() { o.hearEnd(c, m) })
	defer wg.Wait()
	defer m.Close()
	defer stopWatch()
	for {
		f, ok := o.take(p)
		if !ok {
			return sent, fmt.Errorf("node %d at %s closed the connection", p.ID, p.Addr)
		}
		_, err := c.Write(f.buf)
		o.wrote(p, f, err == nil)
		f.drop()
		if err != nil {
			return sent, fmt.Errorf("send to node %d at %s: %w", p.ID, p.Addr, err)
		}
		sent++
	}
}

// begin sets the cursor behind what the next node already has. One that has
// nothing at all comes late, or anew: while it is given old frames, all before
// it would wait, so it gets what nobody was sent yet, of the others no more than
// may be under way at any time, and the rest in another lap.
func (o *outlet) begin(p wire.Peer, c io.Closer, last uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed || !same(o.next, &p) {
		return false
	}
	o.conn = c
	fresh := o.cursor
	o.cursor, o.unsent = len(o.ring), 0
	for o.cursor > 0 && o.ring[o.cursor-1].Seq > last && (last > 0 || o.cursor > fresh || o.unsent < maxLag) {
		o.cursor--
		o.unsent += o.ring[o.cursor].size()
	}
	o.cond.Broadcast()
	return true
}

// take waits for the frame at the cursor.
func (o *outlet) take(p wire.Peer) (*frame, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !o.closed && same(o.next, &p) && o.conn != nil && o.cursor >= len(o.ring) {
		o.cond.Wait()
	}
	if o.closed || !same(o.next, &p) || o.conn == nil {
		return nil, false
	}
	return o.ring[o.cursor].hold(), true
}

// wrote moves the cursor past a frame. A frame whose write failed stays
// unsent: the neighbour will say what it has.
func (o *outlet) wrote(p wire.Peer, f *frame, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !ok {
		o.conn = nil
		return
	}
	if o.closed || !same(o.next, &p) || o.cursor >= len(o.ring) || o.ring[o.cursor] != f {
		return
	}
	o.cursor++
	o.unsent -= f.size()
	o.trim()
	o.cond.Broadcast()
}

// watch reports, once a second, how fast the hop is, and that nothing moves
// although something should. After twice the time that golden has to do
// something about that, the connection is given up.
func (o *outlet) watch(ctx context.Context, p wire.Peer, m *metered) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	moved, since := int64(-1), time.Now()
	var g gauge
	g.read(m.Conn)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if r, ok := g.read(m.Conn); ok {
			r.Peer, r.Epoch = p.ID, p.Epoch
			o.pace(r)
		}
		o.mu.Lock()
		idle := o.cursor >= len(o.ring)
		o.mu.Unlock()
		if n := m.moved.Load(); n != moved || idle {
			moved, since = n, time.Now()
			continue
		}
		d := time.Since(since)
		if o.wait.stall <= 0 {
			continue
		}
		if d >= o.wait.stall {
			o.trouble(wire.Trouble{Peer: p.ID, Epoch: p.Epoch, Stall: true,
				Why: fmt.Sprintf("node %d at %s took nothing for %d s", p.ID, p.Addr, int(d.Seconds()))})
		}
		if d >= 6*o.wait.stall {
			m.Close()
		}
	}
}

// hearEnd waits for the other side to close: it never says anything else.
func (o *outlet) hearEnd(c net.Conn, m *metered) {
	io.Copy(io.Discard, c)
	m.Close()
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.conn == io.Closer(m) {
		o.conn = nil
		o.cond.Broadcast()
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
