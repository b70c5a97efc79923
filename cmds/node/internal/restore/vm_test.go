package restore

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
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
		Programs: []string{"mkfs.ext4", "mkfs.jfs", "mkfs.reiserfs", "mkfs.f2fs", "e2fsck", "fsck.jfs", "reiserfsck", "fsck.f2fs", "mkfs.vfat",
			"setfattr", "setfacl"},
		Memory:  1024,
		Timeout: 15 * time.Minute,
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

// TestVMFAT: what is no file and no directory can't be on an EFI system
// partition, and is named; files come, to two seconds.
func TestVMFAT(t *testing.T) {
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
	from := t.TempDir()
	to := volume{kind: "vfat", image: "/dev/vdb", dir: t.TempDir() + "/to"}
	to.make(t)
	at := func(name string) string { return from + "/" + name }
	if err := errors.Join(os.MkdirAll(at("EFI/BOOT"), 0o755), os.WriteFile(at("EFI/BOOT/BOOTX64.EFI"), []byte("loader"), 0o644),
		os.WriteFile(at("owned"), nil, 0o644), os.Chown(at("owned"), 1000, 1000), os.Symlink("EFI", at("link")),
		unix.Mkfifo(at("fifo"), 0o600), os.Link(at("EFI/BOOT/BOOTX64.EFI"), at("second")),
		unix.Setxattr(at("owned"), "trusted.x", []byte("1"), 0)); err != nil {
		t.Fatal(err)
	}
	_, dst := clone(t, stream.ScanOptions{Root: from}, to.dir, 1)
	var named []string
	for _, w := range dst.Warnings() {
		t.Logf("%+v", w)
		named = append(named, w.What)
	}
	all := strings.Join(named, "; ")
	for _, want := range []string{"left out: FAT has only files and directories", "owner not set", "hard link made a copy", "xattr trusted.x not set", "time of modification"} {
		if !strings.Contains(all, want) {
			t.Errorf("not named: %s", want)
		}
	}
	for _, f := range []string{"EFI/BOOT/BOOTX64.EFI", "second"} {
		if b, err := os.ReadFile(to.dir + "/" + f); err != nil || string(b) != "loader" {
			t.Errorf("%s: %q, %v", f, b, err)
		}
	}
	if err := dst.Close(); err != nil {
		t.Error(err)
	}
}
