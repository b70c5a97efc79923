package chain

import (
	"io"
	"net"
	"sync"

	"github.com/kamethod/kamethod/golden/wire"
)

// maxCheckers is how many pieces are decompressed and hashed side by side.
const maxCheckers = 4

// arrival is a frame that is checked while the next ones are read.
type arrival struct {
	frame *frame
	piece *loan // nil: the frame has none, or is an old one
	err   error
	ready chan struct{}
}

// read takes frames until the connection ends or brings something wrong. Not
// a byte of a frame is passed on, or stored, before it is checked.
//
//	connection ─▶ read ─┬─▶ checker ┬─▶ in order ─▶ ring, then sink
//	                    └─▶ checker ┘
func (l *Link) read(c net.Conn) error {
	work, ordered := make(chan *arrival), make(chan *arrival, len(l.openers))
	var wg sync.WaitGroup
	for _, o := range l.openers {
		wg.Go(func() { l.checkAll(o, work) })
	}
	var passErr error
	wg.Go(func() {
		passErr = l.passAll(ordered)
		c.Close() // for the reader, should it still wait for more
		for a := range ordered {
			<-a.ready
			a.drop()
		}
	})
	err := l.receive(c, work, ordered)
	close(work)
	close(ordered)
	wg.Wait()
	if passErr != nil {
		return passErr
	}
	return err
}

func (l *Link) receive(c net.Conn, work, ordered chan<- *arrival) error {
	head := make([]byte, wire.HeaderSize)
	for {
		if _, err := io.ReadFull(c, head); err != nil {
			return err
		}
		h, err := wire.ParseHeader(head)
		if err == nil {
			err = l.announced(h)
		}
		if err != nil {
			l.complain(err)
			return err
		}
		f := l.pool.frame(h)
		if _, err := io.ReadFull(c, f.body()); err != nil {
			f.drop()
			return err
		}
		a := &arrival{frame: f, ready: make(chan struct{})}
		ordered <- a
		work <- a
	}
}

// checkAll is one checker.
func (l *Link) checkAll(o *opener, work <-chan *arrival) {
	for a := range work {
		if a.frame.Kind == wire.PieceFrame && a.frame.Seq > l.last() {
			a.piece, a.err = l.check(o, a.frame)
		}
		close(a.ready)
	}
}

// check gives the true bytes of a frame, which are what its hash says.
func (l *Link) check(o *opener, f *frame) (*loan, error) {
	p := &loan{frame: f}
	var room []byte
	if f.Flags&wire.Zstd != 0 {
		p.room = l.pool.frame(wire.Header{Stored: f.True})
		room = p.room.body()
	} else {
		f.hold()
	}
	var err error
	if p.data, err = o.open(f, room); err != nil {
		p.drop()
		return nil, err
	}
	return p, nil
}

// passAll hands frames on in the order in which they came, and only then
// offers their pieces to the sink.
func (l *Link) passAll(ordered <-chan *arrival) error {
	for a := range ordered {
		<-a.ready
		err := l.pass(a)
		a.drop()
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Link) pass(a *arrival) error {
	if a.frame.Seq <= l.last() {
		return nil
	}
	if a.err != nil {
		l.complain(a.err)
		return a.err
	}
	if err := l.outlet.push(a.frame); err != nil {
		return err
	}
	l.settle(a.frame, a.piece)
	return nil
}

func (a *arrival) drop() {
	if a.piece != nil {
		a.piece.drop()
	}
	a.frame.drop()
}
