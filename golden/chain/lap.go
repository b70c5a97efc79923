package chain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// Reading ahead: so many goroutines read, hash and compress, and so many
// pieces for each are ready before the wire wants them.
const (
	minReaders = 2
	maxReaders = 8
	readAhead  = 4
)

// job is one piece on its way from the source to the ring.
type job struct {
	stream wire.Stream
	piece  uint32
	frame  *frame // nil: the piece is not any more what was sent first
	err    error
	ready  chan struct{}
}

// sendLap sends what somebody misses, then what replaces pieces that have
// changed meanwhile, then the end of the lap.
func (h *Head) sendLap(ctx context.Context, lap uint32, todo []wire.Range) error {
	h.mu.Lock()
	h.lap = lap
	h.unshed()
	h.mu.Unlock()
	void, err := h.sendPieces(ctx, lap, todo)
	if err != nil {
		return err
	}
	if err := h.settle(ctx, lap, void); err != nil {
		return err
	}
	return h.sendHeader(ctx, lap, wire.Header{Kind: wire.LapEnd})
}

// settle announces and sends what replaces pieces that have changed, when all
// were read once, and again whenever some can't be read as they were.
func (h *Head) settle(ctx context.Context, lap uint32, void []wire.Range) error {
	src, ok := h.Source.(Settler)
	if !ok && len(void) > 0 {
		return fmt.Errorf("read %d pieces again: they are not what they were (the first is piece %d): is the source in use?", count(void), void[0].From)
	}
	if !ok || lap > 1 && len(void) == 0 {
		return nil
	}
	more, err := src.Settle(ctx, void)
	if err != nil {
		return fmt.Errorf("settle what has changed: %w", err)
	}
	h.grow(more)
	if len(more) > 0 {
		if _, err := h.sendPieces(ctx, lap, newLedger(more).missing()); err != nil {
			return err
		}
	}
	for _, r := range void {
		for p := r.From; p < r.To; p++ {
			if err := h.sendVoid(ctx, lap, r.Stream, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// grow announces further streams, and that there are no more for now.
func (h *Head) grow(more []wire.Stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.streams = append(h.streams[:len(h.streams):len(h.streams)], more...)
	h.ledger.grow(h.streams)
	if h.open {
		h.open, h.closedAt = false, len(h.streams)
	}
	h.relink()
}

func (h *Head) sendVoid(ctx context.Context, lap uint32, stream uint16, piece uint32) error {
	h.mu.Lock()
	hash, ok := h.ledger.known(stream, piece)
	n := len(h.streams)
	s := h.streams[h.ledger.at(stream)]
	h.mu.Unlock()
	if !ok || n > 255 {
		return fmt.Errorf("replace piece %d of %s: there are %d streams", piece, s.Kind, n)
	}
	return h.sendHeader(ctx, lap, wire.Header{
		Kind: wire.VoidFrame, Flags: byte(n), Stream: stream, Piece: piece, True: uint32(s.Len(piece)), Hash: hash,
	})
}

func (h *Head) sendHeader(ctx context.Context, lap uint32, hd wire.Header) error {
	f := h.pool.frame(hd)
	defer f.drop()
	return h.send(ctx, lap, f)
}

// sendPieces reads pieces side by side and sends them in order. It returns
// those that are not any more what was sent first.
//
//	todo ─▶ reader ┐
//	     ─▶ reader ┴─▶ in order ─▶ window ─▶ ring
func (h *Head) sendPieces(ctx context.Context, lap uint32, todo []wire.Range) (void []wire.Range, err error) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, h.wake)
	readers := max(minReaders, min(maxReaders, runtime.GOMAXPROCS(0)))
	work, ordered := make(chan *job), make(chan *job, readAhead*readers)
	var wg sync.WaitGroup
	wg.Go(func() { h.list(ctx, todo, work, ordered) })
	for range readers {
		s, serr := newSealer(h.Compress, &h.pool)
		if serr != nil {
			err = serr
			break
		}
		wg.Go(func() { h.fetch(ctx, lap, s, work) })
	}
	if err == nil {
		void, err = h.emit(ctx, lap, ordered)
	}
	cancel()
	stop()
	for j := range ordered { // what was read and will not be sent
		<-j.ready
		if j.frame != nil {
			j.frame.drop()
		}
	}
	wg.Wait()
	return void, err
}

// list hands out jobs, and the same in order to the sender.
func (h *Head) list(ctx context.Context, todo []wire.Range, work, ordered chan<- *job) {
	defer close(work)
	defer close(ordered)
	for _, r := range todo {
		h.mu.Lock()
		s := h.streams[h.ledger.at(r.Stream)]
		h.mu.Unlock()
		for p := r.From; p < r.To; p++ {
			j := &job{stream: s, piece: p, ready: make(chan struct{})}
			select {
			case <-ctx.Done():
				return
			case work <- j:
			}
			select {
			case <-ctx.Done(): // a reader has it already: it must not be lost
				ordered <- j
				return
			case ordered <- j:
			}
		}
	}
}

// fetch reads pieces and makes frames of them.
func (h *Head) fetch(ctx context.Context, lap uint32, s *sealer, work <-chan *job) {
	var buf []byte
	for j := range work {
		if n := int(j.stream.PieceSize); cap(buf) < n {
			buf = make([]byte, n)
		}
		j.frame, j.err = h.pack(ctx, lap, s, j, buf[:j.stream.Len(j.piece)])
		close(j.ready)
	}
	s.close()
}

// pack gives a piece's frame: its header alone if everybody who misses it
// holds it already, none if it has changed since it was sent.
func (h *Head) pack(ctx context.Context, lap uint32, s *sealer, j *job, buf []byte) (*frame, error) {
	hash, known := h.knownHash(j)
	if known && h.everybodyHolds(ctx, lap, j, hash) {
		return h.keptFrame(j, hash), nil
	}
	if err := h.Source.ReadPiece(j.stream.ID, j.piece, buf); err != nil {
		return nil, fmt.Errorf("read piece %d of %s: %w", j.piece, j.stream.Kind, err)
	}
	now := wire.Hash(blake3.Sum256(buf))
	switch {
	case known && hash != now:
		return nil, nil
	case !known && h.everybodyHolds(ctx, lap, j, now):
		return h.keptFrame(j, now), nil
	}
	return s.seal(j.stream.ID, j.piece, buf, now, h.linkBound()), nil
}

// knownHash is the hash of a piece that was sent in an earlier lap.
func (h *Head) knownHash(j *job) (wire.Hash, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ledger.known(j.stream.ID, j.piece)
}

func (h *Head) keptFrame(j *job, hash wire.Hash) *frame {
	return h.pool.frame(wire.Header{
		Kind: wire.KeptFrame, Stream: j.stream.ID, Piece: j.piece, True: uint32(j.stream.Len(j.piece)), Hash: hash, Seq: 1,
	})
}

// everybodyHolds waits until the nodes that look through what they hold are
// past a piece, and tells whether all who miss it claim it.
func (h *Head) everybodyHolds(ctx context.Context, lap uint32, j *job, hash wire.Hash) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	i := h.ledger.at(j.stream.ID)
	for ctx.Err() == nil && !h.allPassed(i, j.piece) {
		h.cond.Wait()
	}
	all, some := true, false
	for _, m := range h.live() {
		if m.complete || lap > 1 && !within(m.missing, j.stream.ID, j.piece) {
			continue
		}
		some = true
		all = h.claims.claim(&m.holdings, i, j.piece, hash) && all
	}
	return some && all
}

func (h *Head) allPassed(i int, piece uint32) bool {
	for _, m := range h.live() {
		if !m.complete && !m.passed(i, piece) {
			return false
		}
	}
	return true
}

// emit sends the frames of a lap, each when the window is open.
func (h *Head) emit(ctx context.Context, lap uint32, ordered <-chan *job) (void []wire.Range, err error) {
	for j := range ordered {
		<-j.ready
		if j.err != nil {
			return nil, j.err
		}
		if lap > 1 && h.satisfied() { // who missed the rest is gone
			if j.frame != nil {
				j.frame.drop()
			}
			return nil, nil
		}
		if j.frame == nil {
			void = append(void, wire.Range{Stream: j.stream.ID, From: j.piece, To: j.piece + 1})
			continue
		}
		err := h.send(ctx, lap, j.frame)
		j.frame.drop()
		if err != nil {
			return nil, err
		}
	}
	return void, ctx.Err()
}

func (h *Head) send(ctx context.Context, lap uint32, f *frame) error {
	h.mu.Lock()
	for ctx.Err() == nil && h.somebody() && !h.windowOpen() {
		h.cond.Wait()
	}
	if err := h.can(ctx); err != nil {
		h.mu.Unlock()
		return err
	}
	h.note(lap, f)
	h.mu.Unlock()
	if err := h.outlet.push(f); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}

// note numbers a frame and keeps account of it.
func (h *Head) note(lap uint32, f *frame) {
	now := time.Now()
	for _, m := range h.members {
		if m.settled >= h.seq { // it had nothing to do until now
			m.moved = now
		}
	}
	h.seq++
	f.Lap, f.Seq = lap, h.seq
	f.Header.Put(f.buf)
	switch f.Kind {
	case wire.PieceFrame:
		h.sent += int64(f.True)
		h.wireLen += int64(f.Stored)
	case wire.KeptFrame:
		h.kept += int64(f.True)
	default:
		return
	}
	h.ledger.add(f.Stream, f.Piece, f.Hash)
}

// satisfied: nobody misses anything, and nobody is expected.
func (h *Head) satisfied() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.live() {
		if !m.complete {
			return false
		}
	}
	return h.expected == 0
}

// somebody is there to send to, or is expected.
func (h *Head) somebody() bool { return len(h.live()) > 0 || h.expected > 0 }

func (h *Head) can(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !h.somebody() && !h.allDone() {
		return ErrNobody
	}
	return nil
}

// allDone: there were nodes, and the last of them is complete and has gone.
func (h *Head) allDone() bool {
	for _, m := range h.members {
		if m.retired {
			return true
		}
	}
	return false
}

// windowOpen tells whether one more frame may go: the share of those who still
// miss pieces have room for it in their queues. Nodes behind slow links don't
// count while others miss something.
func (h *Head) windowOpen() bool {
	live := h.live()
	if len(live) == 0 {
		return false
	}
	waiting, keepUp := 0, 0
	for _, m := range live {
		if m.complete || m.shed && h.othersMiss() {
			continue
		}
		waiting++
		if h.seq < m.settled+uint64(m.Queue) {
			keepUp++
		}
	}
	return keepUp >= int(math.Ceil(h.Share*float64(waiting)))
}

// endLap waits until every node has said what it misses, and joins that. While
// late nodes are expected it waits for them, too.
func (h *Head) endLap(ctx context.Context, lap uint32) ([]wire.Range, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ending = true
	for ctx.Err() == nil && h.somebody() && !h.lapOver(lap) {
		h.cond.Wait()
	}
	h.ending = false
	if err := h.can(ctx); err != nil {
		return nil, err
	}
	var sets [][]wire.Range
	for _, m := range h.live() {
		if !m.complete {
			sets = append(sets, m.missing)
		}
	}
	return union(h.streams, sets...), nil
}

// lapOver: everybody is complete, or has said what it misses. One that misses
// nothing is about to say that it is complete.
func (h *Head) lapOver(lap uint32) bool {
	missing := false
	for _, m := range h.live() {
		if !m.complete && !m.waits(lap) {
			return false
		}
		missing = missing || !m.complete
	}
	return missing || h.expected == 0
}

// waits tells whether a node has settled the lap and wants another.
func (m *member) waits(lap uint32) bool { return m.lap >= lap && len(m.missing) > 0 }

// judge looks once a second for a node that holds the chain up, or that gets
// nowhere, and cuts it out.
func (h *Head) judge(ctx context.Context) {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		h.mu.Lock()
		h.cutStalled()
		h.cutIdle()
		h.moveSlow()
		h.mu.Unlock()
	}
}
