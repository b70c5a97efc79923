package wire

import (
	"encoding/binary"
	"fmt"
)

// Ports of golden: the old KA's, so that old firewall rules still fit.
const (
	DataPort    = 30764 // tcp, frames
	ControlPort = 30765 // tcp, HTTPS; udp, who is golden?
)

// Version of the protocol; the two ends of a connection must have the same.
const Version = 1

// HeaderSize, HelloSize and WelcomeSize are lengths in bytes; doc.go has the
// layouts.
const (
	HeaderSize  = 64
	HelloSize   = 40
	WelcomeSize = 16
)

// MaxStored bounds the body of a frame. A piece that zstd makes larger is
// sent as it is, so a body is never longer than a piece.
const MaxStored = MaxPieceSize

// Kind of a frame.
type Kind byte

// The kinds of frames.
const (
	PieceFrame Kind = 1
	LapEnd     Kind = 2
	KeptFrame  Kind = 3 // who claims a piece with this hash has golden's
	VoidFrame  Kind = 4 // golden has the piece no more; the streams announced since replace all that was in it
)

// Zstd is the flag of a compressed body.
const Zstd byte = 1

// Hash is the BLAKE3-256 of a piece.
type Hash [32]byte

// TransferID is a transfer's name, 128 random bits. With --plain it is also
// the only thing that a stranger on the data port would have to guess.
type TransferID [16]byte

// Header is the first 64 bytes of a frame.
type Header struct {
	Kind   Kind
	Flags  byte
	Stream uint16
	Piece  uint32
	Lap    uint32
	Stored uint32
	True   uint32
	Seq    uint64
	Hash   Hash
}

var (
	frameMagic   = [4]byte{'K', 'A', 'F', '1'}
	helloMagic   = [4]byte{'K', 'A', 'H', '1'}
	welcomeMagic = [4]byte{'K', 'A', 'W', '1'}
)

// Put writes the header into the first HeaderSize bytes of b.
func (h Header) Put(b []byte) {
	copy(b, frameMagic[:])
	b[4], b[5] = byte(h.Kind), h.Flags
	binary.BigEndian.PutUint16(b[6:], h.Stream)
	binary.BigEndian.PutUint32(b[8:], h.Piece)
	binary.BigEndian.PutUint32(b[12:], h.Lap)
	binary.BigEndian.PutUint32(b[16:], h.Stored)
	binary.BigEndian.PutUint32(b[20:], h.True)
	binary.BigEndian.PutUint64(b[24:], h.Seq)
	copy(b[32:64], h.Hash[:])
}

// ParseHeader reads a header and refuses one that no sound peer sends, so that
// nobody allocates by its lengths before they are known to be possible.
func ParseHeader(b []byte) (Header, error) {
	if len(b) < HeaderSize {
		return Header{}, fmt.Errorf("frame header of %d bytes, want %d", len(b), HeaderSize)
	}
	if [4]byte(b) != frameMagic {
		return Header{}, fmt.Errorf("frame begins with %q, want %q", b[:4], frameMagic)
	}
	h := Header{
		Kind:   Kind(b[4]),
		Flags:  b[5],
		Stream: binary.BigEndian.Uint16(b[6:]),
		Piece:  binary.BigEndian.Uint32(b[8:]),
		Lap:    binary.BigEndian.Uint32(b[12:]),
		Stored: binary.BigEndian.Uint32(b[16:]),
		True:   binary.BigEndian.Uint32(b[20:]),
		Seq:    binary.BigEndian.Uint64(b[24:]),
		Hash:   Hash(b[32:64]),
	}
	return h, h.check()
}

func (h Header) check() error {
	switch {
	case h.Flags&^Zstd != 0 && h.Kind != VoidFrame:
		return fmt.Errorf("frame has unknown flags %#x", h.Flags)
	case h.Seq == 0:
		return fmt.Errorf("frame has no sequence number")
	case h.Kind == LapEnd:
		if h.Stored != 0 || h.True != 0 {
			return fmt.Errorf("end of lap has a body of %d bytes, want none", h.Stored)
		}
		return nil
	case h.Kind == KeptFrame || h.Kind == VoidFrame:
		if h.Kind == VoidFrame && h.Flags == 0 || h.Kind == KeptFrame && h.Flags != 0 {
			return fmt.Errorf("frame of kind %d has flags %#x", h.Kind, h.Flags)
		}
		if h.Stored != 0 || h.True == 0 || h.True > MaxPieceSize {
			return fmt.Errorf("frame of kind %d has a body of %d bytes for a piece of %d, want none", h.Kind, h.Stored, h.True)
		}
		return nil
	case h.Kind != PieceFrame:
		return fmt.Errorf("frame is of unknown kind %d", h.Kind)
	case h.True == 0 || h.True > MaxPieceSize:
		return fmt.Errorf("piece has an impossible length of %d bytes, at most %d are allowed", h.True, MaxPieceSize)
	case h.Stored == 0 || h.Stored > MaxStored || h.Stored > h.True:
		return fmt.Errorf("frame has an impossible length of %d bytes for a piece of %d", h.Stored, h.True)
	case h.Flags&Zstd == 0 && h.Stored != h.True:
		return fmt.Errorf("frame of %d bytes is not compressed, its piece has %d", h.Stored, h.True)
	}
	return nil
}

// Check compares a piece's header with the streams that golden announced.
func (h Header) Check(streams []Stream) error {
	if h.Kind == LapEnd {
		return nil
	}
	for _, s := range streams {
		if s.ID != h.Stream {
			continue
		}
		if h.Piece >= s.Pieces {
			return fmt.Errorf("piece %d of stream %d, which has %d", h.Piece, h.Stream, s.Pieces)
		}
		if int(h.True) != s.Len(h.Piece) {
			return fmt.Errorf("piece %d of stream %d has an impossible length of %d bytes, want %d", h.Piece, h.Stream, h.True, s.Len(h.Piece))
		}
		return nil
	}
	return fmt.Errorf("piece of stream %d, which was not announced", h.Stream)
}

// Hello is the first word on a data connection.
type Hello struct {
	Transfer TransferID
	Epoch    uint32
	From, To uint32
}

// Bytes is the hello as sent.
func (h Hello) Bytes() []byte {
	b := make([]byte, HelloSize)
	copy(b, helloMagic[:])
	binary.BigEndian.PutUint16(b[4:], Version)
	copy(b[8:], h.Transfer[:])
	binary.BigEndian.PutUint32(b[24:], h.Epoch)
	binary.BigEndian.PutUint32(b[28:], h.From)
	binary.BigEndian.PutUint32(b[32:], h.To)
	return b
}

// ParseHello reads what Bytes made.
func ParseHello(b []byte) (Hello, error) {
	if len(b) < HelloSize || [4]byte(b) != helloMagic {
		return Hello{}, fmt.Errorf("data connection does not begin with a hello")
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != Version {
		return Hello{}, fmt.Errorf("hello of protocol version %d, want %d: both ends must be of one release", v, Version)
	}
	return Hello{
		Transfer: TransferID(b[8:24]),
		Epoch:    binary.BigEndian.Uint32(b[24:]),
		From:     binary.BigEndian.Uint32(b[28:]),
		To:       binary.BigEndian.Uint32(b[32:]),
	}, nil
}

// Welcome is the answer to a Hello.
type Welcome struct {
	Refused bool
	LastSeq uint64 // the last frame it has; replay begins after it
}

// Bytes is the welcome as sent.
func (w Welcome) Bytes() []byte {
	b := make([]byte, WelcomeSize)
	copy(b, welcomeMagic[:])
	binary.BigEndian.PutUint16(b[4:], Version)
	if w.Refused {
		b[7] = 1
	}
	binary.BigEndian.PutUint64(b[8:], w.LastSeq)
	return b
}

// ParseWelcome reads what Bytes made.
func ParseWelcome(b []byte) (Welcome, error) {
	if len(b) < WelcomeSize || [4]byte(b) != welcomeMagic {
		return Welcome{}, fmt.Errorf("answer to hello is no welcome")
	}
	if v := binary.BigEndian.Uint16(b[4:]); v != Version {
		return Welcome{}, fmt.Errorf("welcome of protocol version %d, want %d: both ends must be of one release", v, Version)
	}
	return Welcome{
		Refused: binary.BigEndian.Uint16(b[6:]) != 0,
		LastSeq: binary.BigEndian.Uint64(b[8:]),
	}, nil
}
