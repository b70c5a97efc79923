package layout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Desc prints the disk as a desc, by partition number, sizes rounded down to
// megabytes as the manual's fdisk_to_desc did. A GPT without an EFI system
// partition comes out as the MBR with the same partitions: the manual's desc
// knows nothing else.
func (d Disk) Desc() string {
	var b strings.Builder
	if _, ok := d.ESP(); d.Table == GPT && !ok {
		b.WriteString("# from a GPT disk; as a desc it makes an MBR\n")
		d = d.asMBR()
	}
	parts := slices.Clone(d.Parts)
	slices.SortStableFunc(parts, func(p, q Part) int { return cmp.Compare(p.Number, q.Number) })
	for _, p := range parts {
		if p.Kind == Logical {
			b.WriteString("logical ")
		}
		size := "fill"
		if !p.Fill {
			size = fmt.Sprint(max(MB(p.Size), 1))
		}
		fmt.Fprintf(&b, "%s %s\n", p.word(d.Table), size)
	}
	return b.String()
}

// ESP is the number of the disk's EFI system partition.
func (d Disk) ESP() (number int, ok bool) {
	i := slices.IndexFunc(d.Parts, Part.IsESP)
	if i < 0 {
		return 0, false
	}
	return d.Parts[i].Number, true
}

// asMBR numbers a GPT's partitions as an MBR has them: without the BIOS boot
// partition, which an MBR has no use for, and from the fourth on as logicals
// when there are more than four.
func (d Disk) asMBR() Disk {
	var m Disk
	m.Table = MBR
	kept := slices.DeleteFunc(slices.Clone(d.Parts), func(p Part) bool { return p.GUID == GUIDBIOSBoot })
	slices.SortStableFunc(kept, func(p, q Part) int { return cmp.Compare(p.Number, q.Number) })
	for i, p := range kept {
		if len(kept) > 4 && i == 3 {
			m.Parts = append(m.Parts, Part{Number: 4, Kind: Extended, Type: TypeExtended, Fill: true})
		}
		p.Kind, p.Number = Primary, i+1
		if len(kept) > 4 && i >= 3 {
			p.Kind, p.Number = Logical, i+2
		}
		m.Parts = append(m.Parts, p)
	}
	return m
}

// FromTable is the layout of a disk that exists: t has the type, number, start
// and length of each partition, as sfdisk --json lists them.
func FromTable(t Fitted) (Disk, error) {
	d := Disk{Table: t.Table}
	if t.Table != MBR && t.Table != GPT {
		return d, fmt.Errorf("partition table %q: want dos or gpt", t.Table)
	}
	parts := slices.Clone(t.Parts)
	slices.SortStableFunc(parts, func(p, q FittedPart) int {
		// Logicals go by number: their numbers are their order in the
		// chain, whatever their places.
		if p.Number > 4 && q.Number > 4 && t.Table == MBR {
			return cmp.Compare(p.Number, q.Number)
		}
		return cmp.Compare(p.Start, q.Start)
	})
	for _, p := range parts {
		q := p.Part
		q.Size, q.Fill, q.Kind = p.Count*t.SectorSize, false, Primary
		q.GUID = strings.ToUpper(q.GUID)
		switch {
		case t.Table == GPT:
		case q.Number > 4:
			q.Kind = Logical
		case extendedType(q.Type):
			q.Kind = Extended
		}
		d.Parts = append(d.Parts, q)
	}
	return d, d.valid()
}

// Grow lets the last partition that holds files take what is left of a disk
// larger than the golden one, and the extended one with it where it lies inside.
func (d Disk) Grow() Disk {
	d.Parts = slices.Clone(d.Parts)
	last := -1
	for i, p := range d.Parts {
		if p.Fill {
			return d
		}
		if p.IsLinux() {
			last = i
		}
	}
	if last < 0 {
		return d
	}
	d.Parts[last].Fill, d.Parts[last].Size = true, 0
	for i, p := range d.Parts {
		if p.Kind == Extended && d.Parts[last].Kind == Logical {
			d.Parts[i].Fill, d.Parts[i].Size = true, 0
		}
	}
	return d
}

// WithBIOSBoot gives a GPT the partition that GRUB needs on a machine with a
// BIOS, where it lacks one: first on the disk, under the next free number, so
// that no other number changes.
func (d Disk) WithBIOSBoot() Disk {
	if d.Table != GPT || slices.ContainsFunc(d.Parts, func(p Part) bool { return p.GUID == GUIDBIOSBoot }) {
		return d
	}
	used := map[int]bool{}
	for _, p := range d.Parts {
		used[p.Number] = true
	}
	number := 1
	for used[number] {
		number++
	}
	boot := Part{Number: number, Kind: Primary, GUID: GUIDBIOSBoot, Name: "BIOS boot", Size: mib}
	d.Parts = append([]Part{boot}, d.Parts...)
	return d
}
