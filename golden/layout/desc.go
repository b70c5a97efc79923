package layout

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// Bounds of a desc file. Two TiB of 4096-byte sectors' worth, 2^32 of them, is
// all that an MBR can address: 16 TiB, 2^24 MB.
const (
	maxDescBytes = 64 << 10
	maxDescMB    = 1 << 24
)

// descLine is a partition of a desc and the line it stands in.
type descLine struct {
	Part
	line int
}

type descParser struct {
	name      string // of the file, for messages
	gpt       bool   // an efi line makes it one
	parts     []descLine
	primaries int
	logicals  int
	extended  int // index into parts, -1 before there is one
}

// ParseDesc reads a desc, the manual's description of a disk: a line per
// partition, "[logical] TYPE SIZE", where TYPE is linux, swap, extended, efi or
// type and a hexadecimal number, and SIZE is a number of megabytes or fill.
// What follows a # is a comment. The name is the file's, for messages.
//
// A desc makes an MBR, one with an efi line a GPT: firmware that wants an EFI
// system partition expects it there. Who wants one in an MBR writes typeef.
func ParseDesc(r io.Reader, name string) (Disk, error) {
	p := descParser{name: name, extended: -1}
	type line struct {
		number int
		words  []string
	}
	var all []line
	limited := &io.LimitedReader{R: r, N: maxDescBytes + 1}
	lines := bufio.NewScanner(limited)
	n := 0
	for lines.Scan() {
		n++
		text, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(text)
		if len(words) == 0 {
			continue
		}
		all = append(all, line{n, words})
		p.gpt = p.gpt || words[0] == "efi"
	}
	if limited.N <= 0 || errors.Is(lines.Err(), bufio.ErrTooLong) {
		return Disk{}, fmt.Errorf("%s: larger than %d bytes: no desc", name, maxDescBytes)
	}
	if err := lines.Err(); err != nil {
		return Disk{}, fmt.Errorf("%s: read: %w", name, err)
	}
	for _, l := range all {
		if err := p.add(l.number, l.words); err != nil {
			return Disk{}, err
		}
	}
	return p.finish()
}

func (p *descParser) errorf(line int, format string, args ...any) error {
	return fmt.Errorf("%s:%d: "+format, append([]any{p.name, line}, args...)...)
}

// add takes one line's words.
func (p *descParser) add(line int, words []string) error {
	part := descLine{line: line, Part: Part{Kind: Primary}}
	if words[0] == "logical" {
		part.Kind = Logical
		words = words[1:]
		if p.gpt {
			return p.errorf(line, "logical: the efi line makes this a GPT, which has no logical partitions: leave out extended and logical")
		}
	}
	if len(words) == 0 {
		return p.errorf(line, "logical: no type follows: want logical TYPE SIZE")
	}
	if err := p.setType(&part, words[0]); err != nil {
		return err
	}
	if len(words) < 2 {
		return p.errorf(line, "%s: no size follows: want megabytes or fill", words[0])
	}
	if err := p.setSize(&part, words[1]); err != nil {
		return err
	}
	if len(words) > 2 {
		return p.errorf(line, "%q: want nothing after the size", words[2])
	}
	return p.number(part, words[0])
}

func (p *descParser) setType(part *descLine, word string) error {
	switch word {
	case "linux":
		part.Type = TypeLinux
	case "swap":
		part.Type = TypeLinuxSwap
	case "extended":
		part.Type = TypeExtended
	case "efi":
		part.Type = typeESP
	default:
		hex, ok := strings.CutPrefix(word, "type")
		t, err := strconv.ParseUint(hex, 16, 8)
		if !ok || err != nil || t == 0 || len(hex) > 2 {
			return p.errorf(part.line, "type %q: want linux, swap, extended, efi, or type and a hexadecimal number from 1 to ff, such as type83", word)
		}
		if t == typeProtective {
			return p.errorf(part.line, "type %q: it marks a GPT, and is no partition's", word)
		}
		part.Type = byte(t)
	}
	if word == "efi" && part.Kind == Logical {
		return p.errorf(part.line, "efi: an EFI system partition can't be logical")
	}
	if p.gpt {
		return p.setGUID(part, word)
	}
	if !extendedType(part.Type) {
		return nil
	}
	if part.Kind == Logical {
		return p.errorf(part.line, "%s: an extended partition can't be logical", word)
	}
	part.Kind = Extended
	return nil
}

// setGUID gives a partition of a GPT the type that the word stands for there.
func (p *descParser) setGUID(part *descLine, word string) error {
	if extendedType(part.Type) {
		return p.errorf(part.line, "%s: the efi line makes this a GPT, which has no extended partition: leave out extended and logical", word)
	}
	guid, ok := toGUID(part.Type)
	if !ok {
		return p.errorf(part.line, "%s: the efi line makes this a GPT, where that type isn't known", word)
	}
	part.GUID, part.Type = guid, 0
	return nil
}

func (p *descParser) setSize(part *descLine, word string) error {
	if word == "fill" {
		part.Fill = true
		return nil
	}
	mb, err := strconv.ParseUint(word, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return p.errorf(part.line, "size %q: want a whole number of megabytes, or fill", word)
	}
	if err != nil || mb == 0 || mb > maxDescMB {
		return p.errorf(part.line, "size %q: want 1 to %d megabytes, or fill", word, maxDescMB)
	}
	part.Size = int64(mb) * mib
	return nil
}

// number gives the partition the number that Linux will give it: primaries
// and the extended one in order from 1, logicals from 5.
func (p *descParser) number(part descLine, word string) error {
	if limit := p.limit(); len(p.parts) == limit {
		return p.errorf(part.line, "%s: more than %d partitions", word, limit)
	}
	if part.Kind == Logical {
		if p.extended < 0 {
			return p.errorf(part.line, "logical %s: no extended partition before it to hold it", word)
		}
		part.Number = 5 + p.logicals
		p.logicals++
	} else {
		if p.primaries == 4 && !p.gpt {
			return p.errorf(part.line, "%s: a fifth primary partition: an MBR holds four, the extended one among them", word)
		}
		p.primaries++
		part.Number = p.primaries
	}
	if part.Kind == Extended {
		if p.extended >= 0 {
			return p.errorf(part.line, "%s: a second extended partition: the first is in line %d", word, p.parts[p.extended].line)
		}
		p.extended = len(p.parts)
	}
	for _, q := range p.parts {
		if part.Fill && q.Fill && (part.Kind == Logical) == (q.Kind == Logical) {
			return p.errorf(part.line, "%s fill: line %d fills already what is left there", word, q.line)
		}
	}
	p.parts = append(p.parts, part)
	return nil
}

// limit is how many partitions the table can have.
func (p *descParser) limit() int {
	if p.gpt {
		return maxGPT
	}
	return maxMBR
}

// finish checks what no single line shows and makes the disk.
func (p *descParser) finish() (Disk, error) {
	if len(p.parts) == 0 {
		return Disk{}, fmt.Errorf("%s: no partition in it: want lines such as \"linux 3500\"", p.name)
	}
	d := Disk{Table: MBR}
	if p.gpt {
		d.Table = GPT
	}
	var inside int64
	for _, part := range p.parts {
		if part.Kind == Logical {
			inside += part.Size
		}
		d.Parts = append(d.Parts, part.Part)
	}
	if p.extended >= 0 {
		// The links between the logicals are not counted: the manual's
		// own desc has an extended and a single logical of one size,
		// as fdisk rounds both down. Fit makes room for them.
		if e := p.parts[p.extended]; !e.Fill && inside > e.Size {
			return Disk{}, p.errorf(e.line, "extended %d: its logical partitions take %d megabytes: write extended fill", MB(e.Size), MB(inside))
		}
	}
	return d.Active(), nil
}

// Active marks the first Linux primary of an MBR in which no partition is
// marked: some firmware starts no disk without an active partition, and a desc
// has no word for it.
func (d Disk) Active() Disk {
	if d.Table != MBR || slices.ContainsFunc(d.Parts, func(p Part) bool { return p.Boot }) {
		return d
	}
	d.Parts = slices.Clone(d.Parts)
	for i, p := range d.Parts {
		if p.Kind == Primary && p.IsLinux() {
			d.Parts[i].Boot = true
			break
		}
	}
	return d
}
