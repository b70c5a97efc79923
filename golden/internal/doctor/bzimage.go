package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Offsets in a bzImage (Documentation/arch/x86/boot.rst).
const (
	bzMagic   = 0x202 // "HdrS"
	bzVersion = 0x20e // u16, of a text 0x200 further on
	bzText    = 0x200
	bzSetup   = 64 * 512 // the real-mode part is never larger: setup_sects is a byte, and it fits 64 KB
)

// kernelRelease reads the release, "6.1.0-56-amd64", out of a kernel image.
func kernelRelease(r io.Reader) (string, error) {
	b := make([]byte, 2*bzSetup)
	n, err := io.ReadFull(r, b)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", fmt.Errorf("read kernel image: %w", err)
	}
	b = b[:n]
	if len(b) < bzVersion+2 || string(b[bzMagic:bzMagic+4]) != "HdrS" {
		return "", errors.New("read kernel image: no bzImage header")
	}
	at := int(binary.LittleEndian.Uint16(b[bzVersion:])) + bzText
	if at == bzText || at >= len(b) {
		return "", fmt.Errorf("read kernel image: version text at %d of %d bytes", at, len(b))
	}
	text, _, _ := strings.Cut(string(b[at:min(at+256, len(b))]), "\x00")
	release, _, _ := strings.Cut(text, " ")
	if release == "" || clean(release) != release {
		return "", fmt.Errorf("read kernel image: version text %q", text)
	}
	return release, nil
}
