package capture

import (
	"slices"
	"strings"
)

// asBlocks says whether a partition or volume is copied as blocks (-D), by its
// name in the plan.
func (d *describer) asBlocks(ref string) bool {
	return slices.ContainsFunc(d.opt.Blocks, func(b string) bool {
		return d.stackName(b) == ref || strings.TrimPrefix(b, "/dev/") == ref
	})
}

// asBlocksHere says the same of a device of this machine by the kernel's name.
func (d *describer) asBlocksHere(name string) bool {
	if dm := d.m.attr(name, "dm/name"); dm != "" {
		if vg, lv := splitMapper(dm); lv != "" && strings.HasPrefix(d.m.attr(name, "dm/uuid"), "LVM-") {
			return d.asBlocks(vg + "/" + lv)
		}
		return d.asBlocks("mapper/" + dm)
	}
	return d.asBlocks(name)
}

// takeBlocks marks what is copied as blocks: nothing else can have it.
func (d *describer) takeBlocks(list []slot) {
	for i, s := range list {
		if d.asBlocks(s.ref) {
			list[i].taken = "copied as blocks (-D)"
		}
	}
}
