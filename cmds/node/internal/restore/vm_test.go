package restore

import (
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// TestInVM judges, under the nodes' kernel, the file systems and features that
// this machine's may lack.
func TestInVM(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	vmtest.Run(t, vmtest.Machine{
		Run:   "^TestVM",
		Disks: []vmlab.Disk{{Size: 600 << 20}, {Size: 600 << 20}},
		Programs: []string{"mkfs.ext4", "mkfs.jfs", "mkfs.reiserfs", "mkfs.f2fs", "e2fsck", "fsck.jfs", "reiserfsck", "fsck.f2fs",
			"setfattr", "setfacl"},
		Memory:  1024,
		Timeout: 20 * time.Minute,
	})
}

// TestVMFidelity: the odd tree from one disk to the other.
func TestVMFidelity(t *testing.T) {
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
	for _, pair := range [][2]string{
		{"ext4-project", "ext4-project"}, {"ext4-casefold", "ext4-casefold"}, {"f2fs", "f2fs"},
		{"ext4", "jfs"}, {"ext4", "reiserfs"}, {"ext4", "f2fs"},
	} {
		t.Run(pair[0]+" to "+pair[1], func(t *testing.T) {
			a := volume{kind: pair[0], image: "/dev/vda", dir: t.TempDir() + "/from"}
			b := volume{kind: pair[1], image: "/dev/vdb", dir: t.TempDir() + "/to"}
			a.make(t)
			b.make(t)
			arrivesOn(t, a, b)
			b.fsck(t)
		})
	}
}
