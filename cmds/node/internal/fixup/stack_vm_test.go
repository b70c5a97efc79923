//go:build vmtest

package fixup

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
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
	part := name + ".part"
	sh(t, "mmdebstrap", "--variant=minbase", "--format=tar", "--include="+stackPackages, "bookworm", part)
	if err := os.Rename(part, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestStackBoots has a machine with the nodes' kernel make the layers, put a
// Debian on them and make it a clone; then the clone boots.
//
//	vda, vdb ──disk.Prepare──▶ md, LVM, LUKS ──tar, Run──▶ QEMU ──serial──▶ "node007 login:"
func TestStackBoots(t *testing.T) {
	if vmtest.Inside() {
		t.Skip("runs outside")
	}
	dir := t.TempDir()
	disks := []vmlab.Disk{{File: filepath.Join(dir, "a.img"), Size: 1900 << 20}, {File: filepath.Join(dir, "b.img"), Size: 1900 << 20}, {File: stackTar(t), ReadOnly: true}}
	for _, d := range disks {
		if err := d.Create(); err != nil {
			t.Fatal(err)
		}
	}
	vmtest.Run(t, vmtest.Machine{Run: "^TestInsideStack$", Disks: disks, Programs: []string{"tar"}, Memory: 1024, Timeout: 30 * time.Minute})
	if t.Failed() {
		return
	}
	var proofs []*regexp.Regexp
	for _, p := range []string{`node007 login:`, `Started.*ssh\.service`, `Activated swap`, `Mounted.*boot\.mount`, `Mounted.*data\.mount`} {
		proofs = append(proofs, regexp.MustCompile(p))
	}
	boot(t, disks[0].File, proofs, disks[1].File)
}
