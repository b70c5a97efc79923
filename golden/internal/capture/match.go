package capture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// slot is a partition of the plan that can hold something.
type slot struct {
	disk  int
	part  layout.Part
	taken string // by what
}

// use is what a partition or a want is for.
type use string

const (
	files use = "linux"
	swap  use = "swap"
	efi   use = "efi"
)

func (s slot) use() use {
	switch {
	case s.part.IsSwap():
		return swap
	case s.part.IsESP():
		return efi
	}
	return files
}

func (w want) use() use {
	switch {
	case w.swap():
		return swap
	case w.Type == wire.VFAT:
		return efi
	}
	return files
}

// match finds the partition for each want: by its place on the golden machine
// where that is known and the layout has it, else in order: linux partitions
// get the file systems, the root first, swap partitions the swap, and an EFI
// system partition what is mounted from one.
func (d *describer) match(wants []want) ([]wire.Filesystem, error) {
	var slots []slot
	for i, disk := range d.disks {
		for _, p := range disk.Layout.Parts {
			if p.IsLinux() || p.IsSwap() || p.IsESP() {
				slots = append(slots, slot{disk: i, part: p})
			}
		}
	}
	slices.SortStableFunc(slots, func(a, b slot) int {
		return cmp.Or(a.disk-b.disk, a.part.Number-b.part.Number)
	})
	order := slices.Clone(wants)
	slices.SortStableFunc(order, func(a, b want) int { return rank(a) - rank(b) })

	var out []wire.Filesystem
	var later []want
	for _, w := range order {
		i, err := d.place(slots, w)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			later = append(later, w)
			continue
		}
		out = append(out, d.take(&slots[i], w, "as on the golden disk"))
	}
	for _, w := range later {
		i := slices.IndexFunc(slots, func(s slot) bool { return s.taken == "" && s.use() == w.use() })
		if i < 0 && w.use() == efi {
			return nil, fmt.Errorf("%s: %s: no EFI system partition in the layout of %s: add a line such as efi 512, or, for clones with a BIOS, leave it out with -x %s", w.source, w, d.diskNames(), w.MountPoint)
		}
		if i < 0 {
			return nil, fmt.Errorf("%s: %s: no %s partition is left for it in the layout of %s: add one, or leave it out with -x or -X", w.source, w, w.use(), d.diskNames())
		}
		out = append(out, d.take(&slots[i], w, "in order"))
	}
	out = append(out, d.rest(slots)...)
	d.foreign()
	slices.SortStableFunc(out, func(a, b wire.Filesystem) int {
		return cmp.Or(rank(want{Filesystem: a})-rank(want{Filesystem: b}), a.Disk-b.Disk, a.Part-b.Part)
	})
	return out, nil
}

// rank puts the root first and swap last.
func rank(w want) int {
	switch {
	case w.MountPoint == "/":
		return 0
	case w.swap():
		return 2
	}
	return 1
}

// place is the slot where the want lies on the golden machine, -1 if unknown
// or not in the layout.
func (d *describer) place(slots []slot, w want) (int, error) {
	if w.number == 0 {
		return -1, nil
	}
	i := slices.IndexFunc(slots, func(s slot) bool {
		return d.disks[s.disk].Name == w.disk && s.part.Number == w.number && s.use() == w.use()
	})
	if i >= 0 && slots[i].taken != "" {
		return -1, fmt.Errorf("%s: %s: partition %d of %s is %s already", w.source, w, w.number, w.disk, slots[i].taken)
	}
	return i, nil
}

func (d *describer) take(s *slot, w want, how string) wire.Filesystem {
	s.taken = w.String()
	fs := w.Filesystem
	fs.Disk, fs.Part = s.disk, s.part.Number
	if fs.Type == wire.VFAT {
		fs.Label = fatLabel(fs.Label)
	}
	d.note("%s: %s: partition %d of %s, %s", w.source, w, fs.Part, d.disks[fs.Disk].Name, how)
	return fs
}

// fatLabel is a label as mkfs.fat takes it, or none: the fstab of the clone
// doesn't go by it.
func fatLabel(label string) string {
	label = strings.ToUpper(strings.TrimSpace(label))
	if len(label) > 11 || strings.Trim(label, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_ ") != "" {
		return ""
	}
	return label
}

// EFIMount is where Linux has the EFI system partition.
const EFIMount = "/boot/efi"

// rest makes the swap partitions that nothing claimed swap all the same, the
// first EFI system partition what the boot loader needs, and says which others
// stay empty.
func (d *describer) rest(slots []slot) []wire.Filesystem {
	var out []wire.Filesystem
	hasEFI := slices.ContainsFunc(slots, func(s slot) bool { return s.taken != "" && s.use() == efi }) || d.excluded(EFIMount)
	for _, s := range slots {
		switch {
		case s.taken != "":
		case s.use() == efi && !hasEFI:
			hasEFI = true
			out = append(out, wire.Filesystem{Disk: s.disk, Part: s.part.Number, Type: wire.VFAT, MountPoint: EFIMount})
			d.note("partition %d of %s: made an EFI system partition and mounted on %s, though no fstab names it", s.part.Number, d.disks[s.disk].Name, EFIMount)
		case s.part.IsSwap():
			out = append(out, wire.Filesystem{Disk: s.disk, Part: s.part.Number, Type: "swap"})
			d.note("partition %d of %s: made swap, though no fstab names it", s.part.Number, d.disks[s.disk].Name)
		default:
			d.note("partition %d of %s: stays empty: nothing is mounted from it", s.part.Number, d.disks[s.disk].Name)
		}
	}
	return out
}

// foreign says which partitions are made and left alone.
func (d *describer) foreign() {
	for _, disk := range d.disks {
		for _, p := range disk.Layout.Parts {
			if p.Kind != layout.Extended && !p.IsLinux() && !p.IsSwap() && !p.IsESP() && p.GUID != layout.GUIDBIOSBoot {
				d.note("partition %d of %s: stays empty: it is for neither Linux files nor swap", p.Number, disk.Name)
			}
		}
	}
}

func (d *describer) diskNames() string {
	var names []string
	for _, disk := range d.disks {
		names = append(names, disk.Name)
	}
	return strings.Join(names, ", ")
}
