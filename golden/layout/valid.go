package layout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Valid refuses what can't be on a disk at all, of whatever size. Layouts come
// over the wire and out of files, so nothing about them is taken for granted.
func (d Disk) Valid() error {
	limit := maxGPT
	switch d.Table {
	case GPT:
	case MBR:
		limit = maxMBR
	case None:
		if len(d.Parts) > 0 {
			return fmt.Errorf("layout has %d partitions in no table", len(d.Parts))
		}
		return nil
	default:
		return fmt.Errorf("partition table %q: want dos, gpt or none", d.Table)
	}
	if len(d.Parts) == 0 || len(d.Parts) > limit {
		return fmt.Errorf("layout has %d partitions: want 1 to %d", len(d.Parts), limit)
	}
	seen := map[int]bool{}
	extended, logicals := 0, 0
	for _, p := range d.Parts {
		if err := p.Valid(d.Table); err != nil {
			return fmt.Errorf("partition %d: %w", p.Number, err)
		}
		if seen[p.Number] {
			return fmt.Errorf("partition %d: named twice", p.Number)
		}
		seen[p.Number] = true
		switch p.Kind {
		case Extended:
			extended++
		case Logical:
			logicals++
		}
	}
	if extended > 1 || logicals > 0 && extended == 0 {
		return fmt.Errorf("layout has %d extended partitions for %d logical ones", extended, logicals)
	}
	for n := range logicals {
		if !seen[5+n] {
			return fmt.Errorf("partition %d: missing, though there are %d logical ones, numbered from 5", 5+n, logicals)
		}
	}
	return nil
}

// Valid refuses a partition that no such table can have.
func (p Part) Valid(t Table) error {
	first, last := 1, maxGPT
	switch {
	case t == MBR && p.Kind == Logical:
		first, last = 5, maxMBR
	case t == MBR:
		last = 4
	}
	switch {
	case p.Number < first || p.Number > last:
		return fmt.Errorf("a %s number is %d to %d", p.Kind, first, last)
	case p.Kind != Primary && (t == GPT || p.Kind != Extended && p.Kind != Logical):
		return fmt.Errorf("kind %q in a %s table", p.Kind, t)
	case t == MBR && (p.Type == 0 || p.Type == typeProtective):
		return fmt.Errorf("type %x is none that a partition can have", p.Type)
	case t == MBR && (p.Kind == Extended) != extendedType(p.Type):
		return fmt.Errorf("type %x in a partition that is %s", p.Type, p.Kind)
	case t == GPT && !guidLike(p.GUID):
		return fmt.Errorf("type GUID %q", p.GUID)
	case !printable(p.Name) || len(utf16.Encode([]rune(p.Name))) > 36: // UEFI specification, table 5-6
		return fmt.Errorf("name %q: want at most 36 characters", p.Name)
	case p.Size == 0 && p.Percent == 0 && !p.Fill && p.Kind != Extended:
		return errors.New("size 0 bytes")
	}
	return errors.Join(validFlags(p.Flags, t), validSizes(p))
}

// validSizes checks the words that partitions and volumes share.
func validSizes(p Part) error {
	const most = maxDisk / maxGPT
	switch {
	case p.Size < 0 || p.Size > most:
		return fmt.Errorf("size %d bytes", p.Size)
	case !(p.Percent >= 0 && p.Percent <= 100): // not a number is neither
		return fmt.Errorf("%g per cent", p.Percent)
	case p.Size > 0 && p.Percent > 0:
		return fmt.Errorf("%d bytes and %g per cent: want one of them", p.Size, p.Percent)
	case p.Min < 0 || p.Min > most || p.Max < 0 || p.Max > maxDisk:
		return fmt.Errorf("at least %d bytes, at most %d", p.Min, p.Max)
	case p.Max > 0 && p.Min > p.Max:
		return fmt.Errorf("it needs at least %d MB and shall have at most %d MB", MB(p.Min+mib-1), MB(p.Max))
	case p.Max > 0 && p.Size > p.Max:
		return fmt.Errorf("size %d bytes is more than its limit of %d", p.Size, p.Max)
	}
	return nil
}

func validFlags(flags []string, t Table) error {
	if len(flags) > 0 && t != GPT {
		return fmt.Errorf("flags %q: only a GPT has them", flags)
	}
	for i, f := range flags {
		if !knownFlag(f) || slices.Contains(flags[:i], f) {
			return fmt.Errorf("flag %q: want %s, %s or GUID:48 to GUID:63, each once", f, flagRequired, flagNoIO)
		}
	}
	return nil
}

// printable says whether a name can stand in a line of a script.
func printable(name string) bool {
	return utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) })
}

// guidLike says whether s has the form of a GUID in upper case.
func guidLike(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i, c := range s {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !strings.ContainsRune("0123456789ABCDEF", c) {
			return false
		}
	}
	return true
}
