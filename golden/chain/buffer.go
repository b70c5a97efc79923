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

// buffers are kept by size, so that a ring of well compressed pieces takes the
// memory of what it holds: in powers of two, and, for whole pieces, which have
// such a length, in powers of two and a header.
type buffers struct {
	class [32]sync.Pool // of 1<<c bytes
	whole [32]sync.Pool // of 1<<c bytes and a header
}

func (b *buffers) frame(h wire.Header) *frame {
	f := &frame{Header: h, buf: b.get(wire.HeaderSize + int(h.Stored)), from: b}
	f.refs.Store(1)
	h.Put(f.buf)
	return f
}

func (b *buffers) get(n int) []byte {
	c := bits.Len(uint(n - 1))
	pool, size := &b.class[c], 1<<c
	if half := size / 2; half >= wire.MinPieceSize && n <= half+wire.HeaderSize {
		pool, size = &b.whole[c-1], half+wire.HeaderSize
	}
	if p, ok := pool.Get().(*[]byte); ok {
		return (*p)[:n]
	}
	return make([]byte, n, size)
}

func (b *buffers) put(buf []byte) {
	c := bits.Len(uint(cap(buf) - 1))
	if cap(buf) == 1<<c {
		b.class[c].Put(&buf)
	} else {
		b.whole[c-1].Put(&buf)
	}
}
