package goldenroot

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
)

// Layout is how the clones' disks are divided.
type Layout struct {
	Desc   string         // fits golden's fstab
	Mounts map[int]string // where golden's fstab mounts which partition
	ESP    int            // which of these is the EFI system partition; 0: none
}

// BIOS is the layout that golden-root.sh's fstab is for.
func BIOS() Layout {
	return Layout{Mounts: map[int]string{1: "/", 6: "/home"}, Desc: `# the golden root's fstab: sda1 is /, sda5 swap, sda6 /home
linux 1600
extended fill
logical swap 128
logical linux fill
`}
}

// UEFI is a layout with an EFI system partition, in a GPT; ForUEFI makes a
// root fit it.
func UEFI() Layout {
	return Layout{Mounts: map[int]string{1: "/boot/efi", 2: "/", 4: "/home"}, ESP: 1, Desc: `# sda1 is /boot/efi, sda2 /, sda3 swap, sda4 /home
efi 100
linux 1600
swap 128
linux fill
`}
}

const fstabUEFI = `# device	mount point	type	options	dump	pass
/dev/sda2	/	ext4	errors=remount-ro	0	1
/dev/sda1	/boot/efi	vfat	umask=0077	0	1
/dev/sda4	/home	ext4	defaults,nodev	0	2
/dev/sda3	none	swap	sw	0	0
`

// ForUEFI turns a root that Make made into that of a machine which starts by
// UEFI, with files in /boot/efi that aren't the boot loader's.
func ForUEFI(root string) error {
	return Fit(root, map[string]string{
		"etc/fstab":                         fstabUEFI,
		"etc/initramfs-tools/conf.d/resume": "RESUME=/dev/sda3\n",
		"boot/efi/README.TXT":               "CAPITALS\n",
	})
}

// Fit writes files into a root that Make made, and others beside them where
// there are some in /boot/efi. What matches one of the patterns without is
// removed first.
func Fit(root string, files map[string]string, without ...string) error {
	for _, pattern := range without {
		names, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return err
		}
		for _, n := range names {
			if err := os.Remove(n); err != nil {
				return fmt.Errorf("fit the golden root: %w", err)
			}
		}
	}
	files = maps.Clone(files)
	if _, ok := files["boot/efi/README.TXT"]; ok {
		addESP(files)
	}
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return fmt.Errorf("fit the golden root: %w", err)
		}
	}
	return nil
}

// addESP adds what an EFI system partition may hold besides boot loaders.
func addESP(files map[string]string) {
	for name, text := range map[string]string{
		"startup.nsh": "fs0:\r\n", "EFI/tools/tool.efi": string(noise(3<<20 + 77)), "EFI/tools/empty": "",
		"EFI/tools/" + strings.Repeat("long name ", 20) + ".txt": "more than 8.3\n", "EFI/tools/größe.txt": "not ASCII\n",
		"EFI/tools/a/b/c/d/e/deep": "deep\n",
	} {
		files["boot/efi/"+name] = text
	}
}
