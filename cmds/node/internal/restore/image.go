package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/kamethod/kamethod/golden/wire"
)

// Image is the sink of one image stream: a file or a block device.
type Image struct {
	f      *os.File
	s      wire.Stream
	fresh  bool // was made by us: what isn't written reads as zeros
	device bool
	update bool // Held tells of what is there
	size   int64
}

// NewImage prepares to write the image that s announces to path. An existing
// file keeps what the image doesn't overwrite until Finish.
func NewImage(path string, s wire.Stream) (*Image, error) { return newImage(path, s, false) }

// UpdateImage is NewImage for a file or device that holds an older image:
// Held tells of the pieces that are right already.
func UpdateImage(path string, s wire.Stream) (*Image, error) { return newImage(path, s, true) }

func newImage(path string, s wire.Stream, update bool) (*Image, error) {
	if err := checkStream(s); err != nil {
		return nil, err
	}
	if s.Kind != wire.ImageStream {
		return nil, fmt.Errorf("restore image: stream %d is of kind %q", s.ID, s.Kind)
	}
	i := &Image{s: s, update: update}
	var err error
	i.f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if i.fresh = err == nil; errors.Is(err, fs.ErrExist) {
		i.f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	if err := i.checkTarget(); err != nil {
		i.f.Close()
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	return i, nil
}

// checkTarget wants a regular file, or a block device that is large enough.
func (i *Image) checkTarget() error {
	st, err := i.f.Stat()
	if err != nil {
		return err
	}
	switch {
	case st.Mode().IsRegular():
		if i.fresh {
			return i.f.Truncate(i.s.Bytes) // no space for it: say so now
		}
		i.size = st.Size()
		return nil
	case st.Mode().Type() == os.ModeDevice:
		i.device = true
		size, err := i.f.Seek(0, io.SeekEnd)
		i.size = size
		if err == nil && size < i.s.Bytes {
			err = fmt.Errorf("device of %d bytes, the image has %d", size, i.s.Bytes)
		}
		return err
	}
	return errors.New("is neither a regular file nor a block device")
}

// Put writes a piece; into a new file, only those of its blocks that aren't
// all zeros.
func (i *Image) Put(id uint16, piece uint32, data []byte) error {
	if id != i.s.ID {
		return fmt.Errorf("put piece %d: no stream %d", piece, id)
	}
	if err := checkPiece(i.s, piece, len(data)); err != nil {
		return err
	}
	off := int64(piece) * int64(i.s.PieceSize)
	if !i.fresh {
		return i.write(data, off)
	}
	for len(data) > 0 {
		n := run(data)
		if n > 0 {
			if err := i.write(data[:n], off); err != nil {
				return err
			}
		}
		n = min(len(data), max(n, 0)+zeros(data[n:]))
		data, off = data[n:], off+int64(n)
	}
	return nil
}

func (i *Image) write(data []byte, off int64) error {
	if _, err := i.f.WriteAt(data, off); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(data), off, err)
	}
	return nil
}

const block = 4096

var zeroBlock [block]byte

// zeros is how many bytes at the beginning of data are whole blocks of zeros
// (the last may be short).
func zeros(data []byte) int {
	n := 0
	for n < len(data) && isZero(data[n:min(n+block, len(data))]) {
		n += min(block, len(data)-n)
	}
	return n
}

// run is how many bytes come before the first block of zeros.
func run(data []byte) int {
	n := 0
	for n < len(data) && !isZero(data[n:min(n+block, len(data))]) {
		n += min(block, len(data)-n)
	}
	return n
}

func isZero(b []byte) bool { return string(b) == string(zeroBlock[:len(b)]) }

// ReadPiece reads a piece back, so that what is on the disk can be hashed.
func (i *Image) ReadPiece(id uint16, piece uint32, buf []byte) error {
	if id != i.s.ID {
		return fmt.Errorf("read piece %d: no stream %d", piece, id)
	}
	if err := checkPiece(i.s, piece, len(buf)); err != nil {
		return err
	}
	if _, err := i.f.ReadAt(buf, int64(piece)*int64(i.s.PieceSize)); err != nil {
		return fmt.Errorf("read piece %d: %w", piece, err)
	}
	return nil
}

// Held hashes the pieces that were there before (chain.Holder).
func (i *Image) Held(ctx context.Context, tell func(stream uint16, piece uint32, h wire.Hash)) error {
	if !i.update || i.fresh {
		return nil
	}
	var pieces []uint32
	for p := range i.s.Pieces {
		if int64(p)*int64(i.s.PieceSize)+int64(i.s.Len(p)) <= i.size {
			pieces = append(pieces, p)
		}
	}
	read := func(piece uint32, buf []byte) bool { return i.ReadPiece(i.s.ID, piece, buf) == nil }
	return hashPieces(ctx, i.s, pieces, read, func(piece uint32, h wire.Hash) { tell(i.s.ID, piece, h) })
}

// Finish gives a file its exact size and waits until all is on the disk.
func (i *Image) Finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("finish %s: %w", i.f.Name(), err)
	}
	if !i.device {
		if err := i.f.Truncate(i.s.Bytes); err != nil {
			return err
		}
	}
	if err := i.f.Sync(); err != nil {
		return err
	}
	return nil
}

// Close closes the file.
func (i *Image) Close() error { return i.f.Close() }
