//go:build vmtest

package fixup

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// stackPackages are a golden node's whose disks are layers.
const stackPackages = packages + ",lvm2,mdadm,cryptsetup-initramfs"

func stackTar(t *testing.T) string {
	dir := os.Getenv("KAMETHOD_CACHE")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", ".cache")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "fixup"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(stackPackages))
	name := filepath.Join(dir, fmt.Sprintf("stack-%x.tar", sum[:8]))
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	part := partFile(t, name)
	sh(t, "mmdebstrap", "--variant=minbase", "--format=tar", "--include="+stackPackages, "bookworm", part)
	if err := os.Rename(part, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestRealStack has a machine with the nodes' kernel make the layers, put a Debian
// on them, and find them from inside with the clone's own programs: GRUB's menu
// and boot records are made. That such a clone boots is the matrix's to show.
//
//	vda, vdb ──disk.Prepare──▶ md, LVM, LUKS ──tar, steps──▶ grub.cfg, two boot records
func TestRealStack(t *testing.T) {
	if vmtest.Inside() {
		t.Skip("runs outside")
	}
	disks := []vmlab.Disk{{Size: 1900 << 20}, {Size: 1900 << 20}, {File: stackTar(t)}}
	vmtest.Run(t, vmtest.Machine{Run: "^TestInsideStack$", Disks: disks, Programs: []string{"tar"}, Memory: 1024, Timeout: 30 * time.Minute})
}
