package stream

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/kamethod/kamethod/golden/wire"
)

// A block map says which ranges of a device come. Version 1:
//
//	offset  length  field
//	0       8       magic "kamblock"
//	8       2       version, little endian: 1
//	10      1       how: 'u' used, 'n' nonzero, 'r' raw
//	11      1       zero
//	12      ...     uvarint bytes of the device, uvarint number of extents,
//	                each: uvarint gap to the end of the one before, uvarint
//	                length; no length is 0, and no gap but the first
//
// The data is the extents, one after the other, and nothing between them.
const (
	blockMagic   = "kamblock"
	blockVersion = 1
	blockHeader  = 12
)

// MaxExtents bounds a block map, and so what a node keeps of one in memory:
// 16 MiB. Who makes one joins the nearest extents until it has no more.
const MaxExtents = 1 << 20

// MaxBlockMap is the longest encoded map.
const MaxBlockMap = blockHeader + 2*binary.MaxVarintLen64 + MaxExtents*2*binary.MaxVarintLen64

// BlockMap is which blocks of a device come.
type BlockMap struct {
	Bytes   int64    // of the device
	How     string   // wire.BlocksUsed, BlocksNonzero, BlocksRaw
	Extents []Extent // ascending; none is empty, none touches the next
}

func howByte(how string) (byte, bool) {
	switch how {
	case wire.BlocksUsed:
		return 'u', true
	case wire.BlocksNonzero:
		return 'n', true
	case wire.BlocksRaw:
		return 'r', true
	}
	return 0, false
}

// Data is how many bytes the extents have.
func (m BlockMap) Data() (n int64) {
	for _, x := range m.Extents {
		n += x.Len
	}
	return n
}

// Join sorts the extents, cuts off what lies outside the device, joins those
// with less than gap between them, and then the nearest until there are no
// more than MaxExtents.
func (m *BlockMap) Join(gap int64) {
	slices.SortFunc(m.Extents, func(a, b Extent) int { return cmp.Compare(a.Off, b.Off) })
	for gap = max(gap, 1); ; gap *= 2 {
		out := m.Extents[:0]
		for _, x := range m.Extents {
			from, to := max(x.Off, 0), min(x.Off+x.Len, m.Bytes)
			if from >= to {
				continue
			}
			if n := len(out) - 1; n >= 0 && from-(out[n].Off+out[n].Len) < gap {
				out[n].Len = max(out[n].Len, to-out[n].Off)
				continue
			}
			out = append(out, Extent{from, to - from})
		}
		if m.Extents = out; len(out) <= MaxExtents {
			return
		}
	}
}

// Gaps calls f for each range between the extents, and for what is behind them
// up to end.
func (m BlockMap) Gaps(end int64, f func(off, n int64) error) error {
	var pos int64
	for _, x := range m.Extents {
		if x.Off > pos {
			if err := f(pos, x.Off-pos); err != nil {
				return err
			}
		}
		pos = x.Off + x.Len
	}
	if end > pos {
		return f(pos, end-pos)
	}
	return nil
}

// check is what both ends hold a map to.
func (m BlockMap) check() error {
	if m.Bytes < 0 || len(m.Extents) > MaxExtents {
		return fmt.Errorf("block map: %d bytes, %d extents", m.Bytes, len(m.Extents))
	}
	var pos int64
	for i, x := range m.Extents {
		if x.Len <= 0 || x.Off < pos || i > 0 && x.Off == pos || x.Off > m.Bytes || x.Len > m.Bytes-x.Off {
			return fmt.Errorf("block map: extent %d, %d bytes at %d, behind %d of a device of %d", i, x.Len, x.Off, pos, m.Bytes)
		}
		pos = x.Off + x.Len
	}
	return nil
}

// Encode writes the map.
func (m BlockMap) Encode() ([]byte, error) {
	how, ok := howByte(m.How)
	if !ok {
		return nil, fmt.Errorf("block map: %q blocks", m.How)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	b := append([]byte(blockMagic), blockVersion, 0, how, 0)
	b = binary.AppendUvarint(b, uint64(m.Bytes))
	b = binary.AppendUvarint(b, uint64(len(m.Extents)))
	var pos int64
	for _, x := range m.Extents {
		b = binary.AppendUvarint(b, uint64(x.Off-pos))
		b = binary.AppendUvarint(b, uint64(x.Len))
		pos = x.Off + x.Len
	}
	return b, nil
}

// DecodeBlockMap reads a map, and refuses what Encode would not have written.
func DecodeBlockMap(b []byte) (*BlockMap, error) {
	if len(b) < blockHeader || string(b[:8]) != blockMagic {
		return nil, fmt.Errorf("block map of %d bytes: none begins like that", len(b))
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != blockVersion || b[11] != 0 {
		return nil, fmt.Errorf("block map: version %d, want %d", v, blockVersion)
	}
	m := &BlockMap{}
	for _, how := range []string{wire.BlocksUsed, wire.BlocksNonzero, wire.BlocksRaw} {
		if c, _ := howByte(how); c == b[10] {
			m.How = how
		}
	}
	if m.How == "" {
		return nil, fmt.Errorf("block map: %q blocks", b[10])
	}
	d := mapDecoder{b: b[blockHeader:]}
	m.Bytes = d.number()
	// Two bytes at least for each: so many can't come.
	n := d.number()
	if n > MaxExtents || n > int64(len(d.b)/2) {
		return nil, fmt.Errorf("block map: %d extents in %d bytes", n, len(b))
	}
	m.Extents = make([]Extent, 0, n)
	var pos int64
	for range n {
		gap, length := d.number(), d.number()
		if gap > math.MaxInt64-pos || length > math.MaxInt64-pos-gap {
			return nil, fmt.Errorf("block map: extent %d ends nowhere", len(m.Extents))
		}
		m.Extents = append(m.Extents, Extent{pos + gap, length})
		pos += gap + length
	}
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("block map: %d bytes are left, or some are missing", len(d.b))
	}
	return m, m.check()
}

type mapDecoder struct {
	b   []byte
	bad bool
}

func (d *mapDecoder) number() int64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 || v > math.MaxInt64 {
		d.bad, d.b = true, nil
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

// BlockData finds extents by where they are in the data.
type BlockData struct {
	m     *BlockMap
	start []int64 // of each extent, in the data
	total int64
}

// NewBlockData is over a map that was checked.
func NewBlockData(m *BlockMap) *BlockData {
	d := &BlockData{m: m, start: make([]int64, len(m.Extents))}
	for i, x := range m.Extents {
		d.start[i] = d.total
		d.total += x.Len
	}
	return d
}

// Bytes is how long the data is.
func (d *BlockData) Bytes() int64 { return d.total }

// Each takes buf, the data from off on, apart: f gets each part and where on
// the device it belongs.
func (d *BlockData) Each(off int64, buf []byte, f func(part []byte, at int64) error) error {
	if off < 0 || off > d.total || int64(len(buf)) > d.total-off {
		return fmt.Errorf("%d bytes at %d of %d bytes of blocks", len(buf), off, d.total)
	}
	i, ok := slices.BinarySearch(d.start, off)
	if !ok {
		i--
	}
	for len(buf) > 0 {
		x := d.m.Extents[i]
		skip := off - d.start[i]
		n := min(x.Len-skip, int64(len(buf)))
		if err := f(buf[:n], x.Off+skip); err != nil {
			return err
		}
		buf, off = buf[n:], off+n
		i++
	}
	return nil
}
