package fixup

// oldHardware is the sysfs of a node with one e1000, and a disk at ata_piix.
func oldHardware() map[string]string {
	const nic, ata = "devices/pci0000:00/0000:00:03.0", "devices/pci0000:00/0000:00:1f.2"
	return map[string]string{
		nic + "/driver -> ../../../bus/pci/drivers/e1000": "", "bus/pci/drivers/e1000/module -> ../../../../module/e1000": "", "module/e1000/": "",
		nic + "/net/eth0/ifindex":                            "2\n",
		nic + "/net/eth0/device -> ../../../0000:00:03.0":    "",
		"class/net/eth0 -> ../../" + nic + "/net/eth0":       "",
		"class/net/lo/ifindex":                               "1\n",
		ata + "/driver -> ../../../bus/pci/drivers/ata_piix": "", "bus/pci/drivers/ata_piix/module -> ../../../../module/ata_piix": "", "module/ata_piix/": "",
		ata + "/ata1/host0/target0:0:0/0:0:0:0/driver -> ../../../../../../../bus/scsi/drivers/sd": "", "bus/scsi/drivers/sd/": "",
		"block/shm!vda/device -> ../../" + ata + "/ata1/host0/target0:0:0/0:0:0:0": "",
	}
}

// standIns are programs of packages that can't be had here. Each records its
// arguments, and makes what the real one would, so far as a step looks at it.
// What they know of the clone they read from its files, as the real ones do.
func standIns() map[string]string {
	const root = `root=$(sed -n 's,^\([^# \t]*\)[ \t][ \t]*/[ \t].*,\1,p' /etc/fstab); `
	last := `for last; do :; done; `
	mkconfig := root + `echo "# made by mkconfig" >"$2"; ` +
		`if grep -qs BLSCFG=true /etc/default/grub; then echo blscfg >>"$2"; else echo "menuentry 'x' { linux /vmlinuz root=$root }" >>"$2"; fi`
	// The modules are a stand-in's too; grub-install puts core.img where GRUB's folder is.
	install := func(dir string) string {
		return `case "$*" in *i386-pc*) mkdir -p ` + dir + `/i386-pc; echo core >` + dir + `/i386-pc/core.img;; ` +
			`*removable*) mkdir -p /boot/efi/EFI/BOOT; echo grub >/boot/efi/EFI/BOOT/BOOTX64.EFI;; ` +
			`*) mkdir -p /boot/efi/EFI/ubuntu; echo grub >/boot/efi/EFI/ubuntu/grubx64.efi;; esac`
	}
	return map[string]string{
		"grub2-mkconfig": mkconfig, "grub-mkconfig": mkconfig,
		"grub2-install": install("/boot/grub2"), "grub-install": install("/boot/grub"),
		"dracut":           last + `echo "initrd of dracut" >"$last"`,
		"update-initramfs": `for k in /boot/vmlinuz-*; do echo "initrd of initramfs-tools" >/boot/initrd.img-${k#/boot/vmlinuz-}; done`,
		"mkinitramfs":      "",
		"mkinitcpio":       `for i in /boot/initramfs-*.img; do echo "initrd of mkinitcpio" >$i; done`,
		"mkinitrd":         `case "$1" in -k) echo "initrd of SUSE" >/boot/$4;; *) for a; do case $a in /boot/*) echo "initrd of Mandriva" >$a;; esac; done;; esac`,
		"grub":             `while read l; do echo "stdin: $l" >>/calls; done; echo ' Running "install /boot/grub/stage1 (hd0) /boot/grub/stage2 p"... succeeded'`,
		"lilo":             `echo map >/boot/map`,
		"bootctl":          `mkdir -p /boot/EFI/systemd /boot/EFI/BOOT; for f in systemd/systemd-bootx64.efi BOOT/BOOTX64.EFI; do cp /usr/lib/systemd/boot/efi/systemd-bootx64.efi /boot/EFI/$f; done`,
		"ssh-keygen":       "exit 0",
	}
}
