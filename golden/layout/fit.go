package layout

import (
	"fmt"
	"math"
	"slices"
)

// maxDisk bounds a disk's size, 2 EiB, so that no sum overflows.
const maxDisk = math.MaxInt64 / 4

// span is a stretch of sectors, from start up to but without end.
type span struct{ start, end int64 }

// Fit lays the layout onto a disk of so many bytes. Every partition begins and
// ends on a MiB; a logical partition has a MiB before it for its link in the
// chain. Those with Fill take what the others leave; where all don't find room
// those with a Min give way. A disk without a table has no partitions.
func (d Disk) Fit(bytes, sector int64) (Fitted, error) {
	f := Fitted{Table: d.Table, SectorSize: sector}
	if sector != 512 && sector != 4096 {
		return f, fmt.Errorf("sector size %d: want 512 or 4096", sector)
	}
	if bytes < 0 || bytes > maxDisk {
		return f, fmt.Errorf("disk size %d: impossible", bytes)
	}
	if err := d.Valid(); err != nil {
		return f, err
	}
	if d.Table == None {
		return f, nil
	}
	room, limited := d.usable(bytes, sector)
	if err := f.place(d, room, bytes); err != nil {
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
	return span{align, max(end/align*align, align)}, limited
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

// link is the MiB before a logical partition, in units of one.
const link = 1

// claims is what the partitions ask for, in MiB of a room of so many; a
// logical's is without its link.
func claims(parts []Part, room int64) []claim {
	var all []claim
	for _, p := range parts {
		all = append(all, newClaim(p, mib, room))
	}
	return all
}

// around is the claim of the extended partition: it holds its logicals and
// their links whatever size it was given, as a desc that was rounded down
// leaves no room for those. It shrinks as they do, and grows as they do where
// it has no size of its own.
func around(p Part, c claim, inside []claim) claim {
	want, least := sum(inside)
	links := int64(len(inside)) * link
	want, least = want+links, least+links
	own := p.Size > 0 || p.Percent > 0
	c.min = max(c.min, want)
	if p.Min > 0 || least < want {
		c.min = max(min(ceil(p.Min, mib), c.most), least)
	}
	if own {
		c.want = max(c.want, want)
	} else {
		c.want = max(want, c.min)
		c.fill = c.fill || slices.ContainsFunc(inside, func(q claim) bool { return q.fill })
	}
	c.min = min(c.min, c.want)
	c.most = max(c.most, want) // its logicals' sizes count more than its own limit
	return c
}

// place lays the partitions into the room.
func (f *Fitted) place(d Disk, room span, bytes int64) error {
	have := (room.end - room.start) * f.SectorSize / mib
	top, logicals := d.top(), d.logicals()
	tops, inside := claims(top, have), claims(logicals, have)
	extended := slices.IndexFunc(top, func(p Part) bool { return p.Kind == Extended })
	if extended >= 0 {
		tops[extended] = around(top[extended], tops[extended], inside)
	}
	if want, least := sum(tops); least > have {
		atLeast := ""
		if least < want {
			atLeast = " at least"
		}
		return fmt.Errorf("the layout takes %d MB%s, the disk has room for %d MB (%d bytes in all)", least, atLeast, have, bytes)
	}
	sizes := share(tops, have)
	f.lay(top, sizes, room.start, 0)
	if len(logicals) > 0 {
		at := f.Parts[extended].Start
		f.lay(logicals, share(inside, sizes[extended]-int64(len(inside))*link), at, link)
	}
	return nil
}

// lay puts the parts one after the other, each with so many MiB before it.
func (f *Fitted) lay(parts []Part, sizes []int64, at, before int64) {
	align := mib / f.SectorSize
	for i, p := range parts {
		at += before * align
		q := FittedPart{Part: p, Start: at, Count: sizes[i] * align}
		f.Parts = append(f.Parts, q)
		at += q.Count
	}
}

// sortLike brings the parts into the order of the layout.
func (f *Fitted) sortLike(d Disk) {
	order := map[int]int{}
	for i, p := range d.Parts {
		order[p.Number] = i
	}
	slices.SortFunc(f.Parts, func(p, q FittedPart) int { return order[p.Number] - order[q.Number] })
}
