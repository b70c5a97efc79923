package disk

import (
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// room is the size of a device: a partition, a volume, a disk as a whole.
type room struct{ bytes, sector int64 }

func roomOf(f layout.Fitted, p layout.FittedPart) room {
	return room{bytes: p.Count * f.SectorSize, sector: f.SectorSize}
}

// places are the sizes of all that file systems can be on, under golden's
// names. Those of arrays, containers and volumes are what they will have at
// least: the programs decide.
func places(plan wire.Plan, fitted []layout.Fitted, devs []Device) (map[string]room, error) {
	all := map[string]room{}
	sector := int64(512)
	for i, f := range fitted {
		sector = max(sector, f.SectorSize)
		if f.Table == layout.None {
			all[plan.Disks[i].Name] = room{devs[i].Bytes, devs[i].Sector}
		}
		for _, p := range f.Parts {
			if p.Kind != layout.Extended {
				all[layout.PartitionName(plan.Disks[i].Name, p.Number)] = roomOf(f, p)
			}
		}
	}
	order, err := checkStack(plan)
	if err != nil {
		return nil, err
	}
	sizes := func(names []string) []int64 {
		var s []int64
		for _, n := range names {
			s = append(s, all[n].bytes)
		}
		return s
	}
	for _, name := range order {
		switch t := thingOf(plan.Stack, name); {
		case t.array != nil:
			n, err := t.array.Capacity(sizes(t.array.Members))
			if err != nil {
				return nil, err
			}
			all[name] = room{n, sector}
		case t.crypt != nil:
			n, err := t.crypt.Capacity(all[t.crypt.Device].bytes)
			if err != nil {
				return nil, err
			}
			all[name] = room{n, sector}
		case t.group != nil:
			volumes, err := t.group.Fit(sizes(t.group.Devices))
			if err != nil {
				return nil, err
			}
			for i, v := range t.group.Volumes {
				all[t.group.Name+"/"+v.Name] = room{volumes[i], sector}
			}
		}
	}
	return all, nil
}

// thing is one of a stack: just one of the three is set.
type thing struct {
	array *layout.Array
	crypt *layout.Crypt
	group *layout.Group
}

// thingOf finds what Stack.Order names.
func thingOf(s layout.Stack, name string) (t thing) {
	if i := slices.IndexFunc(s.Arrays, func(a layout.Array) bool { return a.Name == name }); i >= 0 {
		t.array = &s.Arrays[i]
	} else if i := slices.IndexFunc(s.Crypts, func(c layout.Crypt) bool { return "mapper/"+c.Name == name }); i >= 0 {
		t.crypt = &s.Crypts[i]
	} else if i := slices.IndexFunc(s.Groups, func(g layout.Group) bool { return g.Name == name }); i >= 0 {
		t.group = &s.Groups[i]
	}
	return t
}

// checkStack returns the order in which the stack is made.
func checkStack(plan wire.Plan) ([]string, error) {
	disks := map[string]layout.Disk{}
	for _, d := range plan.Disks {
		disks[d.Name] = d.Layout
	}
	if err := plan.Stack.Valid(disks); err != nil {
		return nil, err
	}
	for _, c := range plan.Stack.Crypts {
		if _, err := passphrase(plan, c.Name); err != nil {
			return nil, err
		}
	}
	return plan.Stack.Order()
}

// passphrase opens a container. A line's end in it would be taken for its own.
func passphrase(plan wire.Plan, crypt string) ([]byte, error) {
	i := slices.IndexFunc(plan.Secrets, func(s wire.Secret) bool { return s.Crypt == crypt })
	switch {
	case i < 0:
		return nil, fmt.Errorf("container %q: the plan has no passphrase for it", crypt)
	case len(plan.Secrets[i].Passphrase) == 0 || len(plan.Secrets[i].Passphrase) > wire.MaxPassphrase:
		return nil, fmt.Errorf("container %q: a passphrase of %d bytes: want 1 to %d", crypt, len(plan.Secrets[i].Passphrase), wire.MaxPassphrase)
	}
	return plan.Secrets[i].Passphrase, nil
}
