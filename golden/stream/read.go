package stream

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// pieceRange checks a piece against its stream and says where it lies.
func pieceRange(s wire.Stream, piece uint32, n int) (off int64, err error) {
	if piece >= s.Pieces {
		return 0, fmt.Errorf("read %s piece %d: the stream has %d", s.Kind, piece, s.Pieces)
	}
	if n != s.Len(piece) {
		return 0, fmt.Errorf("read %s piece %d: buffer of %d bytes, the piece has %d", s.Kind, piece, n, s.Len(piece))
	}
	return int64(piece) * int64(s.PieceSize), nil
}

// ReadPiece fills buf with a piece. A file that is shorter than it was when
// it was scanned, or gone, gives zero bytes in place of what it lacks and is
// listed by Changed; so does what the disk can't read, which is listed by
// Torn.
func (t *Tree) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	t.mu.Lock()
	if int(stream) >= len(t.streams) {
		t.mu.Unlock()
		return fmt.Errorf("read piece %d: no stream %d", piece, stream)
	}
	s, patches := t.streams[stream], t.patches
	t.mu.Unlock()
	off, err := pieceRange(s, piece, len(buf))
	if err != nil {
		return err
	}
	switch {
	case stream == ManifestID:
		copy(buf, t.encoded[off:])
		return nil
	case stream == ContentsID:
		r := newReader(t.root, &t.m, t.shortened)
		r.bad, r.tree = t.unreadable, t
		return r.readContents(t.segs, off, buf)
	}
	return patches[stream/2-1].read(s.Kind, off, buf)
}

func (t *Tree) shortened(entry int32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.torn[entry] = true
}

// ReadContents fills buf with the contents stream from off on, out of the
// files below the directory root. What a file lacks are zero bytes, and short
// is told of it. segs are the manifest's Segments.
func ReadContents(root int, m *Manifest, segs []Segment, off int64, buf []byte, short func(entry int32)) error {
	return newReader(root, m, short).readContents(segs, off, buf)
}

func (r *reader) readContents(segs []Segment, off int64, buf []byte) error {
	defer r.close()
	for i := FindSegment(segs, off); len(buf) > 0 && i < len(segs); i++ {
		s := segs[i]
		skip := off - s.Off
		n := min(s.Len-skip, int64(len(buf)))
		if err := r.read(s.Entry, buf[:n], s.Pos+skip); err != nil {
			return fmt.Errorf("read /%s: %w", r.m.Path(s.Entry), err)
		}
		buf, off = buf[n:], off+n
	}
	if len(buf) > 0 {
		return fmt.Errorf("read contents: they end at %d", off)
	}
	return nil
}

// reader keeps the last directory and the last file of one piece open: a
// piece may be a thousand small files of one directory, or a thousand
// extents of one file. Nothing is kept from one piece to the next: beside
// reading 1 MiB an open costs nothing, and no file stays busy on the golden
// node.
type reader struct {
	root      int
	m         *Manifest
	short     func(entry int32)
	bad       func(entry int32, x Extent) // nil: what can't be read is an error
	tree      *Tree                       // nil: not golden's
	dirIndex  int32
	dir       int
	fileIndex int32
	file      int // -1: couldn't be opened
}

func newReader(root int, m *Manifest, short func(int32)) *reader {
	return &reader{root: root, m: m, short: short, dirIndex: -1, dir: -1, fileIndex: -1, file: -1}
}

func (r *reader) close() {
	if r.file >= 0 {
		unix.Close(r.file)
	}
	if r.dir >= 0 {
		unix.Close(r.dir)
	}
	r.file, r.dir = -1, -1
}

func (r *reader) read(entry int32, buf []byte, pos int64) error {
	if err := r.open(entry); err != nil {
		return err
	}
	var n int
	if r.file >= 0 {
		var err error
		n, err = preadFull(r.file, buf, pos)
		if r.bad != nil && errors.Is(err, unix.EIO) {
			n, err = preadAround(r.file, buf, pos, func(x Extent) { r.bad(entry, x) })
		}
		if err != nil {
			return fmt.Errorf("%d bytes at %d: %w", len(buf), pos, err)
		}
	}
	if n < len(buf) {
		clear(buf[n:])
		r.short(entry)
	}
	return nil
}

// open makes entry the reader's file; one that is gone leaves it at -1.
func (r *reader) open(entry int32) error {
	if entry == r.fileIndex {
		return nil
	}
	if r.file >= 0 {
		unix.Close(r.file)
	}
	r.fileIndex, r.file = entry, -1
	e := &r.m.Entries[entry]
	if e.Parent != r.dirIndex {
		if r.dir >= 0 {
			unix.Close(r.dir)
		}
		r.dirIndex = e.Parent
		var err error
		r.dir, err = OpenBeneath(r.root, r.m.Path(e.Parent), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			r.dir = -1
			if !gone(err) {
				r.dirIndex = -1
				return err
			}
		}
	}
	fd, err := -1, error(unix.ENOENT)
	if r.dir >= 0 {
		fd, err = openQuietly(r.dir, e.Name, 0)
	}
	if r.tree != nil {
		fd, err = r.tree.sameInode(entry, fd, err)
	}
	if gone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		unix.Close(fd)
		return err
	}
	r.file = fd
	return nil
}

// gone: the name is not there any more, or something else is.
func gone(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO)
}
