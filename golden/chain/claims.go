package chain

import (
	"encoding/binary"

	"github.com/kamethod/kamethod/golden/wire"
)

// claims are what nodes say they held before the transfer. Of each piece they
// keep one sum, the first by which it was claimed, and who claims it by that:
// nodes that hold the same tree agree, and who doesn't is sent the piece.
type claims struct {
	sums [][]uint64 // by place of the stream, by piece; nil: nobody claims any of it
}

// holdings is one node's share of the claims.
type holdings struct {
	awaited bool       // it has said that it will claim, and has not said that it is through
	stream  int        // how far it is: the place of the stream …
	piece   uint32     // … and the piece behind its last claim
	bits    [][]uint64 // by place of the stream: pieces claimed by the common sum
}

// passed tells whether the node will say nothing more of a piece.
func (m *holdings) passed(stream int, piece uint32) bool {
	return !m.awaited || stream < m.stream || stream == m.stream && piece < m.piece
}

func sumOf(h wire.Hash) uint64 { return binary.BigEndian.Uint64(h[:wire.SumSize]) }

// take adds what a node says. Places that are not in the streams are dropped:
// they come from the network.
func (c *claims) take(m *holdings, streams []wire.Stream, have wire.Have) {
	i := place(streams, have.Stream)
	if i < 0 || len(have.Sums)%wire.SumSize != 0 {
		return
	}
	n := uint64(len(have.Sums) / wire.SumSize)
	if uint64(have.From)+n > uint64(streams[i].Pieces) {
		return
	}
	for len(c.sums) < len(streams) {
		c.sums = append(c.sums, nil)
	}
	for len(m.bits) < len(streams) {
		m.bits = append(m.bits, nil)
	}
	if c.sums[i] == nil {
		c.sums[i] = make([]uint64, streams[i].Pieces)
	}
	if m.bits[i] == nil {
		m.bits[i] = make([]uint64, (int(streams[i].Pieces)+63)/64)
	}
	for p := have.From; p < have.From+uint32(n); p++ {
		sum := binary.BigEndian.Uint64(have.Sums[int(p-have.From)*wire.SumSize:])
		if c.sums[i][p] == 0 {
			c.sums[i][p] = sum
		}
		if sum != 0 && c.sums[i][p] == sum {
			m.bits[i][p/64] |= 1 << (p % 64)
		}
	}
	if end := have.From + uint32(n); i > m.stream || i == m.stream && end > m.piece {
		m.stream, m.piece = i, end
	}
}

// claim tells whether a node claims a piece of this hash. It can be asked for
// once: should the claim be wrong, the piece is sent the next time.
func (c *claims) claim(m *holdings, i int, piece uint32, h wire.Hash) bool {
	if i >= len(m.bits) || m.bits[i] == nil || c.sums[i][piece] != sumOf(h) {
		return false
	}
	w, bit := &m.bits[i][piece/64], uint64(1)<<(piece%64)
	ok := *w&bit != 0
	*w &^= bit
	return ok
}
