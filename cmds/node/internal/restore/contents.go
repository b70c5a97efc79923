package restore

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// putContents writes a piece into the files it is parts of. A file is created
// by the first piece that has a part of it and gets its attributes when the
// last has been written, so a small file is opened once.
func (t *Tree) putContents(piece uint32, data []byte) error {
	if err := checkPiece(t.contents, piece, len(data)); err != nil {
		return err
	}
	if err := t.await(); err != nil {
		return err
	}
	w := writer{t: t, dir: t.hold(), again: t.got[piece].Swap(true), entry: -1, fd: -1}
	defer w.dir.close()
	off := int64(piece) * int64(t.contents.PieceSize)
	for i := stream.FindSegment(t.segs, off); len(data) > 0 && i < len(t.segs); i++ {
		s := t.segs[i]
		skip := off - s.Off
		n := min(s.Len-skip, int64(len(data)))
		if err := w.write(s.Entry, data[:n], s.Pos+skip); err != nil {
			w.drop()
			t.got[piece].Store(false)
			return err
		}
		data, off = data[n:], off+n
	}
	err := w.finish()
	if err != nil {
		t.got[piece].Store(false)
	}
	return err
}

// writer is one piece on its way to the disk.
type writer struct {
	t     *Tree
	dir   *held
	again bool // the piece was here before: its bytes are counted
	entry int32
	fd    int
	n     int64 // written to entry
}

func (w *writer) write(entry int32, data []byte, pos int64) error {
	if entry != w.entry {
		if err := w.finish(); err != nil {
			return err
		}
		if err := w.open(entry); err != nil {
			return err
		}
	}
	if err := pwriteFull(w.fd, data, pos); err != nil {
		return fmt.Errorf("write %d bytes at %d of %s: %w", len(data), pos, w.t.name(entry), err)
	}
	w.n += int64(len(data))
	return nil
}

func (w *writer) drop() {
	if w.fd >= 0 {
		unix.Close(w.fd)
	}
	w.entry, w.fd, w.n = -1, -1, 0
}

// finish lets go of the file; the one who brought its last bytes gives it its
// attributes. Bytes that come once more have spoilt them (a write drops
// capabilities and moves the time), so they are given once more.
func (w *writer) finish() error {
	if w.fd < 0 {
		return nil
	}
	defer w.drop()
	n := w.n
	if w.again {
		n = 0
	}
	if atomic.AddInt64(&w.t.left[w.entry], -n) > 0 {
		return nil
	}
	return w.t.setOpen(w.fd, w.entry)
}

func (w *writer) open(entry int32) error {
	dir, err := w.dir.open(w.t.m.Entries[entry].Parent)
	if err != nil {
		return err
	}
	if w.fd, err = w.t.openFile(dir, entry); err != nil {
		return err
	}
	w.entry = entry
	return nil
}

// openFile opens a file for writing; the first to come creates it.
func (t *Tree) openFile(dir int, i int32) (int, error) {
	lock := t.lock(i)
	lock.Lock()
	defer lock.Unlock()
	e := &t.m.Entries[i]
	if !t.made[i] {
		fd, err := t.createFile(dir, i)
		t.made[i] = err == nil
		return fd, err
	}
	fd, err := unix.Openat(dir, e.Name, unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", t.name(i), err)
	}
	return fd, nil
}

func (t *Tree) lock(i int32) *sync.Mutex { return &t.locks[int(i)%len(t.locks)] }

// createFile makes a new file, whatever was there, with its holes.
func (t *Tree) createFile(dir int, i int32) (int, error) {
	e := &t.m.Entries[i]
	const flags = unix.O_WRONLY | unix.O_CREAT | unix.O_EXCL | unix.O_NOFOLLOW | unix.O_CLOEXEC
	mode := uint32(0o600)
	if t.privileged { // nobody else gets into the directory, and the mode keeps us from nothing
		mode = uint32(e.Mode & 0o777)
	}
	fd, err := unix.Openat(dir, e.Name, flags, mode)
	if errors.Is(err, unix.EEXIST) {
		if err := t.clear(dir, i); err != nil {
			return -1, err
		}
		fd, err = unix.Openat(dir, e.Name, flags, mode)
	}
	if err != nil {
		return -1, fmt.Errorf("create %s: %w", t.name(i), err)
	}
	if err := t.shape(fd, i); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// shape gives an empty file what has to be there before its data: flags such
// as nocow, its size if it has holes, and space that is allocated but not
// written, without which a swap file would be refused.
func (t *Tree) shape(fd int, i int32) error {
	e := &t.m.Entries[i]
	if t.isEarly(i) {
		t.early(fd, i)
	}
	if e.Dense {
		return nil
	}
	if err := unix.Ftruncate(fd, e.Size); err != nil {
		return fmt.Errorf("make %s %d bytes long: %w", t.name(i), e.Size, err)
	}
	if e.Sparse == nil {
		return nil
	}
	for _, x := range e.Sparse.Unwritten {
		err := unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, x.Off, x.Len)
		if errors.Is(err, unix.EOPNOTSUPP) {
			err = t.writeSpace(fd, i, x)
		}
		if err != nil {
			return fmt.Errorf("allocate %d bytes of %s: %w", x.Len, t.name(i), err)
		}
	}
	return nil
}

// writeSpace makes space without a hole where the file system can't reserve
// any (ext3): of zeros. A swap file with a hole would be refused.
func (t *Tree) writeSpace(fd int, i int32, x stream.Extent) error {
	e := &t.m.Entries[i]
	if x.Off+x.Len > e.Size {
		t.warnings.add("space reserved behind the end left out", i, unix.EOPNOTSUPP)
		x.Len = max(0, e.Size-x.Off)
	}
	zeros := make([]byte, min(x.Len, 1<<20))
	for x.Len > 0 {
		n := min(x.Len, int64(len(zeros)))
		if err := pwriteFull(fd, zeros[:n], x.Off); err != nil {
			return err
		}
		x.Off, x.Len = x.Off+n, x.Len-n
	}
	return nil
}

func pwriteFull(fd int, data []byte, off int64) error {
	for len(data) > 0 {
		n, err := unix.Pwrite(fd, data, off)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return unix.EIO // never seen; trying on would be for ever
		}
		data, off = data[n:], off+int64(n)
	}
	return nil
}
