package saved

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

// Reading ahead: so many pieces of the chain are read side by side, and so many
// are ready before they are cut.
const (
	readers   = 3
	readAhead = 8
)

// fetched is a piece of the chain on its way from the source.
type fetched struct {
	n     uint32
	buf   []byte
	err   error
	ready chan struct{}
}

// streamReader is a stream as it is, from its first byte to its last.
type streamReader struct {
	ordered chan *fetched
	cancel  context.CancelFunc
	wg      sync.WaitGroup
	pool    sync.Pool

	now  *fetched
	left []byte // of now
	read func(n int)
}

// openStream begins to read. Its goroutines end with the stream, or with close.
func openStream(ctx context.Context, src chain.Source, s wire.Stream, read func(n int)) *streamReader {
	r := &streamReader{ordered: make(chan *fetched, readAhead), read: read}
	r.pool.New = func() any { return new(make([]byte, s.PieceSize)) }
	ctx, r.cancel = context.WithCancel(ctx)
	work := make(chan *fetched)
	r.wg.Go(func() { r.list(ctx, s, work) })
	for range readers {
		r.wg.Go(func() {
			for f := range work {
				f.buf = (*r.pool.Get().(*[]byte))[:s.Len(f.n)]
				f.err = src.ReadPiece(s.ID, f.n, f.buf)
				close(f.ready)
			}
		})
	}
	return r
}

func (r *streamReader) list(ctx context.Context, s wire.Stream, work chan<- *fetched) {
	defer close(r.ordered)
	defer close(work)
	for n := range s.Pieces {
		f := &fetched{n: n, ready: make(chan struct{})}
		select {
		case work <- f:
		case <-ctx.Done():
			r.ordered <- &fetched{err: ctx.Err(), ready: closed()}
			return
		}
		r.ordered <- f // somebody reads or drains it until it is closed
	}
}

func closed() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}

// Read gives the next bytes of the stream.
func (r *streamReader) Read(p []byte) (int, error) {
	for len(r.left) == 0 {
		r.drop()
		f, ok := <-r.ordered
		if !ok {
			return 0, io.EOF
		}
		<-f.ready
		if r.now = f; f.err != nil {
			return 0, fmt.Errorf("read what is saved: %w", f.err)
		}
		r.left = f.buf
	}
	n := copy(p, r.left)
	r.left = r.left[n:]
	r.read(n)
	return n, nil
}

func (r *streamReader) drop() {
	if r.now != nil && r.now.buf != nil {
		b := r.now.buf[:cap(r.now.buf)]
		r.pool.Put(&b)
	}
	r.now, r.left = nil, nil
}

func (r *streamReader) close() {
	r.cancel()
	for f := range r.ordered {
		<-f.ready
	}
	r.wg.Wait()
}
