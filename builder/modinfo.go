package builder

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxModule bounds what a compressed module may grow to; the largest of
// linux-image-6.1 is 15 MB.
const maxModule = 256 << 20

// moduleSuffixes are the forms that modules_install can make.
var moduleSuffixes = []string{".ko", ".ko.gz", ".ko.xz", ".ko.zst"}

// moduleStem cuts the suffix of a module's file name.
func moduleStem(file string) (string, bool) {
	for _, s := range moduleSuffixes {
		if stem, ok := strings.CutSuffix(file, s); ok {
			return stem, true
		}
	}
	return file, false
}

// readModule reads a module's file and decompresses it, as the kernel wants it.
func readModule(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var r io.Reader
	switch {
	case strings.HasSuffix(file, ".gz"):
		r, err = gzip.NewReader(bytes.NewReader(b))
	case strings.HasSuffix(file, ".xz"):
		r, err = xz.NewReader(bytes.NewReader(b))
	case strings.HasSuffix(file, ".zst"):
		var d *zstd.Decoder
		if d, err = zstd.NewReader(bytes.NewReader(b), zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			r = d
		}
	default:
		return b, nil
	}
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", file, err)
	}
	out, err := io.ReadAll(io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", file, err)
	}
	if len(out) > maxModule {
		return nil, fmt.Errorf("decompress %s: more than %d bytes", file, maxModule)
	}
	return out, nil
}

// modinfo is what a module says of itself, in section .modinfo.
type modinfo struct {
	depends  []string
	aliases  []string
	softdeps []string // "pre: crc32c post: x"
	firmware []string
	vermagic string
}

// parseModinfo reads the .modinfo section of an ELF file: NUL-terminated
// words of the form key=value (include/linux/moduleparam.h).
func parseModinfo(object []byte) (modinfo, error) {
	var mi modinfo
	f, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		return mi, fmt.Errorf("read ELF header: %w", err)
	}
	s := f.Section(".modinfo")
	if s == nil {
		return mi, fmt.Errorf("no section .modinfo: not a kernel module")
	}
	if s.Size > uint64(len(object)) {
		return mi, fmt.Errorf("section .modinfo: impossible size %d", s.Size)
	}
	data, err := s.Data()
	if err != nil {
		return mi, fmt.Errorf("read section .modinfo: %w", err)
	}
	for word := range strings.SplitSeq(string(data), "\x00") {
		key, value, _ := strings.Cut(word, "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					mi.depends = append(mi.depends, underscores(d))
				}
			}
		case "alias":
			mi.aliases = append(mi.aliases, value)
		case "softdep":
			mi.softdeps = append(mi.softdeps, value)
		case "firmware":
			mi.firmware = append(mi.firmware, value)
		case "vermagic":
			mi.vermagic = value
		}
	}
	return mi, nil
}

// underscores is the kernel's spelling of a module's name.
func underscores(name string) string { return strings.ReplaceAll(name, "-", "_") }
