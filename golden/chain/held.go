package chain

import (
	"math/bits"

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
	l := &ledger{streams: streams}
	for _, s := range streams {
		l.have = append(l.have, make([]uint64, (int(s.Pieces)+63)/64))
		l.hash = append(l.hash, make([]wire.Hash, s.Pieces))
		l.total += uint64(s.Pieces)
	}
	return l
}

// at is where a stream stands in the ledger; Header.Check has seen to it that
// it is there.
func (l *ledger) at(stream uint16) int {
	for i, s := range l.streams {
		if s.ID == stream {
			return i
		}
	}
	return -1
}

func (l *ledger) has(stream uint16, piece uint32, h wire.Hash) bool {
	i := l.at(stream)
	return l.have[i][piece/64]&(1<<(piece%64)) != 0 && l.hash[i][piece] == h
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

// root is one hash over the hashes of all pieces, in the order of the streams.
func (l *ledger) root() wire.Hash {
	h := blake3.New()
	for i := range l.hash {
		for j := range l.hash[i] {
			h.Write(l.hash[i][j][:])
		}
	}
	var out wire.Hash
	h.Sum(out[:0])
	return out
}

// count is how many pieces ranges speak of.
func count(rs []wire.Range) (n uint64) {
	for _, r := range rs {
		n += uint64(r.To - r.From)
	}
	return n
}

// valid drops what is not in the streams: ranges come from the network.
func valid(rs []wire.Range, streams []wire.Stream) []wire.Range {
	var out []wire.Range
	for _, r := range rs {
		for _, s := range streams {
			if s.ID == r.Stream && r.From < r.To && r.To <= s.Pieces {
				out = append(out, r)
			}
		}
	}
	return out
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
			for p := r.From; p < r.To; p++ {
				u.have[i][p/64] &^= 1 << (p % 64)
			}
		}
	}
	return u.missing()
}
