package join

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// suspend ends this node's turn in a transfer, and makes ready for another:
// neighbours may call as soon as golden knows us again.
func (s *Session) suspend() {
	s.mu.Lock()
	t := s.turn
	s.known = nil
	s.mu.Unlock()
	if t != nil {
		t.end(errSuspended)
		<-t.ended
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.used {
		port := s.ln.Addr().(*net.TCPAddr).Port
		ln, err := listen(port)
		if err != nil {
			ln, err = net.Listen("tcp", ":0")
		}
		if err == nil {
			s.ln, s.used = ln, false
		} else {
			s.Log.Warn("listen for data again", "err", err)
		}
	}
	// What was said of that turn would be taken for the next one's.
	for range len(s.reports) {
		select {
		case r := <-s.reports:
			if r.Link = nil; r.State != "" || r.Fault != nil || r.Done != nil || r.Ready != nil || len(r.Lines) > 0 {
				select {
				case s.reports <- r:
				default:
				}
			}
		default:
		}
	}
}

// renew registers again, and again until golden is back.
func (s *Session) renew(why error) error {
	limit := s.Wait
	lost := errors.Is(why, ErrGoldenLost)
	if errors.Is(why, errCut) {
		limit = min(limit, cutWait)
	}
	before := s.golden()
	for until := time.Now().Add(limit); ; {
		s.client.CloseIdleConnections()
		err := s.register(s.ctx, renewLimit, s.where())
		switch {
		case s.ctx.Err() != nil:
			return s.why()
		case err == nil:
			s.forget()
			if s.golden() != before {
				s.Say("golden was started again: going on")
			} else {
				s.Say("golden has taken this node in again: going on")
			}
			return nil
		case !errors.Is(err, ErrNoServer) && !errors.Is(err, ErrTwice):
			return fmt.Errorf("%w (%w)", err, why)
		case time.Now().After(until):
			return fmt.Errorf("%w: not back within %s: %w", ErrGoldenLost, limit, err)
		}
		if !lost {
			lost = true
			s.Say(fmt.Sprintf("golden lost: waiting for it (up to %s): %v", limit, err))
		}
		if s.Config.Server == "" {
			if server, err := Find(s.ctx, s.Config); err == nil {
				s.Server = server
			}
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(renewEvery):
		}
	}
}

func (s *Session) golden() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.registered.Golden
}

// where is how far this node had got.
func (s *Session) where() *wire.Resume {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.resume
	return &r
}

// forget drops orders of before: golden begins anew with this node.
func (s *Session) forget() {
	s.mu.Lock()
	s.seq = 0
	s.mu.Unlock()
	drain(s.transfers)
	drain(s.plans)
	drain(s.releases)
}

func drain[T any](c chan T) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}
