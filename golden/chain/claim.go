package chain

import (
	"context"
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// claimBatch is how many pieces a report claims at most; claimEvery is how
// long a claim may wait for others to go with it.
const (
	claimBatch = 4096
	claimEvery = 100 * time.Millisecond
)

// takeOver makes what an earlier link has stored what is here, and tells
// whether that one knew of the same streams.
func (l *Link) takeOver(old *Link) (same bool) {
	old.mu.Lock()
	defer old.mu.Unlock()
	for i, s := range old.streams {
		if i >= len(l.streams) {
			break
		}
		if l.streams[i] != s {
			continue
		}
		for p := range s.Pieces {
			if h, ok := old.ledger.known(s.ID, p); ok {
				l.held.add(s.ID, p, h)
			} else if h, ok := old.held.known(s.ID, p); ok {
				l.held.add(s.ID, p, h)
			}
		}
	}
	return slices.Equal(l.streams, old.streams)
}

// claim tells golden what is here: what an earlier link stored, and what the
// holder finds.
func (l *Link) claim(ctx context.Context) {
	if l.Resume == nil && l.Holder == nil {
		return
	}
	c := &claiming{l: l, began: time.Now()}
	if l.Resume != nil {
		for _, s := range l.Streams {
			for p := range s.Pieces {
				l.mu.Lock()
				h, ok := l.held.known(s.ID, p)
				l.mu.Unlock()
				if ok {
					c.add(s.ID, p, h)
				}
			}
		}
	}
	if l.Holder != nil && l.Resume == nil {
		c.pass(l.Streams)
		err := l.Holder.Held(ctx, func(stream uint16, piece uint32, h wire.Hash) {
			l.mu.Lock()
			fresh := !l.ledger.has(stream, piece, h)
			if fresh {
				l.held.add(stream, piece, h)
			}
			l.mu.Unlock()
			c.add(stream, piece, h)
		})
		if err != nil && ctx.Err() == nil {
			l.Log.Warn("look for what is here already", "err", err)
		}
	}
	c.flush()
	l.Tell(wire.LinkReport{Transfer: l.Transfer, HaveAll: true})
}

// claiming collects claims of pieces that follow each other.
type claiming struct {
	l     *Link
	have  wire.Have
	began time.Time
}

// pass says that nothing is claimed of the manifest and of maps of blocks:
// they are what the rest is known by, and come first.
func (c *claiming) pass(streams []wire.Stream) {
	for _, s := range streams {
		if s.Kind != wire.ManifestStream && s.Kind != wire.BlockMapStream {
			c.l.Tell(wire.LinkReport{Transfer: c.l.Transfer, Have: []wire.Have{{Stream: s.ID}}})
			return
		}
	}
}

func (c *claiming) add(stream uint16, piece uint32, h wire.Hash) {
	n := uint32(len(c.have.Sums) / wire.SumSize)
	if stream != c.have.Stream || piece < c.have.From+n || piece-c.have.From-n > claimBatch || n >= claimBatch || time.Since(c.began) > claimEvery {
		c.flush()
		c.have = wire.Have{Stream: stream, From: piece}
		n = 0
	}
	gap := piece - c.have.From - n
	c.have.Sums = append(c.have.Sums, make([]byte, int(gap)*wire.SumSize)...)
	c.have.Sums = append(c.have.Sums, h[:wire.SumSize]...)
}

func (c *claiming) flush() {
	if len(c.have.Sums) > 0 {
		c.l.Tell(wire.LinkReport{Transfer: c.l.Transfer, Have: []wire.Have{c.have}})
	}
	c.have, c.began = wire.Have{}, time.Now()
}
