package disk

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// esp is a plan with an EFI system partition in a GPT.
func esp(t *testing.T) wire.Plan {
	return wire.Plan{
		Disks: []wire.DiskPlan{{Name: "sda", Layout: desc(t, "efi 100\nlinux 40\nswap 20")}},
		Filesystems: []wire.Filesystem{
			{Part: 2, Type: "ext4", MountPoint: "/"}, {Part: 1, Type: wire.VFAT, MountPoint: "/boot/efi", Label: "ESP", NeedBytes: 5 << 20, NeedInodes: 9},
			{Part: 3, Type: "swap"},
		},
	}
}

// TestVFAT has mkfs.fat make EFI system partitions of all sizes, and fsck.fat,
// blkid and mtools judge. The kernel that runs tests need not know FAT.
func TestVFAT(t *testing.T) {
	for _, p := range []string{"mkfs.vfat", "fsck.vfat", "mdir"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed: packages dosfstools, mtools", p)
		}
	}
	for _, c := range []struct {
		mib     int64
		version string
	}{
		{8, "FAT12"}, {32, "FAT16"}, {36, "FAT32"}, {100, "FAT32"}, {255, "FAT32"}, {300, "FAT32"}, {512, "FAT32"}, {2048, "FAT32"},
	} {
		file := filepath.Join(t.TempDir(), "esp")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(file, c.mib<<20); err != nil {
			t.Fatal(err)
		}
		id, err := newUUID(wire.VFAT)
		if err != nil || !regexp.MustCompile(`^[0-9A-F]{4}-[0-9A-F]{4}$`).MatchString(id) {
			t.Fatalf("identifier %q: %v", id, err)
		}
		fs := wire.Filesystem{Type: wire.VFAT, MountPoint: "/boot/efi", Label: "EFI 1"}
		if err := mkfs(t.Context(), fs, file, id, room{c.mib << 20, 512}); err != nil {
			t.Fatal(err)
		}
		for tag, want := range map[string]string{"UUID": id, "LABEL": fs.Label, "VERSION": c.version, "TYPE": "vfat"} {
			if got := must(t, "blkid", "-p", "-s", tag, "-o", "value", file); got != want {
				t.Errorf("%d MiB: %s %q, want %q", c.mib, tag, got, want)
			}
		}
		must(t, "fsck.vfat", "-n", file)
		if err := checkRoom(wire.Filesystem{Type: wire.VFAT, NeedBytes: freeFAT(t, file) + 1}, c.mib<<20); err == nil {
			t.Errorf("%d MiB: more than fits is accepted", c.mib)
		}
		if err := checkRoom(wire.Filesystem{Type: wire.VFAT, NeedBytes: freeFAT(t, file) * 96 / 100}, c.mib<<20); err != nil {
			t.Errorf("%d MiB: %v", c.mib, err)
		}
		os.Remove(file)
	}
}

// freeFAT is how much room mtools finds.
func freeFAT(t *testing.T, file string) int64 {
	t.Helper()
	m := regexp.MustCompile(`([0-9 ]+) bytes free`).FindStringSubmatch(must(t, "mdir", "-i", file, "::"))
	if m == nil {
		t.Fatal("mdir prints no free bytes")
	}
	var n int64
	if _, err := fmt.Sscan(strings.ReplaceAll(m[1], " ", ""), &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestVFATRefused: what can't be made is refused before anything is written;
// the plan as it is can.
func TestVFATRefused(t *testing.T) {
	if _, err := exec.LookPath("mkfs.vfat"); err != nil {
		t.Skip("mkfs.vfat is not installed: package dosfstools")
	}
	for _, sector := range []int64{512, 4096} {
		d := []Device{{Name: "vda", Path: "/dev/vda", Bytes: 200 << 20, Sector: sector}}
		if err := Check(esp(t), d); err != nil {
			t.Errorf("sectors of %d: %v", sector, err)
		}
		for want, change := range map[string]func(*wire.Filesystem){
			"at most 11 capital": func(f *wire.Filesystem) { f.Label = "efi" },
			"want a clean":       func(f *wire.Filesystem) { f.MountPoint = "" },
			"has room for":       func(f *wire.Filesystem) { f.NeedBytes = 100 << 20 },
			"impossible":         func(f *wire.Filesystem) { f.NeedInodes = 1 << 40 },
		} {
			plan := esp(t)
			change(&plan.Filesystems[1])
			if err := Check(plan, d); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("sectors of %d: got %v, want %s", sector, err, want)
			}
		}
	}
}

// TestVFATFound: for an update, the EFI system partition that an earlier clone
// made is known again by its identifier; golden's own identifier, or something
// else in its place, isn't taken.
func TestVFATFound(t *testing.T) {
	for _, p := range []string{"mkfs.vfat", "mkfs.ext4", "blkid"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed", p)
		}
	}
	file := filepath.Join(t.TempDir(), "esp")
	if err := os.WriteFile(file, make([]byte, 40<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "mkfs.vfat", "-i", "12AB34CD", file)
	fs := wire.Filesystem{Type: wire.VFAT, MountPoint: "/boot/efi"}
	if id, err := sameFilesystem(t.Context(), fs, file, 40<<20); err != nil || id != "12AB-34CD" {
		t.Errorf("got %q, %v", id, err)
	}
	fs.OldUUID = "12AB-34CD"
	if id, err := sameFilesystem(t.Context(), fs, file, 40<<20); err != nil || id == fs.OldUUID || len(id) != 9 {
		t.Errorf("with golden's own: got %q, %v", id, err)
	}
	must(t, "mkfs.ext4", "-q", "-F", file)
	if id, err := sameFilesystem(t.Context(), fs, file, 40<<20); err == nil || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("an ext4 in its place: %q, %v", id, err)
	}
	if !anew(fs) || anew(wire.Filesystem{Type: "ext4"}) {
		t.Error("the wrong ones are made anew")
	}
}
