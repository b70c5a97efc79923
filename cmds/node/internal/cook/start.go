package cook

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// A device gets its beginning last: the boot code, the partition table, the
// file system's first block. Until all of it is on the disk there are zeros,
// and no firmware and no boot loader starts what is half a system, also after
// a loss of power.
//
//	zeros, sync ─▶ all but the beginning, sync ─▶ the beginning, sync

// startSize is how much of a cooked device waits, in bytes: all that firmware
// reads, and file systems' superblocks (btrfs has its at 64 KiB). Of others it
// is a piece.
const startSize = 1 << 20

// write writes a piece of what comes as it is.
func (s *Sink) write(d *dish, piece uint32, data []byte) error {
	if !d.device {
		return d.image.Put(d.s.ID, piece, data)
	}
	d.hidden.Do(func() {
		d.hideErr = errors.Join(d.image.Put(d.s.ID, 0, make([]byte, d.s.Len(0))), d.image.Finish(s.ctx))
	})
	if d.hideErr != nil {
		return d.hideErr
	}
	if piece > 0 {
		return d.image.Put(d.s.ID, piece, data)
	}
	s.pantry.mu.Lock()
	defer s.pantry.mu.Unlock()
	d.start = bytes.Clone(data)
	return nil
}

// complete waits until all is on the disk, and then writes the beginning.
func (s *Sink) complete(d *dish) error {
	if err := d.image.Finish(s.ctx); err != nil || d.start == nil {
		return err
	}
	if err := d.image.Put(d.s.ID, 0, d.start); err != nil {
		return err
	}
	d.start = nil
	return d.image.Finish(s.ctx)
}

// hideStart reads the beginning of a device and leaves zeros in its place.
func hideStart(f *os.File, r io.Reader) ([]byte, error) {
	start := make([]byte, startSize)
	n, err := io.ReadFull(r, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	if _, err := f.Write(make([]byte, n)); err != nil {
		return nil, err
	}
	return start[:n], f.Sync()
}

func showStart(f *os.File, start []byte) error {
	if _, err := f.WriteAt(start, 0); err != nil {
		return err
	}
	return f.Sync()
}
