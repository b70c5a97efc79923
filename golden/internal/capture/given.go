package capture

import (
	"slices"

	"github.com/kamethod/kamethod/golden/wire"
)

// given is a file system that a layout file names.
type given struct {
	ref string // where: "sda2", "vg0/root"
	fs  wire.Filesystem
}

// mounted says whether the layout file names a place for a mount point.
func (d *describer) mounted(at string) bool {
	return at != "" && slices.ContainsFunc(d.given, func(g given) bool { return g.fs.MountPoint == at })
}

// takeLayout makes the stack what the plan will have, and gives each want the
// place that a layout file has for it.
func (d *describer) takeLayout(wants []want) error {
	if d.laidOut {
		d.stack.Stack = d.givenStack
	} else {
		d.dropStack(wants)
	}
	return checkStack(d.stack.Stack)
}
