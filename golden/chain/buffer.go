package chain

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/kamethod/kamethod/golden/wire"
)

// frame is a header and its body in one buffer, as it is sent. It is shared by
// the ring, the sender and the sink; the last to drop it gives it back.
type frame struct {
	wire.Header
	buf  []byte
	refs atomic.Int32
	from *buffers
}

func (f *frame) body() []byte { return f.buf[wire.HeaderSize:] }

// size is the memory that the frame takes, not what is on the wire.
func (f *frame) size() int { return cap(f.buf) }

func (f *frame) hold() *frame { f.refs.Add(1); return f }

func (f *frame) drop() {
	if f.refs.Add(-1) == 0 {
		f.from.put(f.buf)
		f.buf = nil
	}
}

// buffers are kept by powers of two, so that a ring of well compressed pieces
// takes the memory of what it holds.
type buffers struct {
	class [32]sync.Pool
}

func (b *buffers) frame(h wire.Header) *frame {
	f := &frame{Header: h, buf: b.get(wire.HeaderSize + int(h.Stored)), from: b}
	f.refs.Store(1)
	h.Put(f.buf)
	return f
}

func (b *buffers) get(n int) []byte {
	c := bits.Len(uint(n - 1))
	if p, ok := b.class[c].Get().(*[]byte); ok && cap(*p) >= n {
		return (*p)[:n]
	}
	// A piece of 1 MiB with its header would double to 2 MiB: such sizes
	// have a class of their own beside the power of two.
	if n > wire.PieceSize && n <= wire.PieceSize+wire.HeaderSize {
		return make([]byte, n, wire.PieceSize+wire.HeaderSize)
	}
	return make([]byte, n, 1<<c)
}

func (b *buffers) put(buf []byte) {
	c := bits.Len(uint(cap(buf) - 1))
	if cap(buf) < 1<<c && cap(buf) != wire.PieceSize+wire.HeaderSize {
		return
	}
	b.class[c].Put(&buf)
}
