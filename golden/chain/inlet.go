package chain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// accept takes connections from the node before until the listener closes.
func (l *Link) accept(ctx context.Context, ln net.Listener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("accept on %s: %w", ln.Addr(), err)
		}
		if err != nil { // out of files, or the like: not for ever
			l.Log.Warn("accept a data connection", "err", err)
			pause(ctx, redialPause)
			continue
		}
		l.guests.Go(func() { l.admit(ctx, c) })
	}
}

// admit lets in the node that golden named, and reads from it to the end. A
// newer connection takes the place of an older one.
func (l *Link) admit(ctx context.Context, raw net.Conn) {
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	patience := max(helloPatience, 2*l.outlet.quiet)
	tune(raw, l.outlet.wait)
	raw.SetDeadline(time.Now().Add(patience))
	c, hello, err := l.hear(raw)
	if err != nil {
		l.Log.Warn("refused a data connection", "from", raw.RemoteAddr(), "err", err)
		return
	}
	l.mu.Lock()
	if l.inlet != nil {
		l.inlet.Close()
	}
	l.inlet = raw
	l.mu.Unlock()
	l.reading.Lock() // the older connection's reader has gone when we have it
	defer l.reading.Unlock()
	l.mu.Lock()
	mine, last := l.inlet == raw, l.lastSeq
	l.mu.Unlock()
	if !mine {
		return
	}
	raw.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write(wire.Welcome{LastSeq: last}.Bytes()); err != nil {
		l.Log.Warn("welcome the node before", "err", err)
		return
	}
	raw.SetDeadline(time.Time{})
	l.Log.Debug("data connection", "from", hello.From, "epoch", hello.Epoch, "have", last)
	err = l.read(c)
	l.Log.Debug("data connection ended", "from", hello.From, "epoch", hello.Epoch, "err", err)
}

// hear reads the hello and checks that golden has announced the caller.
func (l *Link) hear(raw net.Conn) (net.Conn, wire.Hello, error) {
	c := raw
	var pin trust.Pin
	if !l.Plain {
		t := tls.Server(raw, trust.ServerConfig(l.Identity))
		if err := t.Handshake(); err != nil {
			return nil, wire.Hello{}, err
		}
		var err error
		if pin, err = trust.PeerPin(t.ConnectionState()); err != nil {
			return nil, wire.Hello{}, err
		}
		c = t
	}
	b := make([]byte, wire.HelloSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return nil, wire.Hello{}, fmt.Errorf("read hello: %w", err)
	}
	h, err := wire.ParseHello(b)
	if err == nil {
		err = l.expect(h, pin)
	}
	if err != nil {
		c.Write(wire.Welcome{Refused: true}.Bytes())
	}
	return c, h, err
}

// expect waits a moment for the order that announces the caller: the node
// before may have had its own order first.
func (l *Link) expect(h wire.Hello, pin trust.Pin) error {
	if h.Transfer != l.Transfer || h.To != l.Self {
		return fmt.Errorf("hello is for another transfer or node (%d, this is %d)", h.To, l.Self)
	}
	late := l.after(helloPatience / 2)
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.prev.Epoch < h.Epoch && !*late && !l.leaving() {
		l.cond.Wait()
	}
	if l.prev.ID != h.From || l.prev.Epoch != h.Epoch {
		return fmt.Errorf("hello of node %d, epoch %d, golden named node %d, epoch %d", h.From, h.Epoch, l.prev.ID, l.prev.Epoch)
	}
	if !l.Plain && pin != l.prev.Pin {
		return &trust.ForeignKeyError{Got: pin, Want: l.prev.Pin}
	}
	return nil
}

// after sets what it returns when a time is over. It is read with the lock held.
func (l *Link) after(d time.Duration) *bool {
	late := new(bool)
	time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		*late = true
		l.cond.Broadcast()
	})
	return late
}

// leaving tells whether the transfer is over, or this node's part in it.
func (l *Link) leaving() bool { return l.over || l.stopped }

// announced checks a frame against the streams. The order that announces a
// new one may come a moment after the first of its pieces.
func (l *Link) announced(h wire.Header) error {
	l.mu.Lock()
	known := h.Kind == wire.LapEnd || place(l.streams, h.Stream) >= 0
	streams := l.streams
	l.mu.Unlock()
	if known {
		return h.Check(streams)
	}
	late := l.after(helloPatience / 2)
	l.mu.Lock()
	defer l.mu.Unlock()
	for place(l.streams, h.Stream) < 0 && !l.finished && l.broken == nil && !l.leaving() && !*late {
		l.cond.Wait()
	}
	if (l.finished || l.broken != nil) && place(l.streams, h.Stream) < 0 {
		return nil // only passed on
	}
	return h.Check(l.streams)
}

// loan is a piece's true bytes, and whose buffer they lie in.
type loan struct {
	data  []byte
	frame *frame // the frame's own, or
	room  *frame // what it was decompressed into
}

func (p *loan) hold() *loan {
	if p.room != nil {
		p.room.hold()
	} else {
		p.frame.hold()
	}
	return p
}

func (p *loan) drop() {
	if p.room != nil {
		p.room.drop()
	} else {
		p.frame.drop()
	}
}

// complain tells golden of a wrong piece. The connection is closed by the
// caller, so the node before sends it again from its ring.
func (l *Link) complain(err error) {
	l.mu.Lock()
	t := wire.Trouble{Peer: l.prev.ID, Epoch: l.prev.Epoch, Why: err.Error()}
	l.mu.Unlock()
	l.Log.Warn("wrong frame", "from", t.Peer, "err", err)
	l.Tell(wire.LinkReport{Transfer: l.Transfer, Bad: &t})
}
