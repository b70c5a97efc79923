package fixup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

const efiWas, efiNow = "AAAA-0001", "BBBB-0001"

// uefiClone is a clone with an EFI system partition, on a node with UEFI.
func uefiClone(t *testing.T, files map[string]string, change func(*Env)) *clone {
	return newTestClone(t, t.TempDir(), files, func(e *Env) {
		e.Firmware, e.Plan.Loader.Kind = wire.UEFI, "grub"
		e.Plan.Filesystems = append(e.Plan.Filesystems, wire.Filesystem{Part: 2, Type: wire.VFAT, MountPoint: "/boot/efi", OldUUID: efiWas})
		e.Disks.Filesystems = append(e.Disks.Filesystems, wire.FilesystemResult{Device: "/dev/vda2", UUID: efiNow})
		if change != nil {
			change(e)
		}
	})
}

// TestUEFIRefused: what golden has no packages or no partition for is said.
func TestUEFIRefused(t *testing.T) {
	programs := map[string]string{"usr/sbin/grub-install*": "", "usr/sbin/grub-mkconfig*": ""}
	with := func(dir string) map[string]string {
		files := map[string]string{"usr/lib/grub/" + dir + "/": ""}
		for name, text := range programs {
			files[name] = text
		}
		return files
	}
	noESP := func(e *Env) {
		e.Plan.Filesystems, e.Disks.Filesystems = e.Plan.Filesystems[:3], e.Disks.Filesystems[:3]
	}
	for _, tt := range []struct {
		name   string
		files  map[string]string
		change func(*Env)
		want   string
	}{
		{"no grub", nil, nil, "grub-pc or grub-efi-amd64"},
		{"grub-pc on UEFI", with("i386-pc"), nil, "this node has UEFI firmware: package grub-efi-amd64-bin"},
		{"grub-efi on a BIOS", with("x86_64-efi"), func(e *Env) { e.Firmware = "" }, "this node has BIOS firmware: package grub-pc-bin"},
		{"no partition", with("x86_64-efi"), noESP, "a line such as efi 512"},
	} {
		files := map[string]string{}
		for name, text := range tt.files {
			files[strings.TrimSuffix(name, "*")] = text
		}
		c := uefiClone(t, files, tt.change)
		for name := range tt.files {
			if exe, ok := strings.CutSuffix(name, "*"); ok {
				if err := os.Chmod(filepath.Join(c.tree.path, exe), 0o755); err != nil {
					t.Fatal(err)
				}
			}
		}
		err := fixLoader(t.Context(), c, &StepReport{})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", tt.name, err, tt.want)
		}
	}
}

// TestCheckESP: GRUB has the same name in EFI/BOOT with a shim and without.
func TestCheckESP(t *testing.T) {
	const dir = "/boot/efi/EFI/BOOT"
	if err := uefiClone(t, nil, nil).checkESP(&StepReport{}, dir); err == nil || !strings.Contains(err.Error(), "BOOTX64.EFI") {
		t.Errorf("nothing there: %v", err)
	}
	for want, files := range map[string]map[string]string{
		"grub":      {"boot/efi/EFI/BOOT/BOOTX64.EFI": "grub"},
		"real grub": {"boot/efi/EFI/BOOT/BOOTX64.EFI": "shim", "boot/efi/EFI/BOOT/grubx64.efi": "real grub"},
	} {
		c := uefiClone(t, files, nil)
		if err := c.checkESP(&StepReport{}, dir); err != nil {
			t.Error(err)
		}
		if got := c.tree.firstLine(dir + "/grubx64.efi"); got != want {
			t.Errorf("grubx64.efi is %q, want %q", got, want)
		}
	}
}

// TestESPFiles: the fstab line, golden's and a new one, and the menus of
// loaders that aren't installed again.
func TestESPFiles(t *testing.T) {
	const line = " /boot/efi vfat umask=0077 0 1\n"
	for before, want := range map[string]string{
		"":                         "UUID=" + efiNow + line,
		"UUID=" + efiWas + line:    "UUID=" + efiNow + line,
		"UUID=aaaa-0001" + line:    "UUID=" + efiNow + line,
		"PARTUUID=golden" + line:   "UUID=" + efiNow + line,
		"LABEL=EFI" + line:         "UUID=" + efiNow + line,
		"/dev/sda2" + line:         "UUID=" + efiNow + line,
		"/dev/disk/by-id/x" + line: "UUID=" + efiNow + line,
	} {
		c := uefiClone(t, map[string]string{"etc/fstab": before}, nil)
		if err := fixFstab(t.Context(), c, &StepReport{}); err != nil {
			t.Fatal(err)
		}
		text, err := c.tree.read("/etc/fstab")
		if err != nil || strings.Count(string(text), "/boot/efi") != 1 || !strings.Contains(string(text), want) {
			t.Errorf("%q became %q, %v", before, text, err)
		}
	}
	menus := map[string]string{
		"/boot/efi/EFI/debian/grub.cfg":     "search.fs_uuid %s root",
		"/boot/efi/loader/entries/one.conf": "options root=UUID=%s ro",
	}
	files := map[string]string{}
	for name, text := range menus {
		files[strings.TrimPrefix(name, "/")] = fmt.Sprintf(text, rootWas) + "\n"
	}
	c := uefiClone(t, files, func(e *Env) { e.Firmware = wire.BIOS })
	if err := fixUUIDs(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	for name, text := range menus {
		if got := c.tree.firstLine(name); got != fmt.Sprintf(text, rootNow) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
