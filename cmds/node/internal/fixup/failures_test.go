package fixup

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestBootFails: what keeps a clone from starting ends the run in the step
// where it is found, with the cause, and nothing is written after that.
func TestBootFails(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot and mknod are root's")
	}
	makeNode(t)
	for _, tt := range []struct {
		name, family string
		programs     map[string]string // that do something else
		remove       []string
		files        map[string]string
		step, want   string
	}{
		{name: "no kernel", family: "ubuntu2404", remove: []string{"boot/vmlinuz-6.8.0-31-generic"}, step: "initrd", want: "no kernel with modules"},
		{name: "no modules", family: "arch", remove: []string{"usr/lib/modules/6.9.1-arch1-1/pkgbase"}, step: "initrd", want: "no kernel with modules"},
		{name: "dracut fails", family: "fedora40", programs: map[string]string{"dracut": "echo no space >&2; exit 1"}, step: "initrd", want: "exit status 1; it said:\n\tno space"},
		{name: "dracut makes nothing", family: "fedora40", programs: map[string]string{"dracut": ""}, step: "initrd", want: "ended well but made no /boot/initramfs-6.8.5-301.fc40.x86_64.img"},
		{name: "dracut makes an empty one", family: "fedora40", programs: map[string]string{"dracut": `for last; do :; done; : >"$last"`}, step: "initrd", want: "is empty"},
		{name: "mkinitcpio makes nothing", family: "arch", programs: map[string]string{"mkinitcpio": ""}, step: "initrd", want: "mkinitcpio ended well but made no"},
		{name: "mkinitrd makes nothing", family: "mandriva2008", programs: map[string]string{"mkinitrd": ""}, step: "initrd", want: "mkinitrd ended well but made no"},
		{name: "mkconfig fails", family: "ubuntu2404", programs: map[string]string{"grub-mkconfig": "exit 2"}, step: "boot-menu", want: "exit status 2"},
		{name: "a menu without entries", family: "ubuntu2404", programs: map[string]string{"grub-mkconfig": `echo "# search bbbbbbbb-0000-4000-8000-000000000002" >"$2"`}, step: "boot-menu", want: "has no entry"},
		{name: "a menu for golden", family: "ubuntu2404", programs: map[string]string{"grub-mkconfig": `echo "menuentry root=UUID=aaaaaaaa-0000-4000-8000-000000000002" >"$2"`}, step: "boot-menu", want: "doesn't name the root"},
		{name: "a BLS entry without its kernel", family: "fedora40", files: map[string]string{"boot/loader/entries/x.conf": "title x\nlinux /vmlinuz-gone\n"}, step: "boot-menu", want: "starts /vmlinuz-gone, which isn't there"},
		{name: "a BLS entry for another root", family: "rhel9", files: map[string]string{"boot/loader/entries/x.conf": "title x\nlinux /vmlinuz-5.14.0-427.el9.x86_64\noptions root=/dev/sdq1\n"}, step: "boot-menu", want: "x.conf doesn't name the root"},
		{name: "no BLS entry", family: "arch", remove: []string{"boot/loader/entries/arch.conf", "boot/loader/entries/arch-device.conf"}, step: "boot-menu", want: "no boot loader entry"},
		{name: "a stub for another system", family: "leap15-uefi", files: map[string]string{"boot/efi/EFI/opensuse/grub.cfg": "search --fs-uuid cccccccc-0000-4000-8000-000000000002\n"}, step: "boot-loader", want: "doesn't name the file system bbbbbbbb"},
		{name: "grub fails", family: "debian-raid", programs: map[string]string{"grub-install": "echo bad disk >&2; exit 1"}, step: "boot-loader", want: "exit status 1; it said:\n\tbad disk"},
		{name: "grub makes nothing", family: "debian-raid", programs: map[string]string{"grub-install": ""}, step: "boot-loader", want: "ended well but made no /boot/grub/i386-pc/core.img"},
		{name: "grub makes nothing for UEFI", family: "ubuntu2404", programs: map[string]string{"grub-install": ""}, step: "boot-loader", want: "made no /boot/efi/EFI/BOOT/BOOTX64.EFI"},
		{name: "GRUB legacy fails", family: "mandriva2008", programs: map[string]string{"grub": "echo; echo 'Error 17: Cannot mount selected partition'"}, step: "boot-loader", want: "install grub-legacy on /dev/shm/vda: Error 17: Cannot mount selected partition"},
		{name: "GRUB legacy does nothing", family: "sles11", programs: map[string]string{"grub": "cat >/dev/null"}, step: "boot-loader", want: "installed nothing"},
		{name: "no menu.lst", family: "sles11", remove: []string{"boot/grub/menu.lst"}, step: "boot-menu", want: "nothing to boot"},
		{name: "LILO makes no map", family: "mandriva2008-lilo", programs: map[string]string{"lilo": ""}, step: "boot-loader", want: "lilo ended well but made no /boot/map"},
		{name: "no lilo.conf", family: "mandriva2008-lilo", remove: []string{"etc/lilo.conf"}, step: "boot-loader", want: "lilo.conf"},
		{name: "bootctl makes nothing", family: "arch", programs: map[string]string{"bootctl": ""}, step: "boot-loader", want: "bootctl ended well but made no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := families()
			f := all[slices.IndexFunc(all, func(f family) bool { return f.name == tt.family })]
			root, scripts := t.TempDir(), standIns()
			maps.Copy(scripts, tt.programs)
			plantFamily(t, root, f.name, scripts)
			for _, name := range tt.remove {
				if err := os.Remove(filepath.Join(root, name)); err != nil {
					t.Fatal(err)
				}
			}
			plant(t, root, tt.files)
			report, err := runBoot(t, f.env(t, root))
			if err == nil || !strings.HasPrefix(err.Error(), "fix-up step "+tt.step+": ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want step %s and %q", err, tt.step, tt.want)
			}
			if n := len(report.Steps); n == 0 || report.Steps[n-1].Name != tt.step {
				t.Errorf("the report ends with %+v", report.Steps)
			}
			if n := mountsIn(t, root); n != 0 {
				t.Errorf("%d mounts are left", n)
			}
		})
	}
}

// TestOtherFirmware: a node with another firmware than golden's gets the boot
// loader that golden has for it, or hears that there is none.
func TestOtherFirmware(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot and mknod are root's")
	}
	makeNode(t)
	for _, tt := range []struct {
		family   string
		programs map[string]string
		files    map[string]string
		want     string // in the calls, or in the error
		fails    bool
	}{
		{family: "arch", want: "systemd-boot doesn't start a machine with BIOS firmware", fails: true},
		{family: "sles11", want: "grub-legacy doesn't start a machine with UEFI firmware", fails: true},
		{family: "arch", programs: map[string]string{"grub-install": "", "grub-mkconfig": ""}, files: map[string]string{"usr/lib/grub/i386-pc/modinfo.sh": ""}, want: "grub-install --target=i386-pc /dev/shm/vda"},
		{family: "ubuntu2404", files: map[string]string{"usr/lib/grub/i386-pc/modinfo.sh": ""}, want: "grub-install --target=i386-pc /dev/shm/vda"},
		{family: "fedora40", want: "the clone has no grub-install: package grub-pc", fails: true},
	} {
		all := families()
		f := all[slices.IndexFunc(all, func(f family) bool { return f.name == tt.family })]
		f.uefi = !f.uefi
		root, scripts := t.TempDir(), standIns()
		plantFamily(t, root, f.name, scripts)
		for p := range tt.programs {
			text := "#!/bin/sh\nset -e\necho \"${0##*/} $*\" >>/calls\n" + scripts[p] + "\n"
			if err := os.WriteFile(filepath.Join(root, "usr/local/sbin", p), []byte(text), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		plant(t, root, tt.files)
		_, err := runBoot(t, f.env(t, root))
		calls, _ := os.ReadFile(filepath.Join(root, "calls"))
		switch {
		case tt.fails && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.family, err, tt.want)
		case !tt.fails && (err != nil || !strings.Contains(string(calls), tt.want)):
			t.Errorf("%s: %v, no %q in\n%s", tt.family, err, tt.want, calls)
		}
	}
}
