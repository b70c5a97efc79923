package capture

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// slot is a partition, disk or volume of the plan that can hold something.
type slot struct {
	ref   string // "sda2", "vg0/root"
	disk  int
	part  layout.Part // none: a whole disk, or of the stack
	on    string      // of the stack: its name
	use   use
	taken string // by what
}

// use is what a place or a want is for.
type use string

const (
	files  use = "linux"
	swap   use = "swap"
	efi    use = "efi"
	wild   use = "any"   // an array, a container or a volume: whatever lies there on golden
	others use = "other" // a partition of a type of other systems
)

func useOf(p layout.Part) use {
	switch {
	case p.IsSwap():
		return swap
	case p.IsESP():
		return efi
	case p.IsLinux():
		return files
	}
	return others
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

// slots is all that can hold something, in the order of disks and numbers; what
// something else is made of can't.
func (d *describer) slots() []slot {
	used := map[string]bool{}
	for _, m := range members(d.stack.Stack) {
		used[m] = true
	}
	var list []slot
	for i, disk := range d.disks {
		if disk.Layout.Table == layout.None && !used[disk.Name] {
			list = append(list, slot{ref: disk.Name, disk: i, use: wild})
		}
		for _, p := range disk.Layout.Parts {
			ref := layout.PartitionName(disk.Name, p.Number)
			if p.Kind != layout.Extended && p.GUID != layout.GUIDBIOSBoot && !used[ref] {
				list = append(list, slot{ref: ref, disk: i, part: p, use: useOf(p)})
			}
		}
	}
	slices.SortStableFunc(list, func(a, b slot) int {
		return cmp.Or(a.disk-b.disk, a.part.Number-b.part.Number)
	})
	for _, ref := range Made(d.stack.Stack) {
		if !used[ref] {
			list = append(list, slot{ref: ref, on: ref, use: wild})
		}
	}
	return list
}

// members is what the arrays, containers and groups of a stack are made of.
func members(s layout.Stack) []string {
	var list []string
	for _, a := range s.Arrays {
		list = append(list, a.Members...)
	}
	for _, c := range s.Crypts {
		list = append(list, c.Device)
	}
	for _, g := range s.Groups {
		list = append(list, g.Devices...)
	}
	return list
}

// Made is what a stack has to put something on.
func Made(s layout.Stack) []string {
	var list []string
	for _, a := range s.Arrays {
		list = append(list, a.Name)
	}
	for _, c := range s.Crypts {
		list = append(list, "mapper/"+c.Name)
	}
	for _, g := range s.Groups {
		for _, v := range g.Volumes {
			list = append(list, g.Name+"/"+v.Name)
		}
	}
	return list
}

// match finds the place for each want: where the layout says, else where it
// lies on the golden machine if the layout has that, else in order: linux
// partitions get the file systems, the root first, swap partitions the swap,
// and an EFI system partition what is mounted from one.
func (d *describer) match(wants []want) ([]wire.Filesystem, error) {
	list := d.slots()
	d.takeBlocks(list)
	order := slices.Clone(wants)
	slices.SortStableFunc(order, func(a, b want) int { return rank(a) - rank(b) })

	var out []wire.Filesystem
	var later []want
	for _, w := range order {
		i, err := d.place(list, w)
		if err != nil {
			return nil, err
		}
		if i < 0 {
			later = append(later, w)
			continue
		}
		out = append(out, d.take(&list[i], w, "as on the golden disk"))
	}
	for _, w := range later {
		i, err := d.inOrder(list, w)
		if err != nil {
			return nil, err
		}
		out = append(out, d.take(&list[i], w, "in order"))
	}
	out = append(out, d.rest(list)...)
	slices.SortStableFunc(out, func(a, b wire.Filesystem) int {
		return cmp.Or(rank(want{Filesystem: a})-rank(want{Filesystem: b}), a.Disk-b.Disk, a.Part-b.Part, strings.Compare(a.On, b.On))
	})
	return out, nil
}

// inOrder is the next partition for a want whose place is unknown. Between
// volumes and arrays nobody could guess.
func (d *describer) inOrder(list []slot, w want) (int, error) {
	if len(Made(d.stack.Stack)) > 0 && w.use() != efi {
		return 0, fmt.Errorf("%s: %s: the layout doesn't say where it lies, and with volumes, arrays or encrypted containers in it nobody can guess: name its mount point in the layout file (-p LAYOUT.yaml)", w.source, w)
	}
	i := slices.IndexFunc(list, func(s slot) bool { return s.taken == "" && s.use == w.use() })
	if i < 0 && len(d.disks) == 1 && w.use() == files { // a disk without a table has one place only
		i = slices.IndexFunc(list, func(s slot) bool { return s.taken == "" && s.use == wild })
	}
	switch {
	case i >= 0:
		return i, nil
	case w.use() == efi:
		return 0, fmt.Errorf("%s: %s: no EFI system partition in the layout of %s: add a line such as efi 512, or, for clones with a BIOS, leave it out with -x %s", w.source, w, d.diskNames(), w.MountPoint)
	}
	return 0, fmt.Errorf("%s: %s: no %s partition is left for it in the layout of %s: add one, or leave it out with -x or -X", w.source, w, w.use(), d.diskNames())
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
func (d *describer) place(list []slot, w want) (int, error) {
	ref := w.On
	switch {
	case w.whole:
		ref = w.disk
	case w.number > 0:
		ref = layout.PartitionName(w.disk, w.number)
	}
	if ref == "" {
		return -1, nil
	}
	i := slices.IndexFunc(list, func(s slot) bool {
		return s.ref == ref && (s.use == w.use() || s.use == wild || w.fixed || s.on == "" && d.real[d.disks[s.disk].Name])
	})
	if i >= 0 && list[i].taken != "" {
		return -1, fmt.Errorf("%s: %s: %s is %s already", w.source, w, list[i].name(d), list[i].taken)
	}
	return i, nil
}

// name is how a slot is called in messages.
func (s slot) name(d *describer) string {
	switch {
	case s.on != "":
		return s.on
	case s.part.Number == 0:
		return "disk " + s.ref
	}
	return fmt.Sprintf("partition %d of %s", s.part.Number, d.disks[s.disk].Name)
}

// filesystem is what goes into the slot.
func (s slot) filesystem(fs wire.Filesystem) wire.Filesystem {
	fs.On, fs.Disk, fs.Part = s.on, s.disk, s.part.Number
	return fs
}

func (d *describer) take(s *slot, w want, how string) wire.Filesystem {
	s.taken = w.String()
	fs := s.filesystem(w.Filesystem)
	if fs.Type == wire.VFAT {
		fs.Label = fatLabel(fs.Label)
	}
	d.note("%s: %s: %s, %s", w.source, w, s.name(d), how)
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
// first EFI system partition what the boot loader needs, and says what stays
// empty.
func (d *describer) rest(list []slot) []wire.Filesystem {
	var out []wire.Filesystem
	hasEFI := slices.ContainsFunc(list, func(s slot) bool { return s.taken != "" && s.use == efi }) || d.excluded(EFIMount)
	for _, s := range list {
		name := s.name(d)
		switch {
		case s.taken != "":
		case s.use == efi && !hasEFI:
			hasEFI = true
			out = append(out, s.filesystem(wire.Filesystem{Type: wire.VFAT, MountPoint: EFIMount}))
			d.note("%s: made an EFI system partition and mounted on %s, though no fstab names it", name, EFIMount)
		case s.use == swap:
			out = append(out, s.filesystem(wire.Filesystem{Type: "swap"}))
			d.note("%s: made swap, though no fstab names it", name)
		case s.use == others:
			d.note("%s: stays empty: it is for neither Linux files nor swap: give -D %s to copy it as blocks", name, s.ref)
		default:
			d.note("%s: stays empty: nothing is mounted from it: give -D %s to copy it as blocks", name, s.ref)
		}
	}
	return out
}

// mountedOnce refuses two file systems for one mount point, as where a layout
// file takes out of a btrfs what is a subvolume of it here.
func mountedOnce(filesystems []wire.Filesystem) error {
	by := map[string]string{}
	for _, f := range filesystems {
		for _, at := range f.MountPoints() {
			if by[at] != "" {
				return fmt.Errorf("%s: two file systems of the layout would be mounted there, %s and %s: name its subvolumes in the layout file, if it is one of them", at, by[at], f.Type)
			}
			by[at] = f.Type
		}
	}
	return nil
}

func (d *describer) diskNames() string { return names(d.disks) }
