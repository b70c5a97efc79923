package disk

import (
	"slices"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// TestBelow: the containers that a boot loader opens are those under /boot, or
// under the root that holds it, and no others.
func TestBelow(t *testing.T) {
	plan := vmStack()
	plan.Filesystems[1].MountPoint = "/other"
	if got := below(plan.Stack, bootOn(plan)); !slices.Contains(got, "mapper/crypt") || slices.Contains(got, "mapper/safe") {
		t.Errorf("/boot in the root: %v", got)
	}
	plan.Filesystems[1].MountPoint = "/boot"
	if got := below(plan.Stack, bootOn(plan)); !slices.Equal(got, []string{"md0", "sda2", "sdb2"}) {
		t.Errorf("/boot of its own: %v", got)
	}
	if got := below(layout.Stack{}, bootOn(wire.Plan{})); !slices.Equal(got, []string{""}) {
		t.Errorf("nothing: %v", got)
	}
}
