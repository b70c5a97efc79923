package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// Blocks is the sink of one partition's blocks: a map, and the data of what it
// lists. The map is not trusted: nothing outside the device is written.
//
//	map pieces ──▶ Decode, check ─▶ gaps become zeros (BlocksNonzero) ─┐
//	data pieces ─────────────────▶ written where the map says ─────────┴─▶ Finish: sync
type Blocks struct {
	// config
	plan   wire.Blocks
	path   string
	stream [2]wire.Stream // map, data
	update bool           // Held tells of what is there
	wait   time.Duration  // for the map

	// state of the map
	mu     sync.Mutex
	buf    []byte
	seen   []bool
	lacks  uint32
	grace  time.Time
	ready  chan struct{} // closed when the map is there, or can't be used
	err    error         // why not
	zeroed chan struct{} // closed when the gaps are zeros, or can't be; nil: they stay
	stop   context.CancelFunc

	// set before ready is closed
	f    *os.File
	size int64 // of the device
	data *stream.BlockData
	zerr error         // of making the gaps zeros; before zeroed is closed
	got  []atomic.Bool // pieces of the data
	told []atomic.Bool // those that Held has told of; nil: it tells of none
}

// NewBlocks prepares to write the blocks that the streams announce, those of
// the plan, to path: a block device, or a file that is large enough. update:
// what is there may be an earlier clone's.
func NewBlocks(blockMap, data wire.Stream, plan wire.Blocks, path string, update bool) (*Blocks, error) {
	for _, s := range []wire.Stream{blockMap, data} {
		if err := checkStream(s); err != nil {
			return nil, fmt.Errorf("restore blocks of %s: %w", plan.On, err)
		}
		if s.Name != plan.On {
			return nil, fmt.Errorf("restore blocks of %s: stream %d is of %q", plan.On, s.ID, s.Name)
		}
	}
	if blockMap.Kind != wire.BlockMapStream || data.Kind != wire.BlocksStream {
		return nil, fmt.Errorf("restore blocks of %s: streams of kinds %q and %q", plan.On, blockMap.Kind, data.Kind)
	}
	if n := blockMap.Bytes; n == 0 || n > stream.MaxBlockMap {
		return nil, fmt.Errorf("restore blocks of %s: map of %d bytes, at most %d", plan.On, n, stream.MaxBlockMap)
	}
	if data.Bytes > plan.Bytes {
		return nil, fmt.Errorf("restore blocks of %s: %d bytes of data, the plan's whole device has %d", plan.On, data.Bytes, plan.Bytes)
	}
	if path == "" {
		return nil, fmt.Errorf("restore blocks of %s: this node has no place for them", plan.On)
	}
	b := &Blocks{plan: plan, path: path, stream: [2]wire.Stream{blockMap, data}, update: update, wait: 5 * time.Second, ready: make(chan struct{})}
	b.seen, b.lacks = make([]bool, blockMap.Pieces), blockMap.Pieces
	b.got = make([]atomic.Bool, data.Pieces)
	if update {
		b.told = make([]atomic.Bool, data.Pieces)
	}
	return b, nil
}

// Put takes a piece. A piece that comes again is written again.
func (b *Blocks) Put(id uint16, piece uint32, data []byte) error {
	var err error
	switch id {
	case b.stream[0].ID:
		err = b.putMap(piece, data)
	case b.stream[1].ID:
		err = b.putData(piece, data)
	default:
		err = fmt.Errorf("put piece %d: no stream %d", piece, id)
	}
	if err != nil && !errors.Is(err, chain.ErrNotYet) {
		err = fmt.Errorf("blocks of %s to %s: %w", b.plan.On, b.path, err)
	}
	return err
}

func (b *Blocks) putMap(piece uint32, data []byte) error {
	s := b.stream[0]
	if err := checkPiece(s, piece, len(data)); err != nil {
		return err
	}
	b.mu.Lock()
	if b.seen[piece] {
		b.mu.Unlock()
		return nil
	}
	if b.buf == nil {
		b.buf = make([]byte, s.Bytes)
	}
	copy(b.buf[int64(piece)*int64(s.PieceSize):], data)
	b.seen[piece] = true
	b.lacks--
	last := b.lacks == 0
	b.mu.Unlock()
	if !last {
		return nil
	}
	b.err = b.begin()
	close(b.ready)
	return b.err
}

// begin reads the map, and only when all of it is right opens the device.
func (b *Blocks) begin() error {
	m, err := stream.DecodeBlockMap(b.buf)
	if err != nil {
		return err
	}
	d := stream.NewBlockData(m)
	switch {
	case d.Bytes() != b.stream[1].Bytes:
		return fmt.Errorf("map of %d bytes of data, %d are announced", d.Bytes(), b.stream[1].Bytes)
	case m.Bytes != b.plan.Bytes || m.How != b.plan.How:
		return fmt.Errorf("map of a device of %d bytes, %s; the plan has %d, %s", m.Bytes, m.How, b.plan.Bytes, b.plan.How)
	}
	// O_EXCL: a device that is mounted, or part of something, is refused.
	flags := os.O_RDWR
	if st, err := os.Stat(b.path); err == nil && st.Mode().Type() == os.ModeDevice {
		flags |= unix.O_EXCL
	}
	f, err := os.OpenFile(b.path, flags, 0)
	if err != nil {
		return err
	}
	if b.size, err = f.Seek(0, io.SeekEnd); err == nil && b.size < m.Bytes {
		err = fmt.Errorf("it has %d bytes, golden's %d", b.size, m.Bytes)
	}
	if err != nil {
		f.Close()
		return err
	}
	b.f, b.data = f, d
	if m.How == wire.BlocksNonzero {
		b.clear(m)
	}
	return nil
}

// clear makes the gaps zeros, while the data comes: where the device can't do
// that by itself it takes as long as writing them.
func (b *Blocks) clear(m *stream.BlockMap) {
	ctx, stop := context.WithCancel(context.Background())
	b.stop, b.zeroed = stop, make(chan struct{})
	go func() { // ends with the last gap, or by Close
		defer close(b.zeroed)
		z := zeroer{f: b.f}
		b.zerr = m.Gaps(b.size, func(off, n int64) error { return z.zero(ctx, off, n) })
	}()
}

// await waits a moment for the map, as Tree does for its manifest.
func (b *Blocks) await() error {
	b.mu.Lock()
	if b.grace.IsZero() {
		b.grace = time.Now().Add(manifestGrace)
	}
	wait := time.Until(b.grace)
	if b.lacks == 0 {
		wait = b.wait // it is there, and being read
	}
	b.mu.Unlock()
	timer := time.NewTimer(max(0, wait))
	defer timer.Stop()
	select {
	case <-b.ready:
		return b.err
	default:
	}
	select {
	case <-b.ready:
		return b.err
	case <-timer.C:
		return chain.ErrNotYet
	}
}

func (b *Blocks) putData(piece uint32, data []byte) error {
	s := b.stream[1]
	if err := checkPiece(s, piece, len(data)); err != nil {
		return err
	}
	if err := b.await(); err != nil {
		return err
	}
	err := b.data.Each(int64(piece)*int64(s.PieceSize), data, func(part []byte, at int64) error {
		_, err := b.f.WriteAt(part, at)
		return err
	})
	if err == nil {
		b.got[piece].Store(true)
	}
	return err
}

// ReadPiece reads a piece of the data back.
func (b *Blocks) ReadPiece(id uint16, piece uint32, buf []byte) error {
	s := b.stream[1]
	if id != s.ID {
		return fmt.Errorf("read piece %d of the blocks of %s: no stream %d", piece, b.plan.On, id)
	}
	if err := checkPiece(s, piece, len(buf)); err != nil {
		return err
	}
	return b.data.Each(int64(piece)*int64(s.PieceSize), buf, func(part []byte, at int64) error {
		_, err := b.f.ReadAt(part, at)
		return err
	})
}

// Held waits for the map and hashes what is there (chain.Holder).
func (b *Blocks) Held(ctx context.Context, tell func(stream uint16, piece uint32, h wire.Hash)) error {
	if !b.update {
		return nil
	}
	select {
	case <-b.ready:
	case <-ctx.Done():
		return fmt.Errorf("blocks of %s: waiting for the map: %w", b.plan.On, ctx.Err())
	}
	if b.err != nil {
		return b.err
	}
	s := b.stream[1]
	pieces := make([]uint32, s.Pieces)
	for i := range pieces {
		pieces[i] = uint32(i)
	}
	read := func(piece uint32, buf []byte) bool { return b.ReadPiece(s.ID, piece, buf) == nil }
	return hashPieces(ctx, s, pieces, read, func(piece uint32, h wire.Hash) {
		b.told[piece].Store(true)
		tell(s.ID, piece, h)
	})
}

// Finish waits until all is on the disk. Call it when no piece is missing.
func (b *Blocks) Finish(ctx context.Context) error {
	if err := b.finish(ctx); err != nil {
		return fmt.Errorf("blocks of %s to %s: %w", b.plan.On, b.path, err)
	}
	return nil
}

func (b *Blocks) finish(ctx context.Context) error {
	select {
	case <-b.ready:
	default:
		return errors.New("the map is not complete")
	}
	if b.err != nil {
		return b.err
	}
	for p := range b.got {
		if !b.got[p].Load() && (b.told == nil || !b.told[p].Load()) {
			return fmt.Errorf("piece %d is missing", p)
		}
	}
	if b.zeroed != nil {
		select {
		case <-b.zeroed:
			if b.zerr != nil {
				return b.zerr
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return b.f.Sync()
}

// Close ends what still goes on, and closes the device.
func (b *Blocks) Close() error {
	select {
	case <-b.ready:
	default:
		return nil // it wasn't opened
	}
	if b.zeroed != nil {
		b.stop()
		<-b.zeroed
	}
	if b.f == nil {
		return nil
	}
	err := b.f.Close()
	b.f = nil
	return err
}
