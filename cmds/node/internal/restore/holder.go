package restore

import (
	"context"
	"fmt"
	"runtime"
	"sync"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// Held waits for the manifest and then hashes the pieces of the contents that
// the files hold which an update has kept (chain.Holder). Nothing is held
// without Options.Update.
func (t *Tree) Held(ctx context.Context, tell func(stream uint16, piece uint32, h wire.Hash)) error {
	if !t.opt.Update {
		return nil
	}
	select {
	case <-t.ready:
	case <-ctx.Done():
		return fmt.Errorf("held in %s: waiting for the manifest: %w", t.path, ctx.Err())
	}
	if t.err != nil {
		return t.err
	}
	read := func(piece uint32, buf []byte) bool {
		short := false
		off := int64(piece) * int64(t.contents.PieceSize)
		err := stream.ReadContents(t.root, t.m, t.segs, off, buf, func(int32) { short = true })
		return err == nil && !short // what this disk can't read comes from golden
	}
	return hashPieces(ctx, t.contents, t.kept(), read, func(piece uint32, h wire.Hash) {
		t.told[piece].Store(true)
		tell(t.contents.ID, piece, h)
	})
}

// kept lists the pieces of the contents all of whose files were kept.
func (t *Tree) kept() []uint32 {
	var pieces []uint32
	size := int64(t.contents.PieceSize)
	seg := 0
	for p := range t.contents.Pieces {
		off := int64(p) * size
		end, all := off+int64(t.contents.Len(p)), true
		for seg < len(t.segs) && t.segs[seg].Off+t.segs[seg].Len <= off {
			seg++
		}
		for i := seg; all && i < len(t.segs) && t.segs[i].Off < end; i++ {
			all = t.old[t.segs[i].Entry]
		}
		if all {
			pieces = append(pieces, p)
		}
	}
	return pieces
}

// hashed is a piece on its way through hashPieces.
type hashed struct {
	piece uint32
	ok    bool
	hash  wire.Hash
	done  chan struct{}
}

// hashPieces reads the pieces listed, several at a time, and tells of them in
// their order. read says whether the piece is there.
func hashPieces(ctx context.Context, s wire.Stream, pieces []uint32, read func(uint32, []byte) bool, tell func(uint32, wire.Hash)) error {
	ctx, cancel := context.WithCancel(ctx)
	workers := runtime.GOMAXPROCS(0)
	todo := make(chan *hashed)
	order := make(chan *hashed, 2*workers) // bounds how far one is ahead of the slowest
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() {
		defer close(todo)
		defer close(order)
		for _, p := range pieces {
			x := &hashed{piece: p, done: make(chan struct{})}
			select {
			case order <- x:
			case <-ctx.Done():
				return
			}
			select {
			case todo <- x:
			case <-ctx.Done():
				return
			}
		}
	})
	for range workers {
		wg.Go(func() {
			buf := make([]byte, s.PieceSize)
			for x := range todo {
				b := buf[:s.Len(x.piece)]
				if x.ok = read(x.piece, b); x.ok {
					x.hash = blake3.Sum256(b)
				}
				close(x.done)
			}
		})
	}
	for x := range order {
		select {
		case <-x.done:
			if x.ok {
				tell(x.piece, x.hash)
			}
		case <-ctx.Done():
		}
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("hash pieces: %w", err)
	}
	return nil
}
