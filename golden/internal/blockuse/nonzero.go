package blockuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

const (
	block = 4096    // is all zeros, or is sent
	chunk = 1 << 20 // is read at once
)

// nonzero reads all and lists what isn't zeros. Holes of a file are not read.
// What can't be read (EIO) counts as used: who sends it says what it lacks.
func nonzero(ctx context.Context, f *os.File, size int64) ([]stream.Extent, error) {
	m := stream.BlockMap{Bytes: size}
	buf := make([]byte, chunk)
	fd := int(f.Fd())
	_ = unix.Fadvise(fd, 0, 0, unix.FADV_SEQUENTIAL) // a hint
	for off := int64(0); off < size; {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		from, to := data(fd, off, size)
		if from >= size {
			break
		}
		from -= from % block
		for off = max(off, from); off < to; {
			part := buf[:min(chunk-off%chunk, to-off)]
			_, err := f.ReadAt(part, off)
			switch {
			case errors.Is(err, unix.EIO):
				m.Extents = append(m.Extents, stream.Extent{Off: off, Len: int64(len(part))})
			case err != nil && !errors.Is(err, io.EOF):
				return nil, fmt.Errorf("read %s at %d: %w", f.Name(), off, err)
			case err != nil:
				return nil, fmt.Errorf("read %s at %d: %w", f.Name(), off, io.ErrUnexpectedEOF)
			default:
				m.Extents = appendNonzero(m.Extents, part, off)
			}
			off += int64(len(part))
			if len(m.Extents) > 2*stream.MaxExtents {
				m.Join(joinGap)
			}
		}
	}
	m.Join(joinGap)
	return m.Extents, nil
}

// data is the next range from off on that isn't a hole; all the rest of a
// device, which can't tell.
func data(fd int, off, size int64) (from, to int64) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return off, size
	}
	from, err := unix.Seek(fd, off, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) {
		return size, size // a hole up to the end
	}
	if err == nil {
		to, err = unix.Seek(fd, from, unix.SEEK_HOLE)
	}
	if err != nil || to <= from {
		return off, size
	}
	return from, min(to, size)
}

// appendNonzero adds the blocks of part, which lies at off, that aren't zeros.
func appendNonzero(xs []stream.Extent, part []byte, off int64) []stream.Extent {
	var zero [block]byte
	for len(part) > 0 {
		n := min(len(part), block)
		if !bytes.Equal(part[:n], zero[:n]) {
			if i := len(xs) - 1; i >= 0 && xs[i].Off+xs[i].Len == off {
				xs[i].Len += int64(n)
			} else {
				xs = append(xs, stream.Extent{Off: off, Len: int64(n)})
			}
		}
		part, off = part[n:], off+int64(n)
	}
	return xs
}
