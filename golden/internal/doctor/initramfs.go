package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/kamethod/kamethod/golden/trust"
)

const (
	maxStage1 = 1 << 30  // unpacked; ours has some 40 MB
	maxMember = 32 << 20 // of those that are read; modules.alias of all modules has 2 MB
	newcSize  = 110      // newc header (cpio(5))
	maxPath   = 4096     // PATH_MAX
)

// stage1 is what matters of all.rdz.
type stage1 struct {
	pin      trust.Pin         // golden's key, zero: none
	releases []string          // folders below lib/modules
	aliases  []alias           // of its modules
	builtin  []alias           // of what the kernel has built in
	modules  map[string]string // name to path
}

// alias is a line of modules.alias.
type alias struct{ pattern, module string }

// readStage1 reads an all.rdz: newc cpio in zstd.
func readStage1(file string) (*stage1, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxMemory(256<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		return nil, fmt.Errorf("unpack %s: %w", file, err)
	}
	defer z.Close()
	s := &stage1{modules: map[string]string{}}
	if err := readNewc(io.LimitReader(z, maxStage1), s.take); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	return s, nil
}

// take keeps the members that matter.
func (s *stage1) take(name string, size int64, r io.Reader) error {
	dir, base := path.Split(name)
	release, below := strings.CutPrefix(dir, "lib/modules/")
	release = strings.TrimSuffix(release, "/")
	if below && strings.HasSuffix(base, ".ko") {
		release, _, _ := strings.Cut(release, "/")
		s.modules[moduleName(base)] = strings.TrimPrefix(name, "lib/modules/"+release+"/")
		return nil
	}
	list := below && (base == "modules.alias" || base == "modules.builtin.modinfo")
	if !list && name != "etc/kamethod/"+trust.PinFile {
		return nil
	}
	if size > maxMember {
		return fmt.Errorf("%s has %d bytes: at most %d are read", name, size, maxMember)
	}
	b, err := io.ReadAll(io.LimitReader(r, size))
	if err != nil {
		return err
	}
	switch base {
	case "modules.alias":
		s.releases = append(s.releases, release)
		s.aliases = append(s.aliases, parseAliases(b)...)
	case "modules.builtin.modinfo":
		s.builtin = append(s.builtin, parseBuiltin(b)...)
	default:
		if s.pin, err = trust.ParsePin(string(b)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// readNewc calls f for each member of a newc archive, and skips what f leaves.
func readNewc(r io.Reader, f func(name string, size int64, r io.Reader) error) error {
	head := make([]byte, newcSize)
	for {
		if _, err := io.ReadFull(r, head); err != nil {
			return fmt.Errorf("cpio header: %w", err)
		}
		if m := string(head[:6]); m != "070701" && m != "070702" {
			return fmt.Errorf("cpio header begins with %q: no newc", m)
		}
		size, err := strconv.ParseUint(string(head[54:62]), 16, 32)
		if err != nil {
			return fmt.Errorf("cpio size: %w", err)
		}
		n, err := strconv.ParseUint(string(head[94:102]), 16, 32)
		if err != nil || n < 1 || n > maxPath {
			return fmt.Errorf("cpio name of %s bytes", head[94:102])
		}
		name := make([]byte, n+pad(newcSize+n))
		if _, err := io.ReadFull(r, name); err != nil {
			return fmt.Errorf("cpio name: %w", err)
		}
		text := string(name[:n-1])
		if text == "TRAILER!!!" {
			return nil
		}
		body := io.LimitReader(r, int64(size))
		if err := f(path.Clean(text), int64(size), body); err != nil {
			return err
		}
		left := body.(*io.LimitedReader).N + int64(pad(size))
		if _, err := io.CopyN(io.Discard, r, left); err != nil {
			return fmt.Errorf("cpio member %q: %w", clean(text), err)
		}
	}
}

// pad is what is missing to a multiple of four.
func pad(n uint64) uint64 { return -n & 3 }

// parseAliases reads modules.alias (depmod(8)): "alias PATTERN MODULE".
func parseAliases(b []byte) []alias {
	var out []alias
	for line := range bytes.Lines(b) {
		w := strings.Fields(string(line))
		if len(w) == 3 && w[0] == "alias" {
			out = append(out, alias{w[1], w[2]})
		}
	}
	return out
}

// parseBuiltin reads modules.builtin.modinfo: texts "MODULE.alias=PATTERN"
// that end with NUL (scripts/Makefile.vmlinux_o of the kernel).
func parseBuiltin(b []byte) []alias {
	var out []alias
	for text := range strings.SplitSeq(string(b), "\x00") {
		key, pattern, _ := strings.Cut(text, "=")
		if module, ok := strings.CutSuffix(key, ".alias"); ok {
			out = append(out, alias{pattern, module})
		}
	}
	return out
}

// moduleName is the name by which the kernel knows a module's file.
func moduleName(base string) string {
	name, _, _ := strings.Cut(base, ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// driverOf finds the module that claims a device.
func driverOf(list []alias, modalias string) string {
	for _, a := range list {
		if ok, err := path.Match(a.pattern, modalias); err == nil && ok {
			return a.module
		}
	}
	return ""
}

// pciAlias is the modalias of a network card of which only the id is known.
func pciAlias(id string) (string, error) {
	v, d, ok := strings.Cut(id, ":")
	vendor, err1 := strconv.ParseUint(v, 16, 16)
	device, err2 := strconv.ParseUint(d, 16, 16)
	if !ok || err1 != nil || err2 != nil {
		return "", fmt.Errorf("PCI id %q: want vendor and device in hexadecimal digits, as lspci -nn prints them: 8086:1533: %w", id, errors.Join(err1, err2))
	}
	// include/linux/mod_devicetable.h and file2alias.c of the kernel; class 02 00: Ethernet.
	return fmt.Sprintf("pci:v%08Xd%08Xsv00000000sd00000000bc02sc00i00", vendor, device), nil
}
