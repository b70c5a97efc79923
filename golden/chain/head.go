package chain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Head is golden's end of the chain.
type Head struct {
	// config
	Transfer wire.TransferID
	Source   Source
	Digest   string // names the source: nodes that come back know by it what they hold
	Identity *trust.Identity
	Plain    bool
	Compress Compression
	Share    float64       // of the nodes that miss pieces, how many the head waits for; default 0.5
	Patience time.Duration // a node that gets nowhere for so long is cut out; default a minute
	Quiet    time.Duration // a node silent for so long is gone; default DefaultQuiet
	Ring     int           // bytes kept for replay; default DefaultRing
	Log      *slog.Logger
	Tell     func(node uint32, o wire.LinkOrder) // must not block
	Dial     Dialer                              // default TCP

	// state
	pool   buffers
	outlet outlet

	mu       sync.Mutex
	cond     *sync.Cond
	streams  []wire.Stream
	open     bool    // the source may yet announce streams
	closedAt int     // how many streams there were when it said that these are all
	ledger   *ledger // hashes of what was sent
	claims   claims
	members  map[uint32]*member
	order    []uint32 // the chain
	hops     map[[2]uint32]uint32
	accused  map[uint32]uint32 // by who got wrong pieces: who was cut out for it; itself in the end
	epoch    uint32
	seq      uint64
	sent     int64 // bytes, of pieces, all laps
	wireLen  int64 // the same as stored in frames
	kept     int64 // bytes that needn't be sent
	lap      uint32
	ending   bool // the lap was sent, and nodes are still to say what they miss of it
	expected int  // late nodes on their way
	over     bool
}

// Member is a node that takes part.
type Member struct {
	ID    uint32
	Addr  string // where it takes frames
	Pin   trust.Pin
	Queue int  // pieces of wire.PieceSize that may wait for its sink
	Holds bool // it will report what it holds already
}

// member is what the head knows of a node.
type member struct {
	Member
	holdings
	settled    uint64
	stored     int64
	held       uint64
	lap        uint32 // the last that it reported the end of
	missing    []wire.Range
	idle       int // laps in which it got nothing
	complete   bool
	broken     string
	cause      error // why it was cut out, or failed
	strikes    int
	struck     time.Time // when the last was
	lostPeer   uint32    // a node that it said it can't reach, and that was cut out for it
	bad        int
	stalled    time.Time // when the one before last said that it takes nothing
	stallBegan time.Time
	moved      time.Time // when settled last grew, or there was nothing to settle
	hop        pace      // of the hop to it
	shed       bool      // its link is slow: it is last, and what it can't take is left out
	retired    bool      // complete, and gone
	told       wire.LinkOrder
}

// Outcome is how a node came out of a transfer.
type Outcome struct {
	Complete bool
	Stored   int64
	Err      error
}

// Progress is how far a transfer is.
type Progress struct {
	Lap   uint32
	Bytes int64 // of one copy
	Sent  int64 // true bytes sent so far, all laps
	Wire  int64 // the same as they went over the first hop
	Kept  int64 // bytes that everybody held already
	Nodes map[uint32]NodeProgress
}

// NodeProgress is how far a node is.
type NodeProgress struct {
	Stored   int64
	Complete bool
}

// Start makes the head ready for Join, Leave and Report; Run does the work.
func (h *Head) Start() {
	if h.Share == 0 {
		h.Share = 0.5
	}
	if h.Patience == 0 {
		h.Patience = time.Minute
	}
	if h.Quiet == 0 {
		h.Quiet = DefaultQuiet
	}
	h.streams = h.Source.Streams()
	_, h.open = h.Source.(Settler)
	h.closedAt = len(h.streams)
	h.cond = sync.NewCond(&h.mu)
	h.ledger = newLedger(h.streams)
	h.members, h.hops, h.accused = map[uint32]*member{}, map[[2]uint32]uint32{}, map[uint32]uint32{}
	h.outlet.transfer, h.outlet.identity, h.outlet.plain = h.Transfer, h.Identity, h.Plain
	h.outlet.ringMax, h.outlet.dial, h.outlet.quiet = h.Ring, h.Dial, h.Quiet
	h.outlet.trouble = func(t wire.Trouble) {
		h.Log.Warn("trouble with the first node", "node", t.Peer, "err", t.Why)
		h.Report(0, wire.LinkReport{Transfer: h.Transfer, Lost: &t})
	}
	h.outlet.pace = func(r wire.Hop) { h.Report(0, wire.LinkReport{Transfer: h.Transfer, Hop: &r}) }
	h.outlet.init()
}

// Join puts a node at the tail of the chain, now or in the middle of a
// transfer: what it missed comes in the next lap.
func (h *Head) Join(m Member) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over || h.members[m.ID] != nil && h.members[m.ID].cause == nil {
		return
	}
	if m.Queue <= 0 {
		m.Queue = DefaultQueue
	}
	m.Queue *= perQueue(h.streams)
	h.members[m.ID] = &member{Member: m, holdings: holdings{awaited: m.Holds}, moved: time.Now(), settled: h.seq}
	h.order = append(h.order, m.ID)
	h.relink()
}

// Expect adds to the number of late nodes that are on their way: Run does not
// end before they have joined, or will not come.
func (h *Head) Expect(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.expected += n
	h.cond.Broadcast()
}

// Retire lets a node go that is complete. What becomes of it later doesn't
// change how it came out.
func (h *Head) Retire(id uint32) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.members[id]
	if m == nil || !m.complete || m.cause != nil || m.retired {
		return
	}
	m.retired = true
	h.remove(id)
}

// Cause is why a node was cut out, or nil.
func (h *Head) Cause(id uint32) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.members[id]; m != nil {
		return m.cause
	}
	return nil
}

// remove takes a node out of the order.
func (h *Head) remove(id uint32) {
	h.order = slices.DeleteFunc(h.order, func(o uint32) bool { return o == id })
	// Should it come back behind the same node, that is a new hop: the old one
	// was given up.
	maps.DeleteFunc(h.hops, func(k [2]uint32, _ uint32) bool { return k[0] == id || k[1] == id })
	h.Tell(id, wire.LinkOrder{Transfer: h.Transfer, End: true})
	h.relink()
}

// Leave cuts a node out; its neighbours are joined.
func (h *Head) Leave(id uint32, why error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cut(id, why)
}

func (h *Head) cut(id uint32, why error) {
	m := h.members[id]
	if m == nil || m.cause != nil || m.retired || h.over {
		return
	}
	m.cause = why
	for _, o := range h.members { // who stalled behind it gets a new chance
		o.stalled = time.Time{}
	}
	h.Log.Warn("node is cut out of the chain", "node", id, "addr", m.Addr, "why", why)
	h.remove(id) // and tell it, should it live after all
}

// relink tells every node whose neighbours have changed.
func (h *Head) relink() {
	defer h.cond.Broadcast()
	prev := wire.Peer{ID: 0, Pin: h.Identity.Pin}
	for i, id := range h.order {
		m := h.members[id]
		o := wire.LinkOrder{
			Transfer: h.Transfer, Source: h.Digest, Streams: h.streams, Open: h.open, Plain: h.Plain,
			Quiet: int(h.Quiet.Milliseconds()), Prev: prev, End: h.over,
		}
		o.Prev.Epoch = h.hop(prev.ID, id)
		if i == 0 {
			h.outlet.setNext(h.peer(m, o.Prev.Epoch))
		}
		if i+1 < len(h.order) {
			n := h.members[h.order[i+1]]
			o.Next = h.peer(n, h.hop(id, n.ID))
		}
		if changed(m.told, o) {
			m.told = o
			h.Tell(id, o)
		}
		prev = wire.Peer{ID: id, Pin: m.Pin}
	}
	if len(h.order) == 0 {
		h.outlet.setNext(nil)
	}
}

// changed tells whether a node that was told one thing must be told the other.
func changed(was, is wire.LinkOrder) bool {
	return was.Prev != is.Prev || !same(was.Next, is.Next) || is.Next != nil && was.Next.Shed != is.Next.Shed ||
		was.End != is.End || was.Open != is.Open || len(was.Streams) != len(is.Streams)
}

func (h *Head) peer(m *member, epoch uint32) *wire.Peer {
	return &wire.Peer{ID: m.ID, Addr: m.Addr, Pin: m.Pin, Epoch: epoch, Shed: m.shed}
}

// hop is the epoch of a hop; a new one gets the next.
func (h *Head) hop(from, to uint32) uint32 {
	k := [2]uint32{from, to}
	if h.hops[k] == 0 {
		h.epoch++
		h.hops[k] = h.epoch
	}
	return h.hops[k]
}

// live are the members that take part and have a sink that works.
func (h *Head) live() []*member {
	var out []*member
	for _, id := range h.order {
		if m := h.members[id]; m.broken == "" {
			out = append(out, m)
		}
	}
	return out
}

// ErrNobody is a transfer that lost all its nodes.
var ErrNobody = errors.New("no node is left in the chain")

// Run sends laps until nobody misses a piece, ends the transfer, and says how
// each node came out. The error is golden's own trouble, not a node's.
func (h *Head) Run(ctx context.Context) (map[uint32]Outcome, error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, h.wake)
	var wg sync.WaitGroup
	wg.Go(func() { h.outlet.run(ctx) })
	wg.Go(func() { h.judge(ctx) })
	err := h.laps(ctx)
	h.finish()
	cancel()
	stop()
	wg.Wait()
	return h.outcomes(err), err
}

// wake has everybody look again who waits for something.
func (h *Head) wake() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cond.Broadcast()
}

func (h *Head) laps(ctx context.Context) error {
	todo := newLedger(h.streams).missing()
	for lap := uint32(1); ; lap++ {
		if err := h.sendLap(ctx, lap, todo); err != nil {
			return err
		}
		missing, err := h.endLap(ctx, lap)
		if err != nil || len(missing) == 0 {
			return err
		}
		todo = missing
		h.Log.Info("another lap", "lap", lap+1, "pieces", count(todo))
	}
}

// finish tells every node that the transfer is over.
func (h *Head) finish() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
	h.relink()
}

func (h *Head) outcomes(err error) map[uint32]Outcome {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[uint32]Outcome{}
	for id, m := range h.members {
		o := Outcome{Complete: m.complete && m.cause == nil && m.broken == "", Stored: m.stored, Err: m.cause}
		switch {
		case o.Err != nil || o.Complete:
		case m.broken != "":
			o.Err = errors.New(m.broken)
		case err != nil:
			o.Err = err
		default:
			o.Err = fmt.Errorf("misses %d pieces", h.ledger.total-m.held)
		}
		out[id] = o
	}
	return out
}

// Progress is for status lines.
func (h *Head) Progress() Progress {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := Progress{Lap: h.lap, Sent: h.sent, Wire: h.wireLen, Kept: h.kept, Nodes: map[uint32]NodeProgress{}}
	for _, s := range h.streams {
		p.Bytes += s.Bytes
	}
	for id, m := range h.members {
		p.Nodes[id] = NodeProgress{Stored: m.stored, Complete: m.complete}
	}
	return p
}
