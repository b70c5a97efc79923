package archive

import (
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// How a file is compressed, and what archive it is.
const (
	Gzip     = "gz"
	Compress = "Z" // compress(1)
	Zstd     = "zst"
	XZ       = "xz"

	Tar  = "tar"
	CPIO = "cpio"
)

// Form is how a file is packed. Zero: it isn't.
type Form struct {
	Archive string `json:"archive,omitempty"` // Tar, CPIO, or empty: one file
	Packing string `json:"packing,omitempty"` // Gzip, Compress, Zstd, XZ, or empty
}

// String is the form as the end of a file's name.
func (f Form) String() string {
	switch {
	case f.Archive == "":
		return f.Packing
	case f.Packing == "":
		return f.Archive
	}
	return f.Archive + "." + f.Packing
}

// Check refuses a form that isn't known here.
func (f Form) Check() error {
	switch f.Archive {
	case "", Tar, CPIO:
	default:
		return fmt.Errorf("archive %q: not known", f.Archive)
	}
	switch f.Packing {
	case "", Gzip, Compress, Zstd, XZ:
		return nil
	}
	return fmt.Errorf("compression %q: not known", f.Packing)
}

// FormOf tells from a file's name how it is packed.
func FormOf(name string) Form {
	name = path.Base(name)
	for _, short := range []struct{ end, long string }{{".tgz", ".tar.gz"}, {".taz", ".tar.Z"}, {".tzst", ".tar.zst"}, {".txz", ".tar.xz"}} {
		if rest, ok := strings.CutSuffix(name, short.end); ok {
			name = rest + short.long
		}
	}
	var f Form
	for _, p := range []string{Gzip, Compress, Zstd, XZ} {
		if rest, ok := strings.CutSuffix(name, "."+p); ok {
			f.Packing, name = p, rest
			break
		}
	}
	for _, a := range []string{Tar, CPIO} {
		if strings.HasSuffix(name, "."+a) {
			f.Archive = a
		}
	}
	return f
}

// maxWindow bounds what a zstd stream makes its reader remember: what zstd
// --long=27 makes, which is the most that zstd -d takes unasked (zstd(1)).
const maxWindow = 128 << 20

// Decompress reads what was packed so. The reader must be closed.
func Decompress(r io.Reader, packing string) (io.ReadCloser, error) {
	switch packing {
	case "":
		return io.NopCloser(r), nil
	case Gzip:
		return gzip.NewReader(r)
	case Compress:
		return io.NopCloser(newLZW(r)), nil
	case Zstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case XZ:
		x, err := xz.NewReader(r)
		if err != nil {
			return nil, err
		}
		return io.NopCloser(x), nil
	}
	return nil, Form{Packing: packing}.Check()
}
