package agent

import (
	"context"
	"sync"

	"github.com/kamethod/kamethod/golden/wire"
)

// Of what a program says, so many bytes may wait to be sent: then the program
// waits. As many that were sent are kept, should they have been lost with a
// node on the way.
const window = 256 << 10

// frameCost is what a frame takes up besides what it carries.
const frameCost = 64

// spool is what a program has said and how it ended: what waits to be sent,
// and the last that was.
//
//	program ─put─▶ [ sent | waiting ] ─next─▶ golden, or the node above
type spool struct {
	mu      sync.Mutex
	changed chan struct{} // closed and renewed with each change
	frames  []wire.ExecFrame
	bytes   int    // of frames
	unsent  int    // of these
	last    uint64 // Seq of the newest frame
	sent    uint64 // every frame up to this one was sent
	over    bool   // the newest frame is how it ended
}

func newSpool() *spool { return &spool{changed: make(chan struct{})} }

func cost(f wire.ExecFrame) int { return len(f.Out) + frameCost }

// put adds a frame, and waits while there is no room.
func (s *spool) put(ctx context.Context, f wire.ExecFrame) error {
	for {
		s.mu.Lock()
		if s.unsent < window || f.Exit != nil {
			s.last++
			f.Seq = s.last
			s.frames = append(s.frames, f)
			s.bytes += cost(f)
			s.unsent += cost(f)
			s.over = f.Exit != nil
			s.trim()
			s.wake()
			s.mu.Unlock()
			return nil
		}
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

func (s *spool) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// trim forgets what was sent long ago.
func (s *spool) trim() {
	n := 0
	for n < len(s.frames) && s.frames[n].Seq <= s.sent && s.bytes-s.unsent > window {
		s.bytes -= cost(s.frames[n])
		n++
	}
	if n > 0 {
		s.frames = append([]wire.ExecFrame(nil), s.frames[n:]...)
	}
}

// next is the first frame from seq on that is still here, or nil and what to
// wait for. over: there will be none.
func (s *spool) next(seq uint64) (f *wire.ExecFrame, over bool, changed <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.frames {
		if s.frames[i].Seq >= seq {
			return &s.frames[i], false, nil
		}
	}
	return nil, s.over, s.changed
}

// did takes note that a frame was sent.
func (s *spool) did(f wire.ExecFrame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.Seq <= s.sent {
		return
	}
	s.sent = f.Seq
	s.unsent -= cost(f)
	s.trim()
	s.wake()
}
