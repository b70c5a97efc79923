package disk

import (
	"slices"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// raise keeps partitions and volumes from shrinking below what is to be in
// them: a layout knows nothing of files.
func raise(plan wire.Plan) wire.Plan {
	n := needs{plan: plan, made: map[string]bool{}}
	plan.Stack.Groups = slices.Clone(plan.Stack.Groups)
	for i, g := range plan.Stack.Groups {
		g.Volumes = slices.Clone(g.Volumes)
		for k := range g.Volumes {
			v := &g.Volumes[k]
			switch bytes := n.on(g.Name + "/" + v.Name); {
			case v.Min > 0:
				v.Min = max(v.Min, bytes)
			case v.Fill:
				v.Min = max(v.Size, bytes)
			}
		}
		plan.Stack.Groups[i] = g
	}
	n.plan = plan
	plan.Disks = slices.Clone(plan.Disks)
	for i := range plan.Disks {
		d := &plan.Disks[i]
		for _, p := range d.Layout.Parts {
			if p.Kind != layout.Extended {
				d.Layout = d.Layout.AtLeast(p.Number, n.on(layout.PartitionName(d.Name, p.Number)))
			}
		}
	}
	return plan
}

// needs adds up what things have to hold.
type needs struct {
	plan wire.Plan
	made map[string]bool // that are being looked at: a plan that is made of itself is refused later
}

// on is how many bytes the device of that name needs for what is on it.
func (n needs) on(name string) int64 {
	if n.made[name] {
		return 0
	}
	n.made[name] = true
	defer delete(n.made, name)
	for _, fs := range n.plan.Filesystems {
		if onName(n.plan, fs) == name {
			return least(fs)
		}
	}
	for _, b := range n.plan.Blocks {
		if b.On == name {
			return min(max(b.Bytes, 0), maxNeed)
		}
	}
	for _, a := range n.plan.Stack.Arrays {
		if slices.Contains(a.Members, name) {
			return memberOf(a, n.on(a.Name))
		}
	}
	for _, c := range n.plan.Stack.Crypts {
		if c.Device == name {
			return n.on("mapper/"+c.Name) + 17*mib // LUKS2's header is the larger, 16 MiB
		}
	}
	for _, g := range n.plan.Stack.Groups {
		if slices.Contains(g.Devices, name) {
			return n.group(g)
		}
	}
	return 0
}

// memberOf is what a member of the array needs, for so many bytes in the
// array: its share and, for the metadata and the room that mdadm leaves, a
// hundredth more, 128 MiB at most, and 4 chunks of 512 KiB.
func memberOf(a layout.Array, bytes int64) int64 {
	if bytes == 0 {
		return 0
	}
	n := int64(max(len(a.Members), 1))
	share := bytes
	switch a.Level {
	case 0:
		share = (bytes + n - 1) / n
	case 4, 5:
		share = bytes / max(n-1, 1)
	case 6:
		share = bytes / max(n-2, 1)
	case 10:
		share = bytes / n * 2
	}
	return share + min(share/100, 129*mib) + 4*max(a.Chunk, 512<<10) + 2*mib
}

// group is what each of a group's devices needs: the volumes' sum evenly
// spread, which is right for one device and a guess for several.
func (n needs) group(g layout.Group) int64 {
	extent := g.ExtentSize()
	var sum int64
	for _, v := range g.Volumes {
		bytes := max(n.on(g.Name+"/"+v.Name), v.Min)
		if v.Min == 0 && !v.Fill {
			bytes = max(v.Size, 0) // it doesn't shrink
		}
		sum += (min(bytes, maxNeed)/extent + 1) * extent
	}
	return sum/int64(max(len(g.Devices), 1)) + extent + 2*mib
}
