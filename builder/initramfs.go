package builder

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"

	"github.com/cavaliergopher/cpio"
	"github.com/klauspost/compress/zstd"
)

// windowSize is how far back zstd may refer. The kernel allocates the window
// while it unpacks, and takes up to 128 MiB (ZSTD_WINDOWSIZE_MAX,
// lib/decompress_unzstd.c); 8 MiB is what level 19 of zstd(1) uses.
const windowSize = 8 << 20

// WriteInitramfs packs a tree as newc cpio in zstd.
func WriteInitramfs(ctx context.Context, file string, t *Tree) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewWriter(f,
		zstd.WithEncoderLevel(zstd.SpeedBestCompression),
		zstd.WithWindowSize(windowSize),
		zstd.WithEncoderCRC(true))
	if err != nil {
		return fmt.Errorf("set up zstd: %w", err)
	}
	buf := bufio.NewWriterSize(z, 1<<20)
	if err := writeCPIO(ctx, buf, t); err != nil {
		z.Close()
		return err
	}
	if err := buf.Flush(); err != nil {
		z.Close()
		return fmt.Errorf("compress: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress: %w", err)
	}
	return f.Close()
}

// writeCPIO writes no device nodes: the kernel's own built-in initramfs has
// /dev/console, and init mounts devtmpfs over the rest.
func writeCPIO(ctx context.Context, w io.Writer, t *Tree) error {
	cw := cpio.NewWriter(w)
	for _, e := range t.Sorted() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := writeEntry(cw, e); err != nil {
			return fmt.Errorf("write cpio entry %s: %w", e.Name, err)
		}
	}
	return cw.Close()
}

func writeEntry(cw *cpio.Writer, e *Entry) error {
	h := &cpio.Header{Name: e.Name, Mode: cpio.FileMode(e.Mode.Perm()), Links: 1}
	var body []byte
	var err error
	switch e.Mode.Type() {
	case fs.ModeDir:
		h.Mode |= cpio.TypeDir
		h.Links = 2
		if e.Mode&fs.ModeSticky != 0 {
			h.Mode |= cpio.ModeSticky
		}
	case fs.ModeSymlink:
		// The package ignores Linkname when it writes: the target is the body.
		h.Mode |= cpio.TypeSymlink
		body = []byte(e.Target)
	default:
		h.Mode |= cpio.TypeReg
		if body, err = e.Content(); err != nil {
			return err
		}
	}
	if len(body) > math.MaxUint32 {
		return fmt.Errorf("%d bytes: newc can't hold more than %d", len(body), uint32(math.MaxUint32))
	}
	h.Size = int64(len(body))
	if err := cw.WriteHeader(h); err != nil {
		return err
	}
	if len(body) == 0 {
		return nil
	}
	_, err = cw.Write(body)
	return err
}
