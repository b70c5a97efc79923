package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// turn is this node's part in one transfer.
type turn struct {
	link  *chain.Link
	end   context.CancelCauseFunc
	ended chan struct{}
}

// errSuspended ends a turn because golden is lost.
var errSuspended = errors.New("golden is lost")

// maxCuts is how often a node joins again that the chain has left behind.
const maxCuts = 3

// ErrOther is a golden that came back with something else.
var ErrOther = errors.New("golden sends something else now")

// taking is one thing that is received, in as many turns as it takes.
type taking struct {
	s        *Session
	sink     chain.Sink
	holder   chain.Holder
	complete func(context.Context) error

	last     *chain.Link
	finished chan error // of complete; nil: it was not called
}

// Receive takes this node's place in a transfer: it stores and relays until
// golden ends it. When all pieces are here, complete is called once, while
// the relaying goes on; its error is Receive's. When golden is lost on the
// way, and comes back, it goes on with what is here. holder finds what was
// here before; it may be nil.
func (s *Session) Receive(ctx context.Context, o wire.LinkOrder, sink chain.Sink, holder chain.Holder, complete func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx, func() { cancel(s.why()) })
	defer stop()
	s.mu.Lock()
	s.resume.Source = o.Source
	s.mu.Unlock()
	t := &taking{s: s, sink: sink, holder: holder, complete: complete}
	for source, cuts := o.Source, 0; ; {
		err := t.turn(ctx, o)
		again := errors.Is(err, errSuspended)
		if errors.Is(err, chain.ErrIncomplete) && cuts < maxCuts && ctx.Err() == nil {
			cuts++
			again = true
			s.Log.Warn("joining again", "err", err)
			s.leftBehind()
		}
		if t.finished != nil && (again || err == nil) {
			return <-t.finished // golden, when it is back, is told that all is here
		}
		if !again {
			if t.finished != nil {
				cancel(err)
				<-t.finished
			}
			return cmp.Or(context.Cause(ctx), err)
		}
		if o, err = s.NextTransfer(ctx); err != nil {
			return err
		}
		if o.Source != source {
			return ErrOther
		}
	}
}

// turn takes part in one transfer until it ends, or golden is lost.
func (t *taking) turn(ctx context.Context, o wire.LinkOrder) error {
	s := t.s
	linkCtx, end := context.WithCancelCause(ctx)
	defer end(nil)
	s.mu.Lock()
	l := &chain.Link{
		Transfer: o.Transfer, Self: s.registered.Node, Streams: o.Streams, Identity: s.identity, Plain: o.Plain,
		Sink: t.sink, Holder: t.holder, Resume: t.last,
		Quiet: time.Duration(o.Quiet) * time.Millisecond, Queue: queueFor(memory()), Ring: ringFor(memory()), Log: s.Log,
		Tell: func(r wire.LinkReport) { s.Report(wire.Report{Link: &r}) },
	}
	ln := s.ln
	s.mu.Unlock()
	if err := l.Start(); err != nil {
		return err
	}
	me := &turn{link: l, end: end, ended: make(chan struct{})}
	if !s.begin(me, o) {
		return errSuspended
	}
	defer s.over(me)
	var watch sync.WaitGroup
	watch.Go(func() { // ends with the turn, or when all is here
		select {
		case <-l.Complete():
			t.finish(ctx)
		case <-linkCtx.Done():
		}
	})
	err := l.Run(linkCtx, ln)
	cause := context.Cause(linkCtx)
	end(nil)
	watch.Wait()
	t.last = l
	l.Resume = nil // it has taken over what that had
	select {
	case <-l.Complete():
		t.finish(ctx)
	default:
	}
	if err != nil && cause != nil {
		return cause
	}
	return err
}

// finish calls complete, the first time.
func (t *taking) finish(ctx context.Context) {
	if t.finished != nil {
		return
	}
	t.s.mu.Lock()
	t.s.resume.State = string(status.Fixing)
	t.s.mu.Unlock()
	done := make(chan error, 1)
	t.finished = done
	go func() { done <- t.complete(ctx) }() // ends by ctx; Receive waits for it
}

// begin lets the link hear the orders from now on, and those that came in the
// meantime. An order of before golden was lost is no longer good.
func (s *Session) begin(t *turn, first wire.LinkOrder) bool {
	s.mu.Lock()
	good := s.known[first.Transfer]
	if good {
		s.turn, s.used, s.holds = t, true, true
	}
	s.mu.Unlock()
	if !good {
		return false
	}
	t.link.Order(first)
	for {
		select {
		case o := <-s.transfers:
			t.link.Order(o)
		default:
			return true
		}
	}
}

func (s *Session) over(t *turn) {
	s.mu.Lock()
	s.turn = nil
	s.mu.Unlock()
	close(t.ended)
}

// leftBehind has the session register again.
func (s *Session) leftBehind() {
	select {
	case s.cut <- struct{}{}:
	default:
	}
}

// FetchImage registers, and receives an image into a file while passing it on.
func FetchImage(ctx context.Context, c Config, path string, progress func(line string)) error {
	s, err := Register(ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	progress(fmt.Sprintf("golden node %s, this is node %d of session %s", s.Server, s.Number(), s.Config.Session))
	o, err := s.NextTransfer(ctx)
	if err != nil {
		return err
	}
	if len(o.Streams) != 1 || o.Streams[0].Kind != wire.ImageStream {
		return errors.New("golden sends something else than an image")
	}
	image, err := restore.NewImage(path, o.Streams[0])
	if err != nil {
		return err
	}
	defer image.Close()
	begun := time.Now()
	progress(fmt.Sprintf("receiving %d bytes", o.Streams[0].Bytes))
	err = s.Receive(ctx, o, image, nil, image.Finish)
	if err != nil {
		s.Fail("receiving stage 2", err)
		return err
	}
	progress(fmt.Sprintf("received in %.1f s", time.Since(begun).Seconds()))
	return nil
}
