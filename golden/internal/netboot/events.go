package netboot

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// Event is one step of a machine's boot that an administrator would want to
// see.
type Event struct {
	Time  time.Time
	MAC   net.HardwareAddr // nil if it can't be told
	IP    netip.Addr
	What  string // "offer", "sent vmlinuz (TFTP)", …
	Name  string // file name, if the event is about one
	Bytes int64  // sent
	Err   error  // why a transfer ended early

	Config bool   // a boot loader configuration was sent, and the machine goes by it
	Answer Answer // what it says
}

// eventQueue is how far a slow reader of events may fall behind: 1,000
// machines that do four steps in one moment.
const eventQueue = 4096

// emit hands an event over and never waits: a reader that doesn't keep up
// misses events.
func (s *Server) emit(e Event) {
	if s.cfg.Event == nil || isDoctor(e.MAC) {
		return
	}
	e.Time = time.Now()
	select {
	case s.events <- e:
	default:
	}
}

// deliver calls the reader of events until ctx ends.
func (s *Server) deliver(ctx context.Context) {
	for {
		select {
		case e := <-s.events:
			s.cfg.Event(e)
		case <-ctx.Done():
			return
		}
	}
}
