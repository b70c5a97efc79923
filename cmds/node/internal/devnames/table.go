package devnames

import (
	"bufio"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Table is one list: pci.ids, or usb.ids.
type Table struct {
	vendors map[uint16]string
	devices map[pair]string
	classes map[string]string // by the upper-case digits of one, two or three levels
}

type pair struct{ vendor, device uint16 }

// Limits. The real lists of 2025 have 1.4 MB and lines of up to 200 bytes.
const (
	maxList = 16 << 20
	maxLine = 4096
	maxName = 200
)

// parser goes through a list line by line.
type parser struct {
	t        *Table
	kind     byte   // of the section: 'v'endors, 'c'lasses, or '-' for what we have no use for
	vendor   uint16 // the last one
	class    string // the last one, and
	subclass string // the last below it
}

// Parse reads a list; name is for messages. Lines that are wrong are left out,
// and the error names the first of them and how many there are: a name is
// never worth a device.
//
//	8086  Intel Corporation
//		100e  82540EM Gigabit Ethernet Controller
//			1028 002e  subsystem: passed over
//	C 02  Network controller
//		00  Ethernet controller
//	HID 21  other sections of usb.ids: passed over
func Parse(name string, r io.Reader) (*Table, error) {
	p := parser{t: &Table{vendors: map[uint16]string{}, devices: map[pair]string{}, classes: map[string]string{}}, kind: 'v'}
	sc := bufio.NewScanner(io.LimitReader(r, maxList))
	sc.Buffer(nil, maxLine)
	var first error
	wrong := 0
	for n := 1; sc.Scan(); n++ {
		if err := p.line(sc.Text()); err != nil {
			if wrong++; first == nil {
				first = fmt.Errorf("%s line %d: %w", name, n, err)
			}
		}
	}
	if err := sc.Err(); err != nil {
		return p.t, fmt.Errorf("read %s: %w", name, err)
	}
	if wrong > 1 {
		first = fmt.Errorf("%w (and %d more lines)", first, wrong-1)
	}
	return p.t, first
}

func (p *parser) line(line string) error {
	if strings.TrimSpace(line) == "" || line[0] == '#' {
		return nil
	}
	depth := len(line) - len(strings.TrimLeft(line, "\t"))
	if depth > 0 {
		return p.below(depth, line[depth:])
	}
	word, rest, _ := strings.Cut(line, " ")
	if len(word) == 4 && !strings.ContainsFunc(word, notHex) {
		p.kind = 'v'
		id, _ := strconv.ParseUint(word, 16, 16)
		p.vendor = uint16(id)
		return p.name(word, rest, func(s string) { p.t.vendors[p.vendor] = s })
	}
	p.kind = '-'
	if word == "C" {
		return p.classLine(rest)
	}
	// HID, HUT, PHY, VT …: tables of usb.ids that name no device.
	if !strings.ContainsFunc(word, func(r rune) bool { return r < 'A' || r > 'Z' }) {
		return nil
	}
	return fmt.Errorf("word %q: want four hexadecimal digits, or C for a class", word)
}

func (p *parser) classLine(rest string) error {
	word, name, _ := strings.Cut(rest, " ")
	if len(word) != 2 || strings.ContainsFunc(word, notHex) {
		return fmt.Errorf("word %q: want two hexadecimal digits of a class", word)
	}
	p.kind, p.class, p.subclass = 'c', strings.ToUpper(word), ""
	return p.name(word, name, func(s string) { p.t.classes[p.class] = s })
}

// below takes a line with tabs before it.
func (p *parser) below(depth int, line string) error {
	word, name, _ := strings.Cut(line, " ")
	switch {
	case p.kind == '-' || p.kind == 'v' && depth > 1 || depth > 2:
		return nil // subsystems of PCI, interfaces of USB, what has no use here
	case p.kind == 'v':
		if len(word) != 4 || strings.ContainsFunc(word, notHex) {
			return fmt.Errorf("word %q: want four hexadecimal digits of a device", word)
		}
		id, _ := strconv.ParseUint(word, 16, 16)
		return p.name(word, name, func(s string) { p.t.devices[pair{p.vendor, uint16(id)}] = s })
	case len(word) != 2 || strings.ContainsFunc(word, notHex):
		return fmt.Errorf("word %q: want two hexadecimal digits of a class", word)
	case depth == 1:
		p.subclass = strings.ToUpper(word)
		return p.name(word, name, func(s string) { p.t.classes[p.class+p.subclass] = s })
	case p.subclass == "":
		return fmt.Errorf("word %q: programming interface without a subclass before it", word)
	}
	return p.name(word, name, func(s string) { p.t.classes[p.class+p.subclass+strings.ToUpper(word)] = s })
}

// name gives put a name that may go to a console.
func (p *parser) name(id, rest string, put func(string)) error {
	s := strings.TrimSpace(rest)
	switch {
	case s == "":
		return fmt.Errorf("word %q: no name after it", id)
	case len(s) > maxName:
		return fmt.Errorf("word %q: name of %d bytes, more than %d", id, len(s), maxName)
	case !utf8.ValidString(s) || strings.ContainsFunc(s, unicode.IsControl):
		return fmt.Errorf("word %q: name %q has what is no text", id, s)
	}
	put(s)
	return nil
}

func notHex(r rune) bool {
	return !('0' <= r && r <= '9' || 'a' <= r && r <= 'f' || 'A' <= r && r <= 'F')
}
