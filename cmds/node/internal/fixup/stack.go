package fixup

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// id is something that has another UUID on the clone than on golden.
type id struct{ what, old, now string }

// place is an array, a container or a volume of LVM: a device that golden and
// the clone call by one name.
type place struct {
	name   string   // "md0", "mapper/crypt", "vg0/root"
	names  []string // in /dev: "/dev/vg0/root", "/dev/mapper/vg0-root"
	device string   // the node's: "/dev/dm-0"
	on     []string // what it is made of: "sda2", "md0"
	raid   bool
}

// stack is what the plan makes of partitions, and where it is on the node.
type stack struct {
	disks  []string         // of the plan: "sda"
	nodes  []string         // the node's for each: "/dev/vda"
	places map[string]place // by name
	crypts []crypt
	ids    []id
	blocks volumes // what came as blocks: the clone has it, and nothing of it is mounted
}

// crypt is a LUKS container.
type crypt struct {
	name, on  string // "crypt"; "sda2"
	old, uuid string // golden's, the clone's
}

// node is the node's device for a name of golden's: "sda2", "md0".
func (s stack) node(name string) (string, bool) {
	if p, ok := s.places[name]; ok {
		return p.device, true
	}
	disk, n := name, 0
	if !slices.Contains(s.disks, name) {
		disk, n = layout.SplitPartition(name)
	}
	i := slices.Index(s.disks, disk)
	if i < 0 {
		return "", false
	}
	return layout.PartitionName(s.nodes[i], n), true
}

func newStack(p wire.Plan, d wire.DiskResult) (stack, error) {
	if len(d.Disks) != len(p.Disks) {
		return stack{}, fmt.Errorf("the plan has %d disks and the node made %d", len(p.Disks), len(d.Disks))
	}
	s := stack{nodes: d.Disks, places: map[string]place{}}
	for _, k := range p.Disks {
		s.disks = append(s.disks, k.Name)
	}
	made := map[string]wire.StackResult{}
	for _, r := range d.Stack {
		made[r.Name] = r
	}
	add := func(pl place, what, old string) error {
		r, ok := made[pl.name]
		if !ok {
			return fmt.Errorf("%s %s: the node didn't make it", what, pl.name)
		}
		pl.device = r.Device
		if what != "volume group" {
			s.places[pl.name] = pl
		}
		if old == "" || r.UUID == "" {
			return nil
		}
		if !stackID().MatchString(r.UUID) {
			return fmt.Errorf("%s %s: %q is no UUID", what, pl.name, r.UUID)
		}
		s.ids = append(s.ids, id{what, old, r.UUID})
		return nil
	}
	for _, a := range p.Stack.Arrays {
		if err := add(place{name: a.Name, names: arrayNames(a.Name), on: a.Members, raid: true}, "array", a.OldUUID); err != nil {
			return s, err
		}
	}
	for _, k := range p.Stack.Crypts {
		name := "mapper/" + k.Name
		if err := add(place{name: name, names: []string{"/dev/" + name}, on: []string{k.Device}}, "container", k.OldUUID); err != nil {
			return s, err
		}
		s.crypts = append(s.crypts, crypt{name: k.Name, on: k.Device, old: k.OldUUID, uuid: made[name].UUID})
	}
	for _, g := range p.Stack.Groups {
		if err := add(place{name: g.Name, on: g.Devices}, "volume group", g.OldUUID); err != nil {
			return s, err
		}
		for _, v := range g.Volumes {
			pl := place{name: g.Name + "/" + v.Name, names: lvmNames(g.Name, v.Name), on: g.Devices}
			if err := add(pl, "volume", v.OldUUID); err != nil {
				return s, err
			}
		}
	}
	s.renameCrypts()
	return s, s.addBlocks(p, d)
}

// stackID is any of mdadm's (hexadecimal, with colons), LUKS's (RFC 9562) and
// LVM's (letters and digits, with hyphens).
func stackID() *regexp.Regexp { return regexp.MustCompile(`^[0-9A-Za-z:-]{8,64}$`) }

// renameCrypts: a container may be named after its UUID ("luks-UUID", as
// Fedora's installer does). The clone's files then name it after the new one.
func (s stack) renameCrypts() {
	for name, p := range s.places {
		for _, d := range s.ids {
			if now := replaceID(name, d.old, d.now); now != name {
				p.names = append(p.names, "/dev/"+now)
			}
		}
		s.places[name] = p
	}
}

// arrayNames are mdadm's names of an array: /dev/md0 is /dev/md/0 too.
func arrayNames(name string) []string {
	names := []string{"/dev/" + name}
	if n, ok := strings.CutPrefix(name, "md"); ok && n != "" && strings.Trim(n, "0123456789") == "" {
		names = append(names, "/dev/md/"+n)
	}
	return names
}

// lvmNames are a logical volume's two names.
func lvmNames(group, volume string) []string {
	return []string{"/dev/" + group + "/" + volume, "/dev/mapper/" + layout.MapperName(group, volume)}
}

// under are the plan's disks that a device ("sda2", "vg0/root") is on in the
// end, in the plan's order, and the stack's places on the way there. What an
// array is on is all of it; of a group's disks too, though one may be enough.
func (s stack) under(name string) (disks []int, via []place) {
	seen := map[string]bool{}
	todo := []string{name}
	for len(todo) > 0 {
		at := todo[0]
		todo = todo[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		if p, ok := s.places[at]; ok {
			via = append(via, p)
			todo = append(todo, p.on...)
			continue
		}
		disk := at
		if d, n := layout.SplitPartition(at); n > 0 && !slices.Contains(s.disks, at) {
			disk = d
		}
		if i := slices.Index(s.disks, disk); i >= 0 {
			disks = append(disks, i)
		}
	}
	slices.Sort(disks)
	return slices.Compact(disks), via
}
