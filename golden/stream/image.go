package stream

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// Image is a source of one stream: a regular file or a block device, byte by
// byte.
type Image struct {
	f      *os.File
	s      wire.Stream
	digest string

	mu  sync.Mutex
	bad []Extent // what the disk can't read
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
	digest, err := digestOf(f, size)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open image %s: %w", path, err)
	}
	return &Image{f: f, s: s, digest: digest}, nil
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

// ReadPiece fills buf with a piece. What the disk can't read (EIO) are zero
// bytes, and listed by Torn.
func (i *Image) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	if stream != i.s.ID {
		return fmt.Errorf("read piece %d of %s: no stream %d", piece, i.s.Name, stream)
	}
	off, err := pieceRange(i.s, piece, len(buf))
	if err != nil {
		return err
	}
	_, err = i.f.ReadAt(buf, off)
	if errors.Is(err, unix.EIO) {
		err = i.readAround(buf, off)
	}
	if err != nil {
		return fmt.Errorf("read %s piece %d: %w", i.f.Name(), piece, err)
	}
	return nil
}

func (i *Image) readAround(buf []byte, off int64) error {
	n, err := preadAround(int(i.f.Fd()), buf, off, func(x Extent) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.bad = addExtent(i.bad, x)
	})
	if err == nil && n < len(buf) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Torn tells what of the image isn't sent as it should be; none is good.
func (i *Image) Torn() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(i.bad) == 0 {
		return nil
	}
	return []string{i.f.Name() + ": " + badRanges(i.bad)}
}

// Digest names what the image was when it was opened, by its size, time,
// inode and name: it is the same when it is opened once more and nothing has
// written to it. Nothing tells when a block device was written to: it has
// another digest each time.
func (i *Image) Digest() string { return i.digest }

func digestOf(f *os.File, size int64) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return "", err
	}
	h := blake3.New()
	fmt.Fprintf(h, "%q %d %d %d %v %v", f.Name(), size, st.Dev, st.Ino, st.Mtim, st.Ctim)
	if st.Mode&unix.S_IFMT == unix.S_IFBLK {
		fmt.Fprintf(h, " %s", rand.Text())
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// Close closes the file.
func (i *Image) Close() error { return i.f.Close() }
