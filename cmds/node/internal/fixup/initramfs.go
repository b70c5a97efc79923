package fixup

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
	"github.com/ulikunitz/xz/lzma"
)

// Bounds of an initramfs: more than any distribution's, and as little memory
// as a small node has.
const (
	maxUnpacked = 4 << 30   // bytes
	maxMembers  = 1 << 20   // files
	maxSegments = 16        // archives one after another: microcode, modules, the rest
	maxWindow   = 128 << 20 // bytes of zstd's window, as the kernel has it (lib/decompress_unzstd.c)
	maxPath     = 4096      // PATH_MAX, include/uapi/linux/limits.h
)

// member is a file in an initramfs.
type member struct {
	name string
	mode uint64
	data []byte    // of a regular file that isn't larger than maxScanned; else nil
	long io.Reader // the larger one's; it can be read while the file is shown
}

// walkInitramfs shows all files of an initramfs: archives one after another,
// of which the last may be compressed (Documentation/driver-api/early-userspace/
// buffer-format.rst).
func walkInitramfs(r io.Reader, show func(member) error) error {
	return walkSegments(bufio.NewReaderSize(io.LimitReader(r, maxUnpacked), 1<<16), true, show)
}

func walkSegments(r *bufio.Reader, outer bool, show func(member) error) error {
	for n := 0; n < maxSegments; n++ {
		switch err := skipZeros(r); {
		case err == nil:
		case n > 0 && (errors.Is(err, io.EOF) || !outer):
			return nil // a decompressor may stumble over what fills the last block
		default:
			return err
		}
		magic, err := r.Peek(6)
		if err != nil {
			return fmt.Errorf("begin of an archive: %w", err)
		}
		if isCPIO(magic) {
			if err := walkCPIO(r, show); err != nil {
				return err
			}
			continue
		}
		if !outer {
			if n > 0 {
				return nil // what fills the rest of the last block
			}
			return fmt.Errorf("no cpio archive but %x", magic)
		}
		plain, err := decompress(r, magic)
		if err != nil {
			return err
		}
		err = walkSegments(bufio.NewReaderSize(io.LimitReader(plain, maxUnpacked), 1<<16), false, show)
		if c, ok := plain.(interface{ Close() }); ok {
			c.Close()
		}
		return err // what a decompressor has read ahead is gone
	}
	return fmt.Errorf("more than %d archives", maxSegments)
}

func isCPIO(magic []byte) bool {
	return bytes.HasPrefix(magic, []byte("070701")) || bytes.HasPrefix(magic, []byte("070702"))
}

func skipZeros(r *bufio.Reader) error {
	for {
		b, err := r.ReadByte()
		if err != nil {
			return err
		}
		if b != 0 {
			return r.UnreadByte()
		}
	}
}

// decompress goes by the first bytes, as the kernel's decompress_method does
// (lib/decompress.c).
func decompress(r io.Reader, magic []byte) (io.Reader, error) {
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(r)
		if err == nil {
			z.Multistream(false)
		}
		return z, err
	case bytes.HasPrefix(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true))
	case bytes.HasPrefix(magic, []byte{0xfd, '7', 'z', 'X', 'Z', 0}):
		return xz.ReaderConfig{SingleStream: true}.NewReader(r)
	case bytes.HasPrefix(magic, []byte{0x02, 0x21, 0x4c, 0x18}), bytes.HasPrefix(magic, []byte{0x04, 0x22, 0x4d, 0x18}):
		return lz4.NewReader(r), nil
	case bytes.HasPrefix(magic, []byte("BZh")):
		return bzip2.NewReader(r), nil
	case bytes.HasPrefix(magic, []byte{0x5d, 0, 0}):
		return lzma.NewReader(r)
	}
	return nil, fmt.Errorf("begins with %x, which is neither a cpio archive nor compressed by gzip, bzip2, lzma, xz, lz4 or zstd", magic)
}

// walkCPIO shows the files of one archive, up to its trailer; cpio(5), "newc".
func walkCPIO(r io.Reader, show func(member) error) error {
	const headSize = 110
	var head [headSize]byte
	for range maxMembers {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return fmt.Errorf("head of a file: %w", err)
		}
		if !isCPIO(head[:]) {
			return fmt.Errorf("head of a file begins with %q", head[:6])
		}
		mode, size, nameSize := hexField(head[:], 1), hexField(head[:], 6), hexField(head[:], 11)
		if mode < 0 || size < 0 || nameSize < 1 || nameSize > maxPath {
			return fmt.Errorf("head of a file: impossible name of %d or contents of %d bytes", nameSize, size)
		}
		name := make([]byte, nameSize+pad4(headSize+nameSize))
		if _, err := io.ReadFull(r, name); err != nil {
			return fmt.Errorf("name of a file: %w", err)
		}
		m := member{name: string(bytes.TrimRight(name[:nameSize], "\x00")), mode: uint64(mode)}
		if m.name == "TRAILER!!!" {
			return nil
		}
		if err := readMember(r, m, size, show); err != nil {
			return err
		}
	}
	return fmt.Errorf("more than %d files", maxMembers)
}

// readMember shows a file, and passes over what of it nobody has read.
func readMember(r io.Reader, m member, size int64, show func(member) error) error {
	const formatMask, regular = 0o170000, 0o100000 // S_IFMT and S_IFREG, stat.h
	body := &io.LimitedReader{R: r, N: size}
	switch {
	case m.mode&formatMask != regular:
	case size <= maxScanned:
		m.data = make([]byte, size)
		if _, err := io.ReadFull(body, m.data); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	default:
		m.long = body
	}
	if err := show(m); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, r, body.N+pad4(size)); err != nil {
		return fmt.Errorf("%s: %w", m.name, err)
	}
	return nil
}

func pad4(n int64) int64 { return -n & 3 }

// hexField is the nth number of a head, -1: it is none.
func hexField(head []byte, n int) int64 {
	var b [4]byte
	if _, err := hex.Decode(b[:], head[6+8*n:14+8*n]); err != nil {
		return -1
	}
	return int64(b[0])<<24 | int64(b[1])<<16 | int64(b[2])<<8 | int64(b[3])
}
