package archive

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// The three forms of cpio(5): new ASCII (with or without checksum), old ASCII,
// and old binary, which is what cpio -o makes where nobody says another.
const (
	newcMagic, crcMagic, odcMagic = "070701", "070702", "070707"

	newcHead, odcHead, binHead = 110, 76, 26 // bytes
	binMagic                   = 0o070707

	cpioTrailer = "TRAILER!!!"
	maxLinked   = 1 << 20 // files with several names: their first ones are kept
)

// Types of a mode (cpio(5)).
const (
	cpioType    = 0o170000
	cpioFifo    = 0o010000
	cpioChar    = 0o020000
	cpioDir     = 0o040000
	cpioBlock   = 0o060000
	cpioReg     = 0o100000
	cpioSymlink = 0o120000
	cpioSocket  = 0o140000
)

// cpioHeader is an entry's, of either form.
type cpioHeader struct {
	devMajor, devMinor, ino, mode, uid, gid, nlink, rdevMajor, rdevMinor, mtime, nameSize, size uint64

	head, pad int64 // its length; what name and contents are filled up to
}

// cpioReader is how far an archive was read.
type cpioReader struct {
	r     *bufio.Reader
	first map[[3]uint64]string // by device and inode: the first of several names
}

func walkCPIO(r io.Reader, each func(Entry, io.Reader) error) error {
	c := &cpioReader{r: bufio.NewReaderSize(r, 64<<10), first: map[[3]uint64]string{}}
	for n := 1; ; n++ {
		end, err := c.next(each)
		if err != nil {
			return fmt.Errorf("cpio, entry %d: %w", n, err)
		}
		if end {
			_, err := io.Copy(io.Discard, c.r)
			return err
		}
	}
}

func (c *cpioReader) next(each func(Entry, io.Reader) error) (end bool, err error) {
	h, err := c.header()
	if err != nil {
		return false, err
	}
	if h.nameSize < 1 || h.nameSize > maxPath+1 {
		return false, fmt.Errorf("a name of %d bytes", h.nameSize)
	}
	name := make([]byte, h.nameSize)
	if _, err := io.ReadFull(c.r, name); err != nil {
		return false, short(err)
	}
	if name[len(name)-1] != 0 {
		return false, fmt.Errorf("name %.60q has no end", name)
	}
	if err := c.skip(h.head+int64(h.nameSize), h.pad); err != nil {
		return false, err
	}
	e := Entry{
		Name: string(name[:len(name)-1]), Mode: uint32(h.mode & 0o7777), UID: int(h.uid), GID: int(h.gid),
		ModTime: time.Unix(int64(h.mtime), 0), Size: int64(h.size), Major: uint32(h.rdevMajor), Minor: uint32(h.rdevMinor),
	}
	if e.Name == cpioTrailer {
		return true, nil
	}
	data := &io.LimitedReader{R: c.r, N: e.Size}
	if err := c.kind(&e, h, data); err != nil {
		return false, err
	}
	if e.Kind != Other {
		if err := each(e, &whole{data}); err != nil {
			return false, err
		}
	}
	if _, err := io.Copy(io.Discard, &whole{data}); err != nil {
		return false, err
	}
	return false, c.skip(int64(h.size), h.pad)
}

// kind says what an entry is. A file with several names is a file where it
// comes first, and another name of that then.
func (c *cpioReader) kind(e *Entry, h cpioHeader, data *io.LimitedReader) error {
	switch h.mode & cpioType {
	case cpioReg, 0: // old programs wrote no type
		key := [3]uint64{h.devMajor, h.devMinor, h.ino}
		first, again := c.first[key]
		switch {
		case h.nlink < 2:
		case again:
			e.Kind, e.Link = Hardlink, first
		case len(c.first) >= maxLinked:
			return fmt.Errorf("more than %d files with several names", maxLinked)
		default:
			c.first[key] = e.Name
		}
		return nil
	case cpioSymlink:
		if e.Size >= maxPath {
			return fmt.Errorf("%q: symbolic link of %d bytes", e.Name, e.Size)
		}
		to, err := io.ReadAll(&whole{data})
		e.Kind, e.Link, e.Size = Symlink, string(to), 0
		return err
	}
	kinds := map[uint64]Kind{cpioDir: Dir, cpioChar: Char, cpioBlock: Block, cpioFifo: Fifo, cpioSocket: Other}
	k, ok := kinds[h.mode&cpioType]
	if !ok {
		return fmt.Errorf("%q: mode %o is of no type", e.Name, h.mode)
	}
	if e.Major >= maxMajor || e.Minor >= maxMinor {
		return fmt.Errorf("%q: device %d:%d", e.Name, e.Major, e.Minor)
	}
	e.Kind, e.Size = k, 0
	return nil
}

// whole says so where the contents end before their time.
type whole struct{ r *io.LimitedReader }

func (w *whole) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if errors.Is(err, io.EOF) && w.r.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func short(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// skip passes over what fills n bytes up.
func (c *cpioReader) skip(n, pad int64) error {
	_, err := c.r.Discard(int((pad - n%pad) % pad))
	return short(err)
}

func (c *cpioReader) header() (cpioHeader, error) {
	magic, err := c.r.Peek(6)
	if err != nil {
		return cpioHeader{}, short(err)
	}
	switch {
	case string(magic) == newcMagic, string(magic) == crcMagic:
		return c.newc()
	case string(magic) == odcMagic:
		return c.odc()
	case binary.LittleEndian.Uint16(magic) == binMagic:
		return c.bin(binary.LittleEndian)
	case binary.BigEndian.Uint16(magic) == binMagic:
		return c.bin(binary.BigEndian)
	}
	return cpioHeader{}, fmt.Errorf("begins with %q: no cpio archive", magic)
}

// fields reads a head of numbers that are written out.
func (c *cpioReader) fields(size, base int, widths ...int) ([]uint64, error) {
	head := make([]byte, size)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return nil, short(err)
	}
	var out []uint64
	rest := head[6:]
	for _, w := range widths {
		n, err := strconv.ParseUint(string(rest[:w]), base, 64)
		if err != nil {
			return nil, fmt.Errorf("head: %w", err)
		}
		out, rest = append(out, n), rest[w:]
	}
	return out, nil
}

func (c *cpioReader) newc() (cpioHeader, error) {
	f, err := c.fields(newcHead, 16, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8)
	if err != nil {
		return cpioHeader{}, err
	}
	return cpioHeader{
		ino: f[0], mode: f[1], uid: f[2], gid: f[3], nlink: f[4], mtime: f[5], size: f[6], devMajor: f[7], devMinor: f[8],
		rdevMajor: f[9], rdevMinor: f[10], nameSize: f[11], head: newcHead, pad: 4,
	}, nil
}

func (c *cpioReader) odc() (cpioHeader, error) {
	f, err := c.fields(odcHead, 8, 6, 6, 6, 6, 6, 6, 6, 11, 6, 11)
	if err != nil {
		return cpioHeader{}, err
	}
	h := cpioHeader{ino: f[1], mode: f[2], uid: f[3], gid: f[4], nlink: f[5], mtime: f[7], nameSize: f[8], size: f[9], head: odcHead, pad: 1}
	h.device(f[0], f[6])
	return h, nil
}

func (c *cpioReader) bin(o binary.ByteOrder) (cpioHeader, error) {
	head := make([]byte, binHead)
	if _, err := io.ReadFull(c.r, head); err != nil {
		return cpioHeader{}, short(err)
	}
	f := func(n int) uint64 { return uint64(o.Uint16(head[2*n:])) }
	h := cpioHeader{ino: f(2), mode: f(3), uid: f(4), gid: f(5), nlink: f(6), mtime: f(8)<<16 | f(9), nameSize: f(10), size: f(11)<<16 | f(12), head: binHead, pad: 2}
	h.device(f(1), f(7))
	return h, nil
}

// device splits the numbers of old, which have eight bits of each.
func (h *cpioHeader) device(dev, rdev uint64) {
	h.devMajor, h.devMinor, h.rdevMajor, h.rdevMinor = dev>>8, dev&0xff, rdev>>8, rdev&0xff
}
