package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Link is a node's end of the chain.
type Link struct {
	// config
	Transfer wire.TransferID
	Self     uint32 // the node's number in the chain
	Streams  []wire.Stream
	Identity *trust.Identity
	Plain    bool
	Sink     Sink
	Queue    int           // pieces of wire.PieceSize that may wait for the sink; default DefaultQueue
	Ring     int           // bytes kept for replay; default DefaultRing
	Workers  int           // that call the sink; default 4
	Quiet    time.Duration // a neighbour silent for so long is gone; default DefaultQuiet
	Log      *slog.Logger
	Tell     func(wire.LinkReport) // must not block; called from many goroutines
	Dial     Dialer                // default TCP
	Holder   Holder                // finds what is here already; nil: nothing is
	Resume   *Link                 // that this one takes over from, of the same source: what it stored is here

	// state
	pool    buffers
	outlet  outlet
	openers []*opener
	queue   chan task
	slots   int // in the queue
	guests  sync.WaitGroup
	reading sync.Mutex // held by the one connection that is read

	mu       sync.Mutex
	cond     *sync.Cond
	inlet    net.Conn
	prev     wire.Peer
	lastSeq  uint64
	streams  []wire.Stream
	stopped  bool // Run is about to return
	ordered  bool // golden has given it its place
	open     bool // golden may announce further streams
	ledger   *ledger
	held     *ledger // what was here before, and isn't known to be golden's yet
	pending  uint64  // pieces with the sink
	told     uint64  // settled, as golden knows it
	lap      uint32  // that has ended but is not settled
	broken   error   // the sink's
	finished bool    // Complete was told
	over     bool
	done     chan struct{} // closed when every piece is stored
	ended    chan struct{} // closed when golden ends the transfer
}

// DefaultQueue is how much may wait for the sink, in pieces of wire.PieceSize.
const DefaultQueue = 48

// perQueue is how many pieces of these streams count as one in a queue.
func perQueue(streams []wire.Stream) int {
	largest := uint32(wire.MinPieceSize)
	for _, s := range streams {
		largest = max(largest, s.PieceSize)
	}
	return max(1, wire.PieceSize/int(largest))
}

// task is a piece for the sink.
type task struct {
	h wire.Header
	p *loan
}

// Start makes the link ready for orders; Run does the work.
func (l *Link) Start() error {
	if l.Queue == 0 {
		l.Queue = DefaultQueue
	}
	if l.Workers == 0 {
		l.Workers = 4
	}
	for range max(1, min(maxCheckers, runtime.GOMAXPROCS(0))) {
		o, err := newOpener()
		if err != nil {
			return err
		}
		l.openers = append(l.openers, o)
	}
	l.cond = sync.NewCond(&l.mu)
	l.streams = l.Streams
	l.ledger, l.held = newLedger(l.Streams), newLedger(l.Streams)
	if l.Resume != nil {
		same := l.takeOver(l.Resume)
		if g, ok := l.Sink.(Grower); ok && !same {
			if err := g.Grow(l.Streams); err != nil {
				return fmt.Errorf("take up the transfer: %w", err)
			}
		}
	}
	l.slots = l.Queue * perQueue(l.Streams)
	l.queue = make(chan task, l.slots)
	l.done, l.ended = make(chan struct{}), make(chan struct{})
	l.outlet.self, l.outlet.transfer = l.Self, l.Transfer
	l.outlet.identity, l.outlet.plain = l.Identity, l.Plain
	l.outlet.ringMax, l.outlet.dial, l.outlet.quiet = l.Ring, l.Dial, l.Quiet
	l.outlet.trouble = func(t wire.Trouble) {
		l.Log.Warn("trouble with the next node", "node", t.Peer, "err", t.Why)
		l.Tell(wire.LinkReport{Transfer: l.Transfer, Lost: &t})
	}
	l.outlet.pace = func(h wire.Hop) { l.Tell(wire.LinkReport{Transfer: l.Transfer, Hop: &h}) }
	l.outlet.init()
	return nil
}

// Order carries out what golden says. It does not wait.
func (l *Link) Order(o wire.LinkOrder) {
	if o.Transfer != l.Transfer {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return
	}
	if o.End {
		l.over = true
		close(l.ended)
	} else {
		l.prev, l.open, l.ordered = o.Prev, o.Open, true
		l.grow(o.Streams)
		l.outlet.setNext(o.Next)
	}
	l.cond.Broadcast()
	l.finishIfComplete()
}

// grow takes in streams that golden announces in the middle of a transfer.
// Who is complete needs no more.
func (l *Link) grow(streams []wire.Stream) {
	if len(streams) <= len(l.streams) || l.finished {
		return
	}
	g, ok := l.Sink.(Grower)
	if !ok {
		l.fail(fmt.Errorf("golden announces %d streams, the sink takes %d", len(streams), len(l.streams)))
		return
	}
	if err := g.Grow(streams); err != nil {
		l.fail(fmt.Errorf("take further streams: %w", err))
		return
	}
	l.streams = streams
	l.ledger.grow(streams)
	l.held.grow(streams)
}

// fail notes that the sink takes no more; the link goes on relaying.
func (l *Link) fail(err error) {
	if l.broken != nil {
		return
	}
	l.broken = err
	l.Log.Error("the disk takes no more; relaying on", "err", err)
	l.Tell(wire.LinkReport{Transfer: l.Transfer, Broken: err.Error()})
}

// Complete is closed when every piece is stored. The link goes on relaying.
func (l *Link) Complete() <-chan struct{} { return l.done }

// ErrIncomplete is a transfer that golden ended before this node had it all.
var ErrIncomplete = errors.New("golden ended the transfer before all pieces were here")

// Run relays and stores until golden ends the transfer. The caller keeps the
// listener; Run closes it.
func (l *Link) Run(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	var sinks, rest sync.WaitGroup
	for range l.Workers {
		sinks.Go(l.store)
	}
	rest.Go(func() { l.outlet.run(ctx) })
	rest.Go(func() { l.pulse(ctx) })
	rest.Go(func() { l.claim(ctx) })
	var acceptErr error
	rest.Go(func() {
		if acceptErr = l.accept(ctx, ln); acceptErr != nil {
			cancel()
		}
	})
	select {
	case <-ctx.Done():
	case <-l.ended:
	}
	err := ctx.Err()
	cancel()
	l.mu.Lock()
	l.stopped = true
	l.cond.Broadcast()
	l.mu.Unlock()
	rest.Wait()
	l.guests.Wait()
	close(l.queue)
	sinks.Wait()
	for _, o := range l.openers {
		o.close()
	}
	return l.verdict(errors.Join(err, acceptErr))
}

func (l *Link) verdict(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.broken != nil:
		return l.broken
	case err != nil:
		return err
	case !l.ledger.complete():
		return fmt.Errorf("%w: %d of %d", ErrIncomplete, l.ledger.held, l.ledger.total)
	}
	return nil
}

func (l *Link) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lastSeq
}

// settle notes a frame that went on its way, and offers its piece to the sink.
func (l *Link) settle(f *frame, p *loan) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lastSeq = f.Seq
	switch {
	case f.Kind == wire.LapEnd:
		l.lap = f.Lap
		l.endLap()
		return
	case l.broken != nil || l.finished || l.ledger.has(f.Stream, f.Piece, f.Hash):
		return // only passed on
	case f.Kind == wire.KeptFrame && !l.held.has(f.Stream, f.Piece, f.Hash),
		f.Kind == wire.VoidFrame && int(f.Flags) > len(l.streams):
		return
	case f.Kind != wire.PieceFrame || l.held.has(f.Stream, f.Piece, f.Hash):
		l.ledger.add(f.Stream, f.Piece, f.Hash)
		l.finishIfComplete()
		return
	}
	select {
	case l.queue <- task{f.Header, p.hold()}:
		l.pending++
	default: // let it go by: it comes again in the next lap
		p.drop()
	}
}

// store is one worker: it gives pieces to the sink.
func (l *Link) store() {
	for t := range l.queue {
		l.mu.Lock()
		skip := l.broken != nil || l.stopped
		l.mu.Unlock()
		var err error
		if !skip {
			err = l.Sink.Put(t.h.Stream, t.h.Piece, t.p.data)
		}
		t.p.drop()
		l.stored(t.h, skip, err)
	}
}

func (l *Link) stored(h wire.Header, skipped bool, err error) {
	l.mu.Lock()
	l.pending--
	switch {
	case skipped || errors.Is(err, ErrNotYet):
	case err != nil:
		l.fail(err)
	default:
		l.ledger.add(h.Stream, h.Piece, h.Hash)
	}
	l.endLap()
	if s := l.lastSeq - l.pending; s >= l.told+uint64(max(1, l.slots/4)) {
		l.tellProgress()
	}
	l.finishIfComplete()
	l.mu.Unlock()
}

// endLap tells golden what is missing once the lap's last piece is settled.
func (l *Link) endLap() {
	if l.lap == 0 || l.pending > 0 {
		return
	}
	r := l.progress()
	r.Lap = l.lap
	if l.broken == nil {
		r.Missing = l.ledger.missing()
	}
	l.lap = 0
	l.Tell(r)
}

func (l *Link) finishIfComplete() {
	if !l.ledger.complete() || l.open || l.pending > 0 || l.finished || l.broken != nil || !l.ordered {
		return
	}
	l.finished = true
	r := l.progress()
	root, _ := l.ledger.root(len(l.streams))
	r.Complete, r.Root, r.Streams = true, &root, len(l.streams)
	l.Tell(r)
	close(l.done)
}

func (l *Link) progress() wire.LinkReport {
	return wire.LinkReport{Transfer: l.Transfer, Settled: l.lastSeq - l.pending, Stored: l.ledger.bytes, Held: l.ledger.held}
}

func (l *Link) tellProgress() {
	r := l.progress()
	l.told = r.Settled
	l.Tell(r)
}

// pulse tells golden of progress that came too slowly to tell of itself.
func (l *Link) pulse(ctx context.Context) {
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		l.mu.Lock()
		if l.lastSeq-l.pending != l.told {
			l.tellProgress()
		}
		l.mu.Unlock()
	}
}
