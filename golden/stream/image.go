package stream

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// Image is a source of one stream: a regular file or a block device, byte by
// byte.
type Image struct {
	f *os.File
	s wire.Stream
}

// OpenImage opens the file or block device at path as stream id. Its size is
// taken now; should it shrink, reading its pieces fails.
func OpenImage(id uint16, path string) (*Image, error) {
	// Without O_NONBLOCK a fifo would hold us here until somebody writes.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open image: %w", err)
	}
	size, err := imageSize(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	s := wire.NewStream(id, wire.ImageStream, size)
	s.Name = filepath.Base(path)
	return &Image{f: f, s: s}, nil
}

func imageSize(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	switch {
	case st.Mode().IsRegular():
		return st.Size(), nil
	case st.Mode().Type() == os.ModeDevice: // without ModeCharDevice: a block device
		return f.Seek(0, io.SeekEnd)
	}
	return 0, errors.New("is neither a regular file nor a block device")
}

// Streams announces the one stream.
func (i *Image) Streams() []wire.Stream { return []wire.Stream{i.s} }

// ReadPiece fills buf with a piece.
func (i *Image) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	if stream != i.s.ID {
		return fmt.Errorf("read piece %d of %s: no stream %d", piece, i.s.Name, stream)
	}
	off, err := pieceRange(i.s, piece, len(buf))
	if err != nil {
		return err
	}
	if _, err := i.f.ReadAt(buf, off); err != nil {
		return fmt.Errorf("read %s piece %d: %w", i.f.Name(), piece, err)
	}
	return nil
}

// Close closes the file.
func (i *Image) Close() error { return i.f.Close() }
