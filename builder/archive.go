package builder

import (
	"archive/tar"
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
)

// tar reads a tar archive.
func (b *base) tar(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	tr := tar.NewReader(f)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := b.tarEntry(tr, h); err != nil {
			return err
		}
	}
}

func (b *base) tarEntry(tr *tar.Reader, h *tar.Header) error {
	e := &Entry{Name: h.Name, Mode: h.FileInfo().Mode(), UID: h.Uid, GID: h.Gid}
	switch h.Typeflag {
	case tar.TypeDir, tar.TypeFifo:
	case tar.TypeSymlink:
		e.Target = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		e.Major, e.Minor = deviceNumber(h.Devmajor, h.Devminor)
	case tar.TypeLink:
		to := b.tree.Get(h.Linkname)
		if to == nil || !to.Mode.IsRegular() {
			return fmt.Errorf("entry %q: second name of %q, which is no file before it", h.Name, h.Linkname)
		}
		e.Mode, e.read = to.Mode, to.read
	case tar.TypeReg, tar.TypeGNUSparse:
		return b.regular(e, tr)
	default:
		return fmt.Errorf("entry %q: kind %q is unknown", h.Name, h.Typeflag)
	}
	return b.put(e)
}

// deviceNumber undoes what some writers of Rock Ridge do: all of the number in
// its lower half, as fs/isofs/rock.c of Linux undoes it.
func deviceNumber(major, minor int64) (int64, int64) {
	switch {
	case major == 0 && minor>>20 != 0:
		return minor >> 20, minor & 0xfffff
	case major == 0 && minor > 0xff:
		return minor >> 8, minor & 0xff
	}
	return major, minor
}

// regular keeps a file's content.
func (b *base) regular(e *Entry, r io.Reader) error {
	name, err := b.keep(r, maxBase)
	if err != nil {
		return fmt.Errorf("entry %q: %w", e.Name, err)
	}
	e.read = func() ([]byte, error) { return os.ReadFile(name) }
	return b.put(e)
}

// cpioHeader is that of the "new ASCII" form, cpio(5): a magic and thirteen
// numbers of eight hexadecimal digits. We read it ourselves: of the two
// libraries at hand one passes over the numbers of devices, the other
// allocates whatever length a header names.
type cpioHeader struct {
	ino, mode, uid, gid, nlink, size, devMajor, devMinor, major, minor, name int64
}

const cpioHeaderLength = 6 + 13*8

func parseCPIO(raw []byte) (h cpioHeader, err error) {
	if magic := string(raw[:6]); magic != "070701" && magic != "070702" {
		return h, fmt.Errorf("magic %q: want 070701", magic)
	}
	for i, to := range []*int64{&h.ino, &h.mode, &h.uid, &h.gid, &h.nlink, nil, &h.size, &h.devMajor, &h.devMinor, &h.major, &h.minor, &h.name, nil} {
		word := string(raw[6+8*i : 14+8*i])
		n, err := strconv.ParseUint(word, 16, 32)
		if err != nil {
			return h, fmt.Errorf("word %q: want eight hexadecimal digits", word)
		}
		if to != nil {
			*to = int64(n)
		}
	}
	if h.name < 1 || h.name > maxBaseName {
		return h, fmt.Errorf("name of %d bytes, more than %d", h.name, maxBaseName)
	}
	return h, nil
}

// cpio reads one archive. What follows it would be lost without a word, so it
// is an error: an initrd with a processor's microcode is made of two.
func (b *base) cpio(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	links := map[[3]int64][]*Entry{} // names of one file that has several
	raw := make([]byte, cpioHeaderLength)
	for at := int64(0); ; {
		if _, err := f.ReadAt(raw, at); err != nil {
			return fmt.Errorf("header at byte %d: %w", at, err)
		}
		h, err := parseCPIO(raw)
		if err != nil {
			return fmt.Errorf("header at byte %d: %w", at, err)
		}
		name := make([]byte, h.name)
		if _, err := f.ReadAt(name, at+cpioHeaderLength); err != nil {
			return fmt.Errorf("name at byte %d: %w", at, err)
		}
		word := string(bytes.TrimRight(name, "\x00"))
		body := align4(at + cpioHeaderLength + h.name)
		if h.size > st.Size()-body {
			return fmt.Errorf("entry %q: %d bytes, and only %d are left", word, h.size, max(0, st.Size()-body))
		}
		at = align4(body + h.size)
		if word == "TRAILER!!!" {
			return nothingAfter(f, at)
		}
		if err := b.cpioEntry(word, h, io.NewSectionReader(f, body, h.size), links); err != nil {
			return err
		}
	}
}

func align4(n int64) int64 { return (n + 3) &^ 3 }

func (b *base) cpioEntry(name string, h cpioHeader, body *io.SectionReader, links map[[3]int64][]*Entry) error {
	// archive/tar knows the bits of a mode; cpio has the same (inode(7)).
	mode := (&tar.Header{Mode: h.mode, Typeflag: cpioType(h.mode)}).FileInfo().Mode()
	e := &Entry{Name: name, Mode: mode, UID: int(h.uid), GID: int(h.gid), Major: h.major, Minor: h.minor}
	switch {
	case mode&fs.ModeSymlink != 0:
		if h.size > maxBaseName {
			return fmt.Errorf("entry %q: target of %d bytes", name, h.size)
		}
		target, err := io.ReadAll(body)
		if err != nil {
			return err
		}
		e.Target = string(target)
	case mode.IsRegular() && h.nlink > 1:
		key := [3]int64{h.devMajor, h.devMinor, h.ino}
		links[key] = append(links[key], e)
		if err := b.put(e); err != nil || h.size == 0 {
			return err
		}
		file, err := b.keep(body, maxBase)
		if err != nil {
			return err
		}
		for _, l := range links[key] { // the content comes with one of the names
			l.read = func() ([]byte, error) { return os.ReadFile(file) }
		}
		return nil
	case mode.IsRegular():
		return b.regular(e, body)
	}
	return b.put(e)
}

// cpioType turns the file type of a mode (inode(7)) into tar's.
func cpioType(mode int64) byte {
	switch mode & 0o170000 {
	case 0o040000:
		return tar.TypeDir
	case 0o120000:
		return tar.TypeSymlink
	case 0o020000:
		return tar.TypeChar
	case 0o060000:
		return tar.TypeBlock
	case 0o010000:
		return tar.TypeFifo
	}
	return tar.TypeReg
}

func nothingAfter(f *os.File, at int64) error {
	rest := io.NewSectionReader(f, at, maxBase)
	buf := make([]byte, 64<<10)
	for {
		n, err := rest.Read(buf)
		if i := bytes.IndexFunc(buf[:n], func(r rune) bool { return r != 0 }); i >= 0 {
			return fmt.Errorf("a second archive or other data follow at byte %d: unpack them (unmkinitramfs(8) does it) and name the folder", at+int64(i))
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// The compressed loop of Knoppix, version 2: a head of 128 bytes, the size of a
// block and their number, then an index of where each begins and the last one
// ends, all of them big-endian (cloop's compressed_loop.h). The blocks are
// packed by zlib.
const (
	cloopHead     = 128
	maxCloopBlock = 4 << 20 // create_compressed_fs makes 64 KiB
)

// cloop unpacks one. Debian's extract_compressed_fs dies of a division by zero
// on an image that it is done with in less than a second.
func (b *base) cloop(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return "", err
	}
	c := &cloopReader{f: f, size: st.Size()}
	sizes := make([]byte, 8)
	if _, err := f.ReadAt(sizes, cloopHead); err != nil {
		return "", fmt.Errorf("sizes at byte %d: %w", cloopHead, err)
	}
	c.block, c.blocks = int64(binary.BigEndian.Uint32(sizes)), int64(binary.BigEndian.Uint32(sizes[4:]))
	if c.block == 0 || c.block%512 != 0 || c.block > maxCloopBlock {
		return "", fmt.Errorf("blocks of %d bytes", c.block)
	}
	if c.blocks == 0 || c.blocks > (c.size-cloopHead-8)/8 {
		return "", fmt.Errorf("index of %d blocks in a file of %d bytes", c.blocks, c.size)
	}
	return b.keep(c, maxBase)
}

// cloopReader gives the blocks one after another.
type cloopReader struct {
	f                   *os.File
	size, block, blocks int64
	next                int64
	buf                 bytes.Reader
}

func (c *cloopReader) Read(p []byte) (int, error) {
	if c.buf.Len() == 0 {
		if c.next == c.blocks {
			return 0, io.EOF
		}
		if err := c.load(); err != nil {
			return 0, fmt.Errorf("block %d: %w", c.next, err)
		}
		c.next++
	}
	return c.buf.Read(p)
}

func (c *cloopReader) load() error {
	index := make([]byte, 16)
	if _, err := c.f.ReadAt(index, cloopHead+8+8*c.next); err != nil {
		return err
	}
	from, to := int64(binary.BigEndian.Uint64(index)), int64(binary.BigEndian.Uint64(index[8:]))
	if from < cloopHead || to < from || to > c.size {
		return fmt.Errorf("lies from byte %d to %d in a file of %d", from, to, c.size)
	}
	z, err := zlib.NewReader(io.NewSectionReader(c.f, from, to-from))
	if err != nil {
		return err
	}
	defer z.Close()
	out, err := io.ReadAll(io.LimitReader(z, c.block+1))
	if err != nil {
		return err
	}
	last := c.next == c.blocks-1
	if int64(len(out)) > c.block || int64(len(out)) < c.block && !last {
		return fmt.Errorf("%d bytes, want %d", len(out), c.block)
	}
	c.buf.Reset(out)
	return nil
}
