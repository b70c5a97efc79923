package disk

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestSeal: a FAT is none while it is sealed, as often as that is said, and the
// same as before when it isn't any more.
func TestSeal(t *testing.T) {
	if _, err := exec.LookPath("mkfs.vfat"); err != nil {
		t.Skip("mkfs.vfat is not installed: package dosfstools")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "esp")
	if err := os.WriteFile(file, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "mkfs.vfat", "-F", "32", "-s", "1", file)
	before := hash(t, file)
	plan := wire.Plan{Filesystems: []wire.Filesystem{{Type: "ext4"}, {Type: wire.VFAT}}}
	made := wire.DiskResult{Filesystems: []wire.FilesystemResult{{Device: dir + "/none"}, {Device: file}}}
	if err := Unseal(plan, made, dir); err != nil || hash(t, file) != before {
		t.Errorf("what isn't sealed: %v", err)
	}
	for range 2 {
		if err := Seal(plan, made, dir); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("blkid", "-p", file).CombinedOutput(); err == nil {
			t.Errorf("sealed, blkid still finds %s", out)
		}
	}
	if err := Unseal(plan, made, t.TempDir()); err == nil {
		t.Error("unsealed with nothing")
	}
	if err := Unseal(plan, made, dir); err != nil || hash(t, file) != before {
		t.Errorf("unsealed: %v", err)
	}
	if err := Seal(plan, wire.DiskResult{}, dir); err != nil { // Prepare failed before
		t.Error(err)
	}
}

// TestVM7Seal is that on a partition that is mounted: the kernel does without,
// and what it writes meanwhile is there and sound afterwards.
func TestVM7Seal(t *testing.T) {
	inVM(t)
	name, dir := serial(t, "SCSI1"), t.TempDir()
	plan := esp(t)
	plan.Disks[0].Layout = desc(t, "efi 100\nlinux 340\nswap fill")
	big := bytes.Repeat([]byte("loader"), 1<<20)
	for _, update := range []bool{false, true} {
		plan.Update = update
		root := filepath.Join(t.TempDir(), "mnt")
		res, err := Prepare(t.Context(), plan, root, Options{Devices: []string{name}, Seal: dir})
		if err != nil || res.Kept != update {
			t.Fatalf("kept %v: %v", res.Kept, err)
		}
		dev := res.Filesystems[1].Device
		hidden := func(when string) {
			t.Helper()
			if out, err := exec.Command("blkid", "-p", "-s", "TYPE", dev).CombinedOutput(); len(bytes.TrimSpace(out)) > 0 {
				t.Errorf("%s, blkid finds %s: %v", when, out, err)
			}
		}
		hidden("mounted")
		boot := filepath.Join(root, "boot/efi/EFI/BOOT")
		if err := os.MkdirAll(boot, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"BOOTX64.EFI", "a file of a long name.efi"} {
			if err := os.WriteFile(filepath.Join(boot, f), big, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		unix.Sync()
		hidden("written to")
		// A node that fails: unmounted as it is, and given up, or unsealed by hand.
		if err := Unmount(root, res.Disks...); err != nil {
			t.Fatal(err)
		}
		hidden("unmounted")
		if err := Unseal(plan, res, dir); err != nil {
			t.Fatal(err)
		}
		if err := mountAll(plan, res.Filesystems, root); err != nil {
			t.Fatal(err)
		}
		if err := Seal(plan, res, dir); err != nil {
			t.Fatal(err)
		}
		hidden("mounted again")
		// One that doesn't.
		if err := Unseal(plan, res, dir); err != nil {
			t.Fatal(err)
		}
		if out := must(t, "blkid", "-p", "-s", "TYPE", "-o", "value", dev); out != "vfat" {
			t.Errorf("unsealed, blkid finds %q", out)
		}
		if err := os.WriteFile(filepath.Join(boot, "last"), big, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := Unmount(root, res.Disks...); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("fsck.fat", "-n", dev).CombinedOutput(); err != nil && !onlyDirty(string(out)) {
			t.Errorf("fsck.fat: %v: %s", err, out)
		}
		at := t.TempDir()
		if err := unix.Mount(dev, at, "vfat", unix.MS_RDONLY, ""); err != nil {
			t.Fatal(err)
		}
		for _, f := range []string{"BOOTX64.EFI", "a file of a long name.efi", "last"} {
			if b, err := os.ReadFile(filepath.Join(at, "EFI/BOOT", f)); err != nil || !bytes.Equal(b, big) {
				t.Errorf("%s: %d bytes, %v", f, len(b), err)
			}
		}
		if err := unmountOne(at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestVM7SealClean is the way of a node that nothing happens to: the file
// system isn't even marked as one that wasn't unmounted.
func TestVM7SealClean(t *testing.T) {
	inVM(t)
	name, dir := serial(t, "SCSI1"), t.TempDir()
	plan := esp(t)
	plan.Disks[0].Layout = desc(t, "efi 100\nlinux 340\nswap fill")
	root := filepath.Join(t.TempDir(), "mnt")
	res, err := Prepare(t.Context(), plan, root, Options{Devices: []string{name}, Seal: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "boot/efi/file"), bytes.Repeat([]byte("x"), 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	unix.Sync()
	if err := Unseal(plan, res, dir); err != nil {
		t.Fatal(err)
	}
	if err := Unmount(root, res.Disks...); err != nil {
		t.Fatal(err)
	}
	t.Log(must(t, "fsck.fat", "-n", res.Filesystems[1].Device))
}

// onlyDirty: a FAT that was unmounted while it was sealed is marked as one that
// wasn't unmounted, which the kernel leaves so (fs/fat/inode.c, fat_set_state):
// one byte, which the copy of a FAT32's boot sector has not. fsck.fat says
// nothing else of it.
func onlyDirty(said string) bool {
	for _, fault := range []string{"Reclaimed", "ree cluster", "orphan", "chain", "FATs differ", "size", "Bad"} {
		if strings.Contains(said, fault) {
			return false
		}
	}
	return strings.Contains(said, "Dirty bit is set") && strings.Contains(said, "\n  65:01/00\n")
}
