package saved

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// BrokenPiece is a piece that isn't there as it was saved.
type BrokenPiece struct {
	Path string
	Err  error
}

func (b *BrokenPiece) Error() string { return fmt.Sprintf("piece %s: %v", b.Path, b.Err) }
func (b *BrokenPiece) Unwrap() error { return b.Err }

// codec packs and unpacks pieces. It is one goroutine's.
type codec struct {
	enc  *zstd.Encoder // nil: pieces are stored as they are
	dec  *zstd.Decoder
	file []byte // as it is stored
	out  []byte // unpacked
}

// A piece is stored packed when it shrinks below 15/16, as the chain has it.
const worthNum, worthDen = 15, 16

// NoPack stores pieces as they are. Other levels are zstd's in klauspost's
// scale, 1 to 4.
const NoPack = 0

func newCodec(level int) (*codec, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(MaxPiece),
		zstd.WithDecoderMaxWindow(2*MaxPiece), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, fmt.Errorf("make decompressor: %w", err)
	}
	c := &codec{dec: dec}
	if level == NoPack {
		return c, nil
	}
	c.enc, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevel(level)), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithWindowSize(MaxPiece))
	if err != nil {
		dec.Close()
		return nil, fmt.Errorf("make compressor: %w", err)
	}
	return c, nil
}

func (c *codec) close() {
	c.dec.Close()
	if c.enc != nil {
		c.enc.Close()
	}
}

// pack gives what a piece's file holds, and its ending.
func (c *codec) pack(data []byte) (file []byte, ext string) {
	if c.enc == nil {
		return data, ""
	}
	c.file = c.enc.EncodeAll(data, c.file[:0])
	if len(c.file)*worthDen < len(data)*worthNum {
		return c.file, zstdExt
	}
	return data, ""
}

// errMissing is a piece that isn't there at all.
var errMissing = fmt.Errorf("missing: %w", fs.ErrNotExist)

// read gives a piece's true bytes, and how long its file is. It is the codec's
// until the next one. Whatever is in the file, no more than the piece has is
// read or unpacked.
func (s *Store) read(c *codec, h wire.Hash, length uint32) ([]byte, int64, error) {
	path := s.piecePath(h)
	data, stored, err := c.readFile(path+zstdExt, h, length)
	if err == nil {
		return data, stored, nil
	}
	raw, stored, rawErr := c.readFile(path, h, length)
	switch {
	case rawErr == nil:
		return raw, stored, nil
	case !errors.Is(err, fs.ErrNotExist):
		return nil, 0, &BrokenPiece{path + zstdExt, err}
	case !errors.Is(rawErr, fs.ErrNotExist):
		return nil, 0, &BrokenPiece{path, rawErr}
	}
	return nil, 0, &BrokenPiece{path, errMissing}
}

func (c *codec) readFile(path string, h wire.Hash, length uint32) ([]byte, int64, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	packed := filepath.Ext(path) == zstdExt
	if n := st.Size(); !st.Mode().IsRegular() || n == 0 || n > int64(length) || !packed && n != int64(length) {
		return nil, 0, fmt.Errorf("its file has %d bytes, the piece %d", n, length)
	}
	c.file = append(c.file[:0], make([]byte, st.Size())...)
	if _, err := io.ReadFull(f, c.file); err != nil {
		return nil, 0, err
	}
	data := c.file
	if packed {
		if cap(c.out) < int(length) {
			c.out = make([]byte, MaxPiece)
		}
		if data, err = c.dec.DecodeAll(c.file, c.out[:0:length]); err != nil {
			return nil, 0, fmt.Errorf("unpack: %w", err)
		}
	}
	if len(data) != int(length) || blake3.Sum256(data) != h {
		return nil, 0, errors.New("is not what its hash says")
	}
	return data, st.Size(), nil
}

// put stores a piece, unless it is there. What is there is compared: it may be
// of a saving that a power failure broke off.
func (s *Store) put(c *codec, h wire.Hash, data []byte) (stored int64, what outcome, err error) {
	was, stored, err := s.read(c, h, uint32(len(data)))
	if err == nil && bytes.Equal(was, data) {
		return stored, reused, nil
	}
	what = added
	if !errors.Is(err, fs.ErrNotExist) {
		what = mended
	}
	file, ext := c.pack(data)
	path := s.piecePath(h)
	if err := s.write(path+ext, file); err != nil {
		return 0, what, err
	}
	if what == mended { // a broken one may have the other ending
		other := path + zstdExt
		if ext != "" {
			other = path
		}
		if err := os.Remove(other); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return 0, what, fmt.Errorf("replace piece: %w", err)
		}
	}
	return int64(len(file)), what, nil
}

// outcome is what put has done.
type outcome int

const (
	added outcome = iota
	reused
	mended // it was there, and broken
)

// write makes a file whole or not at all, as far as other processes see. On
// the disk it is when the store is synced.
func (s *Store) write(path string, data []byte) error {
	tmp, err := s.writeTmp(data)
	if err != nil {
		return err
	}
	err = os.Rename(tmp, path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
			err = os.Rename(tmp, path)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(tmp))
	}
	return nil
}

func (s *Store) writeTmp(data []byte) (string, error) {
	tmp := filepath.Join(s.dir, tmpDir, rand.Text())
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write into %s: %w", s.dir, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		os.Remove(tmp)
		return "", fmt.Errorf("write into %s: %w", s.dir, err)
	}
	return tmp, nil
}

// syncAll puts on the disk whatever was written to the file system of d, and
// tells of what failed since d was opened (syncfs(2)).
func syncAll(d *os.File) error {
	if err := unix.Syncfs(int(d.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", d.Name(), err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
