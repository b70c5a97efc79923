package chain

import (
	"cmp"
	"math/bits"
	"slices"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// ledger is which pieces of each stream are there, and their hashes. It is
// guarded by its owner.
type ledger struct {
	streams []wire.Stream
	have    [][]uint64 // a bit a piece
	hash    [][]wire.Hash
	held    uint64
	total   uint64
	bytes   int64 // true bytes of what is held
}

func newLedger(streams []wire.Stream) *ledger {
	l := &ledger{}
	l.grow(streams)
	return l
}

// grow takes in streams behind those that it knows.
func (l *ledger) grow(streams []wire.Stream) {
	for _, s := range streams[min(len(l.streams), len(streams)):] {
		l.streams = append(l.streams, s)
		l.have = append(l.have, make([]uint64, (int(s.Pieces)+63)/64))
		l.hash = append(l.hash, make([]wire.Hash, s.Pieces))
		l.total += uint64(s.Pieces)
	}
}

// at is where a stream stands in the ledger, -1 if it isn't there.
func (l *ledger) at(stream uint16) int { return place(l.streams, stream) }

func place(streams []wire.Stream, id uint16) int {
	for i, s := range streams {
		if s.ID == id {
			return i
		}
	}
	return -1
}

// known is the hash of a piece that is there.
func (l *ledger) known(stream uint16, piece uint32) (wire.Hash, bool) {
	i := l.at(stream)
	if i < 0 || piece >= l.streams[i].Pieces || l.have[i][piece/64]&(1<<(piece%64)) == 0 {
		return wire.Hash{}, false
	}
	return l.hash[i][piece], true
}

func (l *ledger) has(stream uint16, piece uint32, h wire.Hash) bool {
	got, ok := l.known(stream, piece)
	return ok && got == h
}

func (l *ledger) add(stream uint16, piece uint32, h wire.Hash) {
	i := l.at(stream)
	w, bit := &l.have[i][piece/64], uint64(1)<<(piece%64)
	if *w&bit == 0 {
		*w |= bit
		l.held++
		l.bytes += int64(l.streams[i].Len(piece))
	}
	l.hash[i][piece] = h
}

func (l *ledger) complete() bool { return l.held == l.total }

// missing lists what is not there.
func (l *ledger) missing() []wire.Range {
	var out []wire.Range
	for i, s := range l.streams {
		for p := uint32(0); p < s.Pieces; {
			w := l.have[i][p/64] >> (p % 64)
			if w == ^uint64(0)>>(p%64) { // all there up to the word's end
				p = (p/64 + 1) * 64
				continue
			}
			if n := uint32(bits.TrailingZeros64(^w)); n > 0 {
				p += n
				continue
			}
			from := p
			for p < s.Pieces && l.have[i][p/64]&(1<<(p%64)) == 0 {
				p++
			}
			out = append(out, wire.Range{Stream: s.ID, From: from, To: p})
		}
	}
	return out
}

// root is one hash over the hashes of all pieces of the first so many streams,
// in their order; false if one of them is not there.
func (l *ledger) root(streams int) (wire.Hash, bool) {
	h := blake3.New()
	if streams < 0 || streams > len(l.streams) {
		return wire.Hash{}, false
	}
	for i := range streams {
		if n := bitsIn(l.have[i]); n != int(l.streams[i].Pieces) {
			return wire.Hash{}, false
		}
		for j := range l.hash[i] {
			h.Write(l.hash[i][j][:])
		}
	}
	var out wire.Hash
	h.Sum(out[:0])
	return out, true
}

func bitsIn(words []uint64) (n int) {
	for _, w := range words {
		n += bits.OnesCount64(w)
	}
	return n
}

// within tells whether ranges, as valid lists them, speak of a piece.
func within(rs []wire.Range, stream uint16, piece uint32) bool {
	i, ok := slices.BinarySearchFunc(rs, piece, func(r wire.Range, p uint32) int {
		switch {
		case r.Stream != stream:
			return cmp.Compare(r.Stream, stream)
		case r.To <= p:
			return -1
		case r.From > p:
			return 1
		}
		return 0
	})
	return ok && rs[i].Stream == stream
}

// count is how many pieces ranges speak of.
func count(rs []wire.Range) (n uint64) {
	for _, r := range rs {
		n += uint64(r.To - r.From)
	}
	return n
}

// valid drops what is not in the streams, sorts, and joins what overlaps:
// ranges come from the network, and work on them must not outgrow the streams.
func valid(rs []wire.Range, streams []wire.Stream) []wire.Range {
	var out []wire.Range
	for _, r := range rs {
		for _, s := range streams {
			if s.ID == r.Stream && r.From < r.To && r.To <= s.Pieces {
				out = append(out, r)
			}
		}
	}
	slices.SortFunc(out, func(a, b wire.Range) int {
		return cmp.Or(cmp.Compare(a.Stream, b.Stream), cmp.Compare(a.From, b.From))
	})
	joined := out[:0]
	for _, r := range out {
		if n := len(joined) - 1; n >= 0 && joined[n].Stream == r.Stream && r.From <= joined[n].To {
			joined[n].To = max(joined[n].To, r.To)
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// union adds ranges to a set of pieces and returns how it lists in order.
func union(streams []wire.Stream, sets ...[]wire.Range) []wire.Range {
	u := newLedger(streams) // its "missing" is the union
	for i := range u.have {
		for j := range u.have[i] {
			u.have[i][j] = ^uint64(0)
		}
	}
	for _, set := range sets {
		for _, r := range set {
			i := u.at(r.Stream)
			if i < 0 {
				continue
			}
			for p := r.From; p < r.To; p++ {
				u.have[i][p/64] &^= 1 << (p % 64)
			}
		}
	}
	return u.missing()
}
