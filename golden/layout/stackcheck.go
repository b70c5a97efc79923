package layout

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Valid says what is wrong with a stack on such disks, by their names: what it
// is made of has to be there, nothing is used twice, and nothing is made of
// itself.
func (s Stack) Valid(disks map[string]Disk) error {
	_, err := s.Uses(disks)
	return err
}

// Uses is every device that the disks and the stack have, by its name on the
// golden node: partitions, disks without a table, arrays, containers, volumes;
// and what each is used by, "" for those that are free to hold files. A stack
// that can't be made is an error, as Valid has it.
func (s Stack) Uses(disks map[string]Disk) (map[string]string, error) {
	if err := s.validParts(); err != nil {
		return nil, err
	}
	b := book{uses: map[string]string{}, kinds: map[string]string{}}
	for _, name := range slices.Sorted(maps.Keys(disks)) {
		d := disks[name]
		if d.Table == None {
			b.add(name, "disk")
		}
		for _, p := range d.Parts {
			if p.Kind != Extended {
				b.add(PartitionName(name, p.Number), "partition")
			}
		}
	}
	b.addStack(s)
	for _, a := range s.Arrays {
		for _, m := range a.Members {
			b.use(m, "array "+a.Name, "partition", "disk")
		}
	}
	for _, c := range s.Crypts {
		b.use(c.Device, "container "+c.Name, "partition", "disk", "array", "volume")
	}
	for _, g := range s.Groups {
		for _, d := range g.Devices {
			b.use(d, "volume group "+g.Name, "partition", "disk", "array", "container")
		}
	}
	if b.err != nil {
		return nil, b.err
	}
	_, err := s.Order()
	return b.uses, err
}

// book is who uses which device, and the first thing that was wrong.
type book struct {
	uses, kinds map[string]string
	err         error
}

func (b *book) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf(format, args...)
	}
}

func (b *book) add(name, kind string) {
	if is, ok := b.kinds[name]; ok {
		b.fail("%s %s: that is the name of another %s", kind, name, is)
	}
	b.uses[name], b.kinds[name] = "", kind
}

// addStack adds what the stack makes, and sees to it that no two things want
// the same name in /dev/mapper, or a group's folder that of something else.
func (b *book) addStack(s Stack) {
	for _, a := range s.Arrays {
		b.add(a.Name, "array")
	}
	mapped := map[string]string{}
	for _, c := range s.Crypts {
		b.add("mapper/"+c.Name, "container")
		mapped[c.Name] = "container " + c.Name
	}
	groups := map[string]bool{}
	for _, g := range s.Groups {
		if _, ok := b.kinds[g.Name]; ok || groups[g.Name] {
			b.fail("volume group %s: something else has that name", g.Name)
		}
		groups[g.Name] = true
		for _, v := range g.Volumes {
			name := MapperName(g.Name, v.Name)
			if other, ok := mapped[name]; ok {
				b.fail("volume %s/%s: it and %s are both called %s in /dev/mapper", g.Name, v.Name, other, name)
			}
			mapped[name] = fmt.Sprintf("volume %s/%s", g.Name, v.Name)
			b.add(g.Name+"/"+v.Name, "volume")
		}
	}
}

// MapperName is what a volume is called in /dev/mapper: hyphens of the names
// are doubled (lvm(8)).
func MapperName(group, volume string) string {
	double := func(s string) string { return strings.ReplaceAll(s, "-", "--") }
	return double(group) + "-" + double(volume)
}

// use notes that something is made of a device, which has to be of such a kind.
func (b *book) use(device, by string, kinds ...string) {
	is, known := b.kinds[device]
	switch {
	case !known:
		b.fail("%s: no %q in the layout to make it of", by, device)
	case !slices.Contains(kinds, is):
		b.fail("%s: made of %s %s: want a %s", by, is, device, strings.Join(kinds, ", "))
	case b.uses[device] != "":
		b.fail("%s: %s %s is used already, by %s", by, is, device, b.uses[device])
	default:
		b.uses[device] = by
	}
}

// Order is in which order the things of a stack can be made, each after what
// it is made of: an array by its name, a container as "mapper/" and its name,
// a group, with all its volumes, by its name. Things that don't need each other
// keep the stack's order.
func (s Stack) Order() ([]string, error) {
	var names []string
	madeOf := map[string][]string{}
	add := func(name string, of ...string) {
		names = append(names, name)
		madeOf[name] = of
	}
	for _, a := range s.Arrays {
		add(a.Name, a.Members...)
	}
	for _, c := range s.Crypts {
		add("mapper/"+c.Name, c.Device)
	}
	maker := map[string]string{} // of a volume: its group
	for _, g := range s.Groups {
		add(g.Name, g.Devices...)
		for _, v := range g.Volumes {
			maker[g.Name+"/"+v.Name] = g.Name
		}
	}
	var order []string
	state := map[string]int{} // 1: being made, 2: made
	var visit func(name string) error
	visit = func(name string) error {
		if g, ok := maker[name]; ok {
			name = g
		}
		of, ours := madeOf[name]
		if !ours || state[name] == 2 {
			return nil
		}
		if state[name] == 1 {
			return fmt.Errorf("%s is made of itself", name)
		}
		state[name] = 1
		for _, d := range of {
			if err := visit(d); err != nil {
				return err
			}
		}
		state[name] = 2
		order = append(order, name)
		return nil
	}
	for _, name := range names {
		if err := visit(name); err != nil {
			return nil, err
		}
	}
	return order, nil
}
