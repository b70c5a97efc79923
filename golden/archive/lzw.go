package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// The format of compress(1): two bytes of magic, one of flags, then codes of
// 9 to maxBits bits, the lowest bit first, in groups of eight codes. A group
// is filled up when codes become longer, and when the table is cleared.
const (
	lzwFirstBits = 9
	lzwMaxBits   = 16
	lzwClear     = 256
	lzwBitsMask  = 0x1f // of the flags: the most bits that a code has
	lzwBlocks    = 0x80 // of the flags: lzwClear is a code of its own
)

var errLZW = errors.New("compress: the data are damaged")

// lzw decompresses; it is an io.Reader.
type lzw struct {
	r       *bufio.Reader
	err     error
	begun   bool
	maxBits uint
	blocks  bool

	bits  uint   // of a code
	next  int    // the code that is made next
	old   int    // the code before; -1: none
	first byte   // of what that meant
	hold  uint32 // bits that were read
	held  uint
	group int // bytes of the group that were read

	prefix [1 << lzwMaxBits]uint16
	suffix [1 << lzwMaxBits]byte
	stack  [1<<lzwMaxBits + 1]byte
	out    []byte // of stack: what isn't handed out yet
}

func newLZW(r io.Reader) *lzw { return &lzw{r: bufio.NewReaderSize(r, 64<<10), old: -1} }

// begin reads the head.
func (z *lzw) begin() error {
	var head [3]byte
	if _, err := io.ReadFull(z.r, head[:]); err != nil || head[0] != 0x1f || head[1] != 0x9d {
		return errors.New("compress: not a file of compress(1)")
	}
	z.maxBits, z.blocks = uint(head[2]&lzwBitsMask), head[2]&lzwBlocks != 0
	if z.maxBits <= lzwFirstBits || z.maxBits > lzwMaxBits {
		return fmt.Errorf("compress: codes of %d bits (what compress -b 9 makes it can't read itself)", z.maxBits)
	}
	z.bits, z.next = lzwFirstBits, 256
	if z.blocks {
		z.next = lzwClear + 1
	}
	for i := range 256 {
		z.suffix[i] = byte(i)
	}
	return nil
}

func (z *lzw) Read(p []byte) (int, error) {
	if !z.begun {
		z.begun = true
		z.err = z.begin()
	}
	n := 0
	for n < len(p) && (len(z.out) > 0 || z.err == nil) {
		if len(z.out) == 0 {
			z.err = z.step()
			continue
		}
		m := copy(p[n:], z.out)
		z.out = z.out[m:]
		n += m
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, z.err
}

// code reads the next one. The end is where no whole code is left.
func (z *lzw) code() (int, error) {
	for z.held < z.bits {
		b, err := z.r.ReadByte()
		if err != nil {
			return 0, err
		}
		z.hold |= uint32(b) << z.held
		z.held += 8
		z.group++
	}
	c := int(z.hold & (1<<z.bits - 1))
	z.hold >>= z.bits
	z.held -= z.bits
	return c, nil
}

// align passes over what fills the group up: a group is as many bytes long as
// a code has bits.
func (z *lzw) align() error {
	if rest := z.group % int(z.bits); rest > 0 {
		if _, err := z.r.Discard(int(z.bits) - rest); err != nil {
			return err
		}
	}
	z.hold, z.held, z.group = 0, 0, 0
	return nil
}

// step takes one code.
func (z *lzw) step() error {
	if z.next > 1<<z.bits-1 && z.bits < z.maxBits {
		if err := z.align(); err != nil {
			return err
		}
		z.bits++
	}
	c, err := z.code()
	if err != nil {
		return err
	}
	if z.old < 0 {
		if c > 255 {
			return errLZW
		}
		z.old, z.first = c, byte(c)
		z.put(len(z.stack)-1, byte(c))
		return nil
	}
	if c == lzwClear && z.blocks {
		if err := z.align(); err != nil {
			return err
		}
		z.bits, z.next = lzwFirstBits, lzwClear // the next code makes entry 256, of which nobody speaks
		return nil
	}
	return z.mean(c)
}

// mean unrolls what a code means, the last byte first, and makes the next
// entry of the table.
func (z *lzw) mean(c int) error {
	this, at := c, len(z.stack)
	if c > z.next {
		return errLZW
	}
	if c == z.next { // what is being made just now
		at--
		z.stack[at] = z.first
		c = z.old
	}
	for ; c > 255; c = int(z.prefix[c]) {
		if at--; at <= 0 {
			return errLZW
		}
		z.stack[at] = z.suffix[c]
	}
	at--
	z.first = byte(c)
	z.put(at, z.first)
	if z.next < 1<<z.maxBits {
		z.prefix[z.next], z.suffix[z.next] = uint16(z.old), z.first
		z.next++
	}
	z.old = this
	return nil
}

func (z *lzw) put(at int, first byte) {
	z.stack[at] = first
	z.out = z.stack[at:]
}
