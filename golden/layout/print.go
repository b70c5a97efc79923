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
	if d.Table == None {
		return "# no partition table: the disk as a whole\n"
	}
	if _, ok := d.ESP(); d.Table == GPT && !ok {
		b.WriteString("# from a GPT disk; as a desc it makes an MBR\n")
		d, _ = d.asMBR()
	}
	parts := slices.Clone(d.Parts)
	slices.SortStableFunc(parts, func(p, q Part) int { return cmp.Compare(p.Number, q.Number) })
	for _, p := range parts {
		if p.Kind == Logical {
			b.WriteString("logical ")
		}
		fmt.Fprintf(&b, "%s %s\n", p.word(d.Table), p.descSize())
	}
	return b.String()
}

// descSize is the partition's size as a desc has it. A percentage is for a
// person to read: a desc can't have one.
func (p Part) descSize() string {
	switch {
	case p.Fill, p.Kind == Extended && p.Size == 0:
		return "fill"
	case p.Percent > 0:
		return fmt.Sprintf("%g%%", p.Percent)
	}
	return fmt.Sprint(max(MB(p.Size), 1))
}

// ESP is the number of the disk's EFI system partition.
func (d Disk) ESP() (number int, ok bool) {
	i := slices.IndexFunc(d.Parts, Part.IsESP)
	if i < 0 {
		return 0, false
	}
	return d.Parts[i].Number, true
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
	if err := d.Valid(); err != nil {
		return d, err
	}
	return d, t.disjoint()
}

// disjoint refuses a table in which two partitions share a sector, or a
// logical one lies outside of the extended one: it is damaged, or a trap, and
// no sizes taken from it mean anything.
func (t Fitted) disjoint() error {
	var tops, logicals []FittedPart
	var extended FittedPart
	for _, p := range slices.SortedFunc(slices.Values(t.Parts), func(p, q FittedPart) int { return cmp.Compare(p.Start, q.Start) }) {
		switch {
		case t.Table == MBR && p.Number > 4:
			logicals = append(logicals, p)
			continue
		case t.Table == MBR && extendedType(p.Type):
			extended = p
		}
		tops = append(tops, p)
	}
	for _, p := range logicals {
		// Its link in the chain comes before it.
		if p.Start <= extended.Start || p.Start+p.Count > extended.Start+extended.Count {
			return fmt.Errorf("logical partition %d lies outside of the extended partition %d", p.Number, extended.Number)
		}
	}
	for _, list := range [][]FittedPart{tops, logicals} {
		for i := 1; i < len(list); i++ {
			if p, q := list[i-1], list[i]; q.Start < p.Start+p.Count {
				return fmt.Errorf("partitions %d and %d overlap", p.Number, q.Number)
			}
		}
	}
	return nil
}

// Grow is the layout of a machine that exists for disks of other sizes: the
// last partition that holds files takes what is left of a larger disk, and on
// a smaller one all of those shrink, each in proportion to its size: AtLeast
// says how far they can. An extended partition does as its logicals do. What
// has a size for a reason of its own keeps it: swap, what firmware and boot
// loaders start from, partitions of other systems.
func (d Disk) Grow() Disk {
	d.Parts = slices.Clone(d.Parts)
	if slices.ContainsFunc(d.Parts, func(p Part) bool { return p.Fill }) {
		return d // its maker has said already what grows
	}
	last := -1
	for i := range d.Parts {
		if p := &d.Parts[i]; p.holdsFiles() {
			p.Min = min(mib, max(p.Size, 1))
			last = i
		}
	}
	if last < 0 {
		return d
	}
	d.Parts[last].Fill = true
	for i := range d.Parts {
		if p := &d.Parts[i]; p.Kind == Extended && d.Parts[last].Kind == Logical {
			p.Fill = true
		}
	}
	return d
}

// holdsFiles says whether Linux files are in the partition, by themselves or in
// what is made of it: LVM, an array, an encrypted container. A GPT has types
// without number: one that isn't known to be Linux's may be anybody's, such as
// Windows's recovery.
func (p Part) holdsFiles() bool {
	if p.GUID != "" && fromGUID(p.GUID) == TypeLinux {
		return p.Kind != Extended && slices.Contains(linuxGUIDs(), p.GUID)
	}
	switch p.mbrType() {
	case TypeLinux, typeLVM, typeRAID, typeLUKS:
		return p.Kind != Extended
	}
	return false
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
