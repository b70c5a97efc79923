package chain

import (
	"fmt"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// Compression says what the head does to pieces.
type Compression int

// What --compress may say; a level of 1 to 4 is zstd's in klauspost's scale.
// Auto compresses at the fastest level while a link is what holds the chain
// up: where processors or disks do, the work would make it slower.
const (
	CompressAuto Compression = 0
	CompressOff  Compression = -1
)

// A piece is worth sending compressed when it shrinks below 15/16: less does
// not pay for the work in every node. After a piece that does not shrink,
// auto lets skipAfterMiss pieces go by untried.
const (
	worthNum, worthDen = 15, 16
	skipAfterMiss      = 7
)

// sealer turns pieces into frames. It is one goroutine's.
type sealer struct {
	enc  *zstd.Encoder
	auto bool
	skip int
	out  []byte
	pool *buffers
}

func newSealer(c Compression, pool *buffers) (*sealer, error) {
	s := &sealer{auto: c == CompressAuto, pool: pool}
	if c == CompressOff {
		return s, nil
	}
	level := zstd.SpeedFastest
	if c > 0 {
		level = zstd.EncoderLevel(c)
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(level), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(wire.PieceSize))
	if err != nil {
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	s.enc = enc
	return s, nil
}

// seal makes the frame of a piece; its seq and lap are set when it is sent.
// pays tells whether it is worth the work, should the sealer have to judge.
func (s *sealer) seal(stream uint16, piece uint32, data []byte, hash wire.Hash, pays bool) *frame {
	h := wire.Header{
		Kind: wire.PieceFrame, Stream: stream, Piece: piece, Seq: 1,
		True: uint32(len(data)), Stored: uint32(len(data)), Hash: hash,
	}
	body := data
	if z := s.shrink(data, pays); z != nil {
		body, h.Flags, h.Stored = z, wire.Zstd, uint32(len(z))
	}
	f := s.pool.frame(h)
	copy(f.body(), body)
	return f
}

func (s *sealer) close() {
	if s.enc != nil {
		s.enc.Close()
	}
}

func (s *sealer) shrink(data []byte, pays bool) []byte {
	if s.enc == nil || s.auto && !pays {
		return nil
	}
	if s.skip > 0 {
		s.skip--
		return nil
	}
	s.out = s.enc.EncodeAll(data, s.out[:0])
	if len(s.out)*worthDen < len(data)*worthNum {
		return s.out
	}
	if s.auto {
		s.skip = skipAfterMiss
	}
	return nil
}

// opener turns frames back into pieces and checks them. It is one goroutine's.
type opener struct {
	dec *zstd.Decoder
}

func newOpener() (*opener, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(wire.MaxPieceSize),
		zstd.WithDecoderMaxWindow(wire.MaxPieceSize), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	return &opener{dec: dec}, nil
}

func (o *opener) close() { o.dec.Close() }

// open gives the true bytes of a frame: its own body, or room with the
// decompressed body in it, which is as long as the piece.
func (o *opener) open(f *frame, room []byte) ([]byte, error) {
	data := f.body()
	if f.Flags&wire.Zstd != 0 {
		var err error
		if data, err = o.dec.DecodeAll(data, room[:0:f.True]); err != nil {
			return nil, fmt.Errorf("decompress piece %d of stream %d: %w", f.Piece, f.Stream, err)
		}
	}
	if len(data) != int(f.True) {
		return nil, fmt.Errorf("piece %d of stream %d has %d bytes, its frame says %d", f.Piece, f.Stream, len(data), f.True)
	}
	if verify && blake3.Sum256(data) != f.Hash {
		return nil, fmt.Errorf("piece %d of stream %d is not what its hash says", f.Piece, f.Stream)
	}
	return data, nil
}
