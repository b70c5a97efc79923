package stream

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// badBlock is how much is given up around a sector that can't be read: no
// disk has larger ones, and none of its file systems has smaller blocks that
// would pay.
const badBlock = 4096

// preadAround is preadFull for a file of which some blocks can't be read
// (EIO): they are zeros in buf, and bad is told of them.
func preadAround(fd int, buf []byte, off int64, bad func(Extent)) (int, error) {
	d := direct{fd: -1}
	defer d.close()
	var n int
	for n < len(buf) {
		pos := off + int64(n)
		block := buf[n:min(len(buf), n+int(badBlock-pos%badBlock))]
		m, err := preadFull(fd, block, pos)
		if errors.Is(err, unix.EIO) {
			m, err = d.read(fd, block, pos)
		}
		if errors.Is(err, unix.EIO) {
			clear(block)
			bad(Extent{pos, int64(len(block))})
			m, err = len(block), nil
		}
		n += m
		if err != nil || m < len(block) {
			return n, err
		}
	}
	return n, nil
}

// direct reads past the page cache, which keeps pages in folios of up to some
// MiB and gives none of it if a part can't be read.
type direct struct {
	fd    int // -1: not open yet, -2: can't be
	space [2 * badBlock]byte
}

func (d *direct) close() {
	if d.fd >= 0 {
		unix.Close(d.fd)
	}
}

// read reads within one block.
func (d *direct) read(fd int, buf []byte, off int64) (int, error) {
	if d.fd == -1 {
		var err error
		if d.fd, err = unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_DIRECT|unix.O_CLOEXEC, 0); err != nil {
			d.fd = -2
		}
	}
	if d.fd < 0 {
		return 0, unix.EIO
	}
	// O_DIRECT wants memory that begins at a block (open(2)).
	skip := -uintptr(unsafe.Pointer(&d.space)) % badBlock
	block := d.space[skip : skip+badBlock]
	in := off % badBlock
	n, err := preadFull(d.fd, block, off-in)
	if err != nil {
		return 0, unix.EIO
	}
	return copy(buf, block[min(int(in), n):n]), nil
}

// addExtent adds x to ranges that ascend, and joins what touches.
func addExtent(xs []Extent, x Extent) []Extent {
	at, _ := slices.BinarySearchFunc(xs, x.Off, func(y Extent, off int64) int { return cmp.Compare(y.Off+y.Len, off) })
	end := at
	for end < len(xs) && xs[end].Off <= x.Off+x.Len {
		from := min(x.Off, xs[end].Off)
		x = Extent{from, max(x.Off+x.Len, xs[end].Off+xs[end].Len) - from}
		end++
	}
	return slices.Replace(xs, at, end, x)
}

// badRanges tells of ranges that couldn't be read, the first of them.
func badRanges(xs []Extent) string {
	var sum int64
	var list []string
	for i, x := range xs {
		sum += x.Len
		if i < 4 {
			list = append(list, fmt.Sprintf("%d-%d", x.Off, x.Off+x.Len-1))
		} else if i == 4 {
			list = append(list, "...")
		}
	}
	return fmt.Sprintf("%d bytes can't be read and are zeros in the clones (at %s): %v", sum, strings.Join(list, ", "), unix.EIO)
}
