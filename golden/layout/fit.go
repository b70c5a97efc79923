package layout

import (
	"fmt"
	"math"
	"slices"
)

// maxDisk bounds a disk's size, 8 EiB, so that no sum overflows.
const maxDisk = math.MaxInt64 / 4

// span is a stretch of sectors, from start up to but without end.
type span struct{ start, end int64 }

// Fit lays the layout onto a disk of so many bytes. Every partition begins and
// ends on a MiB; a logical partition has a MiB before it for its link in the
// chain; the partition with Fill takes what the others leave.
func (d Disk) Fit(bytes, sector int64) (Fitted, error) {
	f := Fitted{Table: d.Table, SectorSize: sector}
	if sector != 512 && sector != 4096 {
		return f, fmt.Errorf("sector size %d: want 512 or 4096", sector)
	}
	if bytes < 0 || bytes > maxDisk {
		return f, fmt.Errorf("disk size %d: impossible", bytes)
	}
	if err := d.valid(); err != nil {
		return f, err
	}
	room, limited := d.usable(bytes, sector)
	if err := f.place(d.top(), d.need, room, bytes); err != nil {
		return f, err
	}
	if err := f.placeLogicals(d, bytes); err != nil {
		return f, err
	}
	if limited {
		f.Notes = append(f.Notes, fmt.Sprintf("an MBR reaches %d MB, the disk has %d MB: the rest stays unused; a GPT would use it", MB(room.end*sector), MB(bytes)))
	}
	f.sortLike(d)
	return f, nil
}

// usable is the stretch of a disk where partitions may lie, in MiB-aligned
// sectors, and whether the table rather than the disk is what ends it.
func (d Disk) usable(bytes, sector int64) (span, bool) {
	align := mib / sector
	end, limited := bytes/sector, false
	switch {
	case d.Table == GPT:
		// The backup table: 128 entries of 128 bytes, and a header
		// (UEFI specification 5.3): 33 sectors of 512 bytes.
		end -= 128*128/sector + 1
	case end > 1<<32:
		// Start and length in an MBR are 32 bits each.
		end, limited = 1<<32-align, true
	}
	return span{align, end / align * align}, limited
}

// valid refuses what can't be on a disk at all. Layouts come over the wire and
// out of files, so nothing about them is taken for granted.
func (d Disk) valid() error {
	limit := maxGPT
	if d.Table == MBR {
		limit = maxMBR
	} else if d.Table != GPT {
		return fmt.Errorf("partition table %q: want dos or gpt", d.Table)
	}
	if len(d.Parts) == 0 || len(d.Parts) > limit {
		return fmt.Errorf("layout has %d partitions: want 1 to %d", len(d.Parts), limit)
	}
	seen := map[int]bool{}
	fills := map[bool]int{}
	extended, logicals := 0, 0
	for _, p := range d.Parts {
		if err := p.valid(d.Table, limit); err != nil {
			return err
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
		if p.Fill {
			if fills[p.Kind == Logical]++; fills[p.Kind == Logical] > 1 {
				return fmt.Errorf("partition %d: a second one that fills", p.Number)
			}
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

func (p Part) valid(t Table, limit int) error {
	first, last := 1, limit
	if t == MBR {
		last = 4
		if p.Kind == Logical {
			first, last = 5, limit
		}
	}
	switch {
	case p.Number < first || p.Number > last:
		return fmt.Errorf("partition %d: a %s number is %d to %d", p.Number, p.Kind, first, last)
	case p.Kind != Primary && (t == GPT || p.Kind != Extended && p.Kind != Logical):
		return fmt.Errorf("partition %d: kind %q in a %s table", p.Number, p.Kind, t)
	case t == MBR && (p.Type == 0 || p.Type == typeProtective):
		return fmt.Errorf("partition %d: type %x is none that a partition can have", p.Number, p.Type)
	case t == MBR && (p.Kind == Extended) != extendedType(p.Type):
		return fmt.Errorf("partition %d: type %x in a partition that is %s", p.Number, p.Type, p.Kind)
	case t == GPT && !guidLike(p.GUID):
		return fmt.Errorf("partition %d: type GUID %q", p.Number, p.GUID)
	case len(p.Name) > 36*4 || !printable(p.Name): // 36 UTF-16 units (UEFI specification, table 5-6)
		return fmt.Errorf("partition %d: name %q", p.Number, p.Name)
	case !p.Fill && (p.Size <= 0 || p.Size > maxDisk/maxGPT):
		return fmt.Errorf("partition %d: size %d bytes", p.Number, p.Size)
	}
	return nil
}

func (d Disk) top() []Part {
	return slices.DeleteFunc(slices.Clone(d.Parts), func(p Part) bool { return p.Kind == Logical })
}

// logicals are the logical partitions in the order of their chain.
func (d Disk) logicals() []Part {
	parts := slices.DeleteFunc(slices.Clone(d.Parts), func(p Part) bool { return p.Kind != Logical })
	slices.SortFunc(parts, func(p, q Part) int { return p.Number - q.Number })
	return parts
}

// need is the least that the partition takes, in bytes, whole MiBs. An
// extended partition takes at least its logicals with a MiB before each: a
// desc that was rounded down leaves no room for those.
func (d Disk) need(p Part) int64 {
	n := max(roundUp(p.Size), mib)
	if p.Kind != Extended {
		return n
	}
	var inside int64
	for _, q := range d.logicals() {
		inside += mib + d.need(q)
	}
	return max(n, inside)
}

func roundUp(n int64) int64 { return (n + mib - 1) / mib * mib }

// place lays the parts one after the other into the room.
func (f *Fitted) place(parts []Part, need func(Part) int64, room span, bytes int64) error {
	left := (room.end - room.start) * f.SectorSize
	for _, p := range parts {
		left -= need(p)
	}
	if left < 0 {
		have := max(room.end-room.start, 0) * f.SectorSize
		return fmt.Errorf("the layout takes %d MB, the disk has room for %d MB (%d bytes in all)", MB(have-left), MB(have), bytes)
	}
	at := room.start
	for _, p := range parts {
		size := need(p)
		if p.Fill {
			size += left
		}
		q := FittedPart{Part: p, Start: at, Count: size / f.SectorSize}
		f.Parts = append(f.Parts, q)
		at += q.Count
	}
	return nil
}

// placeLogicals lays the logical partitions into the extended one, which is
// placed already.
func (f *Fitted) placeLogicals(d Disk, bytes int64) error {
	logicals := d.logicals()
	if len(logicals) == 0 {
		return nil
	}
	i := slices.IndexFunc(f.Parts, func(p FittedPart) bool { return p.Kind == Extended })
	e := f.Parts[i]
	gap := mib / f.SectorSize
	withGap := func(p Part) int64 { return mib + d.need(p) }
	n := len(f.Parts)
	if err := f.place(logicals, withGap, span{e.Start, e.Start + e.Count}, bytes); err != nil {
		return fmt.Errorf("logical partitions: %w", err)
	}
	for i := n; i < len(f.Parts); i++ {
		f.Parts[i].Start += gap
		f.Parts[i].Count -= gap
	}
	return nil
}

// sortLike brings the parts into the order of the layout.
func (f *Fitted) sortLike(d Disk) {
	order := map[int]int{}
	for i, p := range d.Parts {
		order[p.Number] = i
	}
	slices.SortFunc(f.Parts, func(p, q FittedPart) int { return order[p.Number] - order[q.Number] })
}
