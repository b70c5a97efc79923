package layout

import (
	"fmt"
	"slices"
)

// To is the layout in a table of the other kind, and the new number of each
// partition by its old one. What has no place there isn't in the map: an
// extended partition in a GPT, GRUB's BIOS boot partition in an MBR.
//
// In a GPT all keep their numbers, logical ones too, and there is a BIOS boot
// partition besides. In an MBR all keep their numbers where there are four at
// most; else the EFI system partition and the first ones on the disk are
// primary, three in all, and the others logical. Their sizes stay as they are.
func (d Disk) To(t Table) (Disk, map[int]int, error) {
	if d.Table == None || t == None {
		if d.Table == t {
			return d, map[int]int{}, nil
		}
		return d, nil, fmt.Errorf("partition table %s can't become %s", d.Table, t)
	}
	var numbers map[int]int
	var err error
	switch {
	case t == d.Table:
		numbers = map[int]int{}
		for _, p := range d.Parts {
			numbers[p.Number] = p.Number
		}
	case t == MBR:
		d, numbers = d.asMBR()
	case t == GPT:
		d, numbers, err = d.asGPT()
	}
	if err == nil {
		err = d.Valid()
	}
	if err != nil {
		return d, nil, fmt.Errorf("to a table of kind %s: %w", t, err)
	}
	return d, numbers, nil
}

func (d Disk) asGPT() (Disk, map[int]int, error) {
	g := Disk{Table: GPT}
	numbers := map[int]int{}
	for _, p := range d.byPlace() {
		if p.Kind == Extended {
			continue
		}
		guid, ok := toGUID(p.Type)
		if !ok {
			return g, nil, fmt.Errorf("partition %d: a GPT has no type for an MBR's %x", p.Number, p.Type)
		}
		p.Kind, p.Type, p.GUID = Primary, 0, guid
		numbers[p.Number] = p.Number
		g.Parts = append(g.Parts, p)
	}
	return g.WithBIOSBoot(), numbers, nil
}

// byPlace is the partitions in the order in which Fit puts them onto the disk,
// where logical ones are inside the extended one.
func (d Disk) byPlace() []Part {
	var all []Part
	for _, p := range d.top() {
		all = append(all, p)
		if p.Kind == Extended {
			all = append(all, d.logicals()...)
		}
	}
	return all
}

func (d Disk) asMBR() (Disk, map[int]int) {
	kept := slices.DeleteFunc(slices.Clone(d.Parts), func(p Part) bool { return p.GUID == GUIDBIOSBoot })
	m := Disk{Table: MBR}
	numbers := map[int]int{}
	active := false
	add := func(p Part, number int, kind Kind) {
		numbers[p.Number] = number
		p.Type, p.GUID, p.Name, p.Flags = p.mbrType(), "", "", nil
		p.Number, p.Kind = number, kind
		p.Boot = p.Boot && kind == Primary && !active // a boot record starts from one
		active = active || p.Boot
		m.Parts = append(m.Parts, p)
	}
	if len(kept) <= 4 {
		keep := !slices.ContainsFunc(kept, func(p Part) bool { return p.Number > 4 })
		for i, p := range kept {
			number := i + 1
			if keep {
				number = p.Number
			}
			add(p, number, Primary)
		}
		return m.Active(), numbers
	}
	// Firmware looks for the EFI system partition among the primary ones.
	others := 3
	if esp, ok := d.ESP(); ok && slices.IndexFunc(kept, func(p Part) bool { return p.Number == esp }) >= 3 {
		others = 2
	}
	var logicals []Part
	for i, p := range kept {
		if i < others || p.IsESP() && len(m.Parts) < 3 {
			add(p, len(m.Parts)+1, Primary)
		} else {
			logicals = append(logicals, p)
		}
	}
	m.Parts = append(m.Parts, Part{Number: 4, Kind: Extended, Type: TypeExtended})
	for i, p := range logicals {
		add(p, 5+i, Logical)
	}
	return m.Active(), numbers
}
