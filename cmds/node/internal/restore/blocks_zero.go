package restore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// zeroStep is how much is made zeros at once: nothing can stop it meanwhile.
const zeroStep = 64 << 20

// zeroer makes ranges of a device or file read as zeros, in the cheapest way
// that it has.
type zeroer struct {
	f     *os.File
	plain bool // it can only write them
}

// zeroAlign is the largest logical block there is: what isn't a multiple of it
// is written.
const zeroAlign = 4096

func (z *zeroer) zero(ctx context.Context, off, n int64) error {
	for end := off + n; off < end; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("zero %s at %d: %w", z.f.Name(), off, err)
		}
		step := min(end-off, zeroStep-off%zeroStep)
		switch {
		case off%zeroAlign != 0:
			step = min(step, zeroAlign-off%zeroAlign)
		case step > zeroAlign:
			step -= step % zeroAlign
		}
		if err := z.step(off, step); err != nil {
			return fmt.Errorf("zero %d bytes of %s at %d: %w", step, z.f.Name(), off, err)
		}
		off += step
	}
	return nil
}

// step tries a hole first, which a device that can discard makes of it (it
// reads as zeros, or the kernel says that it can't: fallocate(2), block/fops.c).
func (z *zeroer) step(off, n int64) error {
	if off%zeroAlign == 0 && n%zeroAlign == 0 && !z.plain {
		fd := int(z.f.Fd())
		for _, mode := range []uint32{unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_KEEP_SIZE} {
			err := unix.Fallocate(fd, mode, off, n)
			if err == nil {
				return nil
			}
			if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
				return err
			}
		}
		z.plain = true
	}
	zero := make([]byte, min(n, 1<<20))
	for n > 0 {
		m, err := z.f.WriteAt(zero[:min(n, int64(len(zero)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(m), n-int64(m)
	}
	return nil
}
