package join

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

// Receive takes this node's place in a transfer: it stores and relays until
// golden ends it. When all pieces are here, complete is called, while the
// relaying goes on; its error is Receive's.
func (s *Session) Receive(ctx context.Context, o wire.LinkOrder, sink chain.Sink, complete func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(s.ctx, func() { cancel(s.why()) })
	defer stop()
	l := &chain.Link{
		Transfer: o.Transfer, Self: s.Node, Streams: o.Streams, Identity: s.identity, Plain: o.Plain,
		Sink: sink, Quiet: time.Duration(o.Quiet) * time.Millisecond, Queue: queueFor(memory()), Ring: ringFor(memory()), Log: s.Log,
		Tell: func(r wire.LinkReport) { s.Report(wire.Report{Link: &r}) },
	}
	if err := l.Start(); err != nil {
		return err
	}
	s.attach(l, o)
	finished := make(chan error, 1)
	go func() { // ends with the transfer, or with complete
		select {
		case <-l.Complete():
			finished <- complete(ctx)
		case <-ctx.Done():
			finished <- nil
		}
	}()
	err := l.Run(ctx, s.ln)
	if err == nil {
		return <-finished
	}
	cause := context.Cause(ctx)
	cancel(err)
	<-finished
	if cause != nil {
		return cause
	}
	return err
}

// attach lets the link hear the orders from now on, and those that came in
// the meantime.
func (s *Session) attach(l *chain.Link, first wire.LinkOrder) {
	s.mu.Lock()
	s.link = l
	s.mu.Unlock()
	l.Order(first)
	for {
		select {
		case o := <-s.transfers:
			l.Order(o)
		default:
			return
		}
	}
}

// FetchImage registers, and receives an image into a file while passing it on.
func FetchImage(ctx context.Context, c Config, path string, progress func(line string)) error {
	s, err := Register(ctx, c)
	if err != nil {
		return err
	}
	defer s.Close()
	progress(fmt.Sprintf("golden node %s, this is node %d of session %s", s.Server, s.Number, s.Config.Session))
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
	err = s.Receive(ctx, o, image, image.Finish)
	if err != nil {
		s.Fail("receiving stage 2", err)
		return err
	}
	progress(fmt.Sprintf("received in %.1f s", time.Since(begun).Seconds()))
	return nil
}
