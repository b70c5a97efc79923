package chain

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// Reading ahead: so many goroutines read, hash and compress, and so many
// pieces are ready before the wire wants them.
const (
	readers   = 2
	readAhead = 8
)

// job is one piece on its way from the source to the ring.
type job struct {
	stream wire.Stream
	piece  uint32
	frame  *frame
	err    error
	ready  chan struct{}
}

// sendLap reads pieces side by side and sends them in order.
//
//	todo ─▶ reader ┐
//	     ─▶ reader ┴─▶ in order ─▶ window ─▶ ring
func (h *Head) sendLap(ctx context.Context, lap uint32, todo []wire.Range) error {
	h.mu.Lock()
	h.lap = lap
	h.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	work, ordered := make(chan *job), make(chan *job, readAhead)
	var wg sync.WaitGroup
	wg.Go(func() { h.list(ctx, todo, work, ordered) })
	for range readers {
		s, err := newSealer(h.Compress, &h.pool)
		if err != nil {
			cancel()
			wg.Wait()
			return err
		}
		wg.Go(func() { h.fetch(s, work) })
	}
	err := h.emit(ctx, lap, ordered)
	cancel()
	for j := range ordered { // what was read and will not be sent
		<-j.ready
		if j.frame != nil {
			j.frame.drop()
		}
	}
	wg.Wait()
	return err
}

// list hands out jobs, and the same in order to the sender.
func (h *Head) list(ctx context.Context, todo []wire.Range, work, ordered chan<- *job) {
	defer close(work)
	defer close(ordered)
	for _, r := range todo {
		s := h.streams[h.ledger.at(r.Stream)]
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
func (h *Head) fetch(s *sealer, work <-chan *job) {
	var buf []byte
	for j := range work {
		if n := int(j.stream.PieceSize); cap(buf) < n {
			buf = make([]byte, n)
		}
		data := buf[:j.stream.Len(j.piece)]
		if j.err = h.Source.ReadPiece(j.stream.ID, j.piece, data); j.err == nil {
			j.frame = s.seal(j.stream.ID, j.piece, data)
		}
		close(j.ready)
	}
	if s.enc != nil {
		s.enc.Close()
	}
}

// emit sends the frames of a lap, each when the window is open.
func (h *Head) emit(ctx context.Context, lap uint32, ordered <-chan *job) error {
	for j := range ordered {
		<-j.ready
		if j.err != nil {
			return fmt.Errorf("read piece %d of %s: %w", j.piece, j.stream.Kind, j.err)
		}
		err := h.send(ctx, lap, j.frame)
		j.frame.drop()
		if err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f := h.pool.frame(wire.Header{Kind: wire.LapEnd})
	defer f.drop()
	return h.send(ctx, lap, f)
}

func (h *Head) send(ctx context.Context, lap uint32, f *frame) error {
	h.mu.Lock()
	for ctx.Err() == nil && len(h.live()) > 0 && !h.open() {
		h.cond.Wait()
	}
	if err := h.can(ctx); err != nil {
		h.mu.Unlock()
		return err
	}
	h.seq++
	f.Lap, f.Seq = lap, h.seq
	f.Header.Put(f.buf)
	if f.Kind == wire.PieceFrame {
		h.ledger.add(f.Stream, f.Piece, f.Hash)
		h.sent += int64(f.True)
		h.wireLen += int64(f.Stored)
	}
	h.mu.Unlock()
	if err := h.outlet.push(f); err != nil {
		return errors.Join(ctx.Err(), err)
	}
	return nil
}

func (h *Head) can(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(h.live()) == 0 {
		return ErrNobody
	}
	return nil
}

// open tells whether one more frame may go: the share of those who still miss
// pieces have room for it in their queues.
func (h *Head) open() bool {
	waiting, keepUp := 0, 0
	for _, m := range h.live() {
		if m.complete {
			continue
		}
		waiting++
		if h.seq < m.settled+uint64(m.Queue) {
			keepUp++
		}
	}
	return keepUp >= int(math.Ceil(h.Share*float64(waiting)))
}

// endLap waits until every node has said what it misses, and joins that.
func (h *Head) endLap(ctx context.Context, lap uint32) ([]wire.Range, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ctx.Err() == nil && len(h.live()) > 0 && !h.lapOver(lap) {
		h.cond.Wait()
	}
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
	for _, m := range h.live() {
		if !m.complete && !m.waits(lap) {
			return false
		}
	}
	return true
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
		h.mu.Unlock()
	}
}
