package capture

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// system makes a folder with an fstab and more files; an empty text is a
// folder's, if the name ends in /.
func system(t *testing.T, fstab string, files ...string) string {
	t.Helper()
	root := folder(t, fstab)
	for _, f := range files {
		path := filepath.Join(root, f)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(f, "/") {
			write(t, path, "x")
		}
	}
	return root
}

// TestLoaderFound: which boot loader a system has shows in its files, and for
// which machines that is one.
func TestLoaderFound(t *testing.T) {
	const bios, uefi = "usr/lib/grub/i386-pc/x", "usr/lib/grub/x86_64-efi/x"
	mbr, gpt := "linux 100\nlinux fill\n", "efi 100\nlinux 100\nlinux fill\n"
	for name, c := range map[string]struct {
		desc, fstab, kind string
		files             []string
		want, lack, err   string
	}{
		"grub 2":                {desc: mbr, files: []string{"boot/grub/grub.cfg", bios, "etc/lilo.conf"}, want: "grub", lack: "uefi"},
		"grub 2 of Fedora":      {desc: gpt, files: []string{"boot/grub2/grub.cfg", uefi, bios}, want: "grub"},
		"grub legacy":           {desc: mbr, fstab: "/dev/sda1 / ext3\n", files: []string{"boot/grub/menu.lst"}, want: "grub-legacy", lack: "uefi"},
		"legacy, called grub":   {desc: mbr, fstab: "/dev/sda1 / ext3\n", kind: "grub", files: []string{"boot/grub/grub.conf"}, want: "grub-legacy", lack: "uefi"},
		"lilo":                  {desc: mbr, fstab: "/dev/sda1 / reiserfs\n", files: []string{"etc/lilo.conf"}, want: "lilo", lack: "uefi"},
		"systemd-boot":          {desc: gpt, files: []string{"boot/efi/loader/loader.conf"}, want: "systemd-boot", lack: "bios"},
		"extlinux":              {desc: mbr, files: []string{"boot/extlinux/extlinux.conf"}, want: "extlinux", lack: "uefi"},
		"nothing shows":         {desc: mbr, files: []string{bios}, want: "grub", lack: "uefi"},
		"none":                  {desc: mbr, kind: "none", want: "none"},
		"lilo on a GPT":         {desc: gpt, fstab: "/dev/sda2 / ext3\n", kind: "lilo", err: "lilo knows no GPT"},
		"systemd-boot, no ESP":  {desc: mbr, kind: "systemd-boot", err: "no EFI system partition"},
		"legacy on ext4":        {desc: mbr, kind: "grub-legacy", err: "/boot (/) is ext4, which grub-legacy can't read"},
		"legacy, own /boot":     {desc: mbr, fstab: "/dev/sda2 / ext4\n/dev/sda1 /boot ext2\n", kind: "grub-legacy", want: "grub-legacy", lack: "uefi"},
		"extlinux on jfs":       {desc: mbr, fstab: "/dev/sda1 / jfs\n", kind: "extlinux", err: "which extlinux can't read"},
		"grub on xfs and btrfs": {desc: mbr, fstab: "/dev/sda1 / btrfs\n/dev/sda2 /boot xfs\n", files: []string{bios}, kind: "grub", want: "grub", lack: "uefi"},
	} {
		if c.kind == "" {
			c.kind = "auto"
		}
		if c.fstab == "" {
			c.fstab = "-"
		}
		m, err := Describe(t.Context(), Options{Root: system(t, c.fstab, c.files...), Descs: descs(t, c.desc), Loader: wire.Loader{Kind: c.kind, With: []string{"jfs"}}})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %s", name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var lack []string
		for _, firmware := range []string{wire.BIOS, wire.UEFI} {
			if m.Plan.Loader.Refuses(firmware) != "" {
				lack = append(lack, firmware)
			}
		}
		if got := strings.Join(lack, " "); m.Plan.Loader.Kind != c.want || got != c.lack || m.Plan.Loader.With[0] != "jfs" {
			t.Errorf("%s: %+v", name, m.Plan.Loader)
		}
	}
}

// TestStartedBy: what UEFI was told counts before files.
func TestStartedBy(t *testing.T) {
	for text, want := range map[string]string{
		"\x06\x00\x00\x00s\x00y\x00s\x00t\x00e\x00m\x00d\x00-\x00b\x00o\x00o\x00t\x00 \x002\x00": loaderSystemd,
		"\x06\x00\x00\x00G\x00R\x00U\x00B\x00 \x002\x00\x00\x00":                                 loaderGRUB, "\x06\x00": "", "": "", "\x06\x00\x00\x00x": "",
	} {
		sys := sysTree(t)
		path := filepath.Join(sys, loaderInfo)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, path, text)
		if got := (machine{sys: sys}).startedBy(); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := (machine{sys: t.TempDir()}).startedBy(); got != "" {
		t.Errorf("a machine with a BIOS: %q", got)
	}
}

// TestBootInContainer: a /boot that the boot loader can't open is refused.
func TestBootInContainer(t *testing.T) {
	yaml := func(version, boot string) string {
		return "disks:\n  sda:\n    table: mbr\n    partitions:\n      - {type: linux, size: 300M" + boot + "}\n      - luks fill\nluks:\n  c: {of: sda2, version: " + version + "}\nlvm:\n  v: {of: mapper/c, volumes: {r: {size: 4G, mount: /}}}\n"
	}
	root := system(t, "/dev/v/r / ext4\n", "usr/lib/grub/i386-pc/x")
	pass := descs(t, "secret\n")["sda"]
	for _, c := range []struct{ version, boot, err string }{
		{"2", "", "/boot (/) is in the encrypted container c (LUKS2), which grub can't open"},
		{"1", "", ""},
		{"2", ", fs: ext4, mount: /boot", ""},
	} {
		_, err := Describe(t.Context(), Options{Root: root, Layout: yamlFile(t, yaml(c.version, c.boot)), Passphrases: []string{pass}, Loader: wire.Loader{Kind: "grub"}})
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("LUKS%s%s: %v, want %q", c.version, c.boot, err, c.err)
		}
	}
	lilo := Options{Root: root, Layout: yamlFile(t, "disks:\n  sda: {table: mbr, partitions: [raid fill]}\n  sdb: {like: sda}\nraid:\n  md0: {level: 1, of: [sda1, sdb1], metadata: 1.2, fs: ext4, mount: /}\n"), Loader: wire.Loader{Kind: "lilo"}}
	if _, err := Describe(t.Context(), lilo); err == nil || !strings.Contains(err.Error(), "is on md0, which lilo can't read") {
		t.Errorf("lilo on metadata 1.2: %v", err)
	}
	lilo.Layout = yamlFile(t, "disks:\n  sda: {table: mbr, partitions: [raid fill]}\n  sdb: {like: sda}\nraid:\n  md0: {level: 1, of: [sda1, sdb1], metadata: 1.0, fs: ext4, mount: /}\n")
	if m, err := Describe(t.Context(), lilo); err != nil || m.Plan.Loader.Refuses(wire.BIOS) != "" {
		t.Errorf("lilo on a mirror: %v", err)
	}
	grub := Options{Root: root, Layout: yamlFile(t, "disks:\n  sda: {partitions: [raid fill]}\n  sdb: {like: sda}\nraid:\n  md0: {level: 1, of: [sda1, sdb1], fs: ext4, mount: /}\n"), Loader: wire.Loader{Kind: "grub"}}
	m, err := Describe(t.Context(), grub)
	if err != nil {
		t.Fatal(err)
	}
	for _, disk := range m.Plan.Disks {
		if len(disk.Layout.Parts) != 2 {
			t.Errorf("%s has no place for GRUB: %+v", disk.Name, disk.Layout)
		}
	}
}

// TestKernel: a boot loader with nothing to start is refused when the plan is
// made.
func TestKernel(t *testing.T) {
	loader := wire.Loader{Kind: "grub"}
	for _, kernel := range []string{"", "boot/0123/6.1/linux", "boot/efi/EFI/Linux/arch.efi", "boot/vmlinuz", "vmlinuz", "boot/kernel-genkernel-x86", "boot/config-6.1"} {
		root := system(t, "-", "usr/lib/grub/i386-pc/x")
		if err := os.Remove(filepath.Join(root, "boot/vmlinuz-6.1.0")); err != nil {
			t.Fatal(err)
		}
		if kernel != "" {
			path := filepath.Join(root, kernel)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			write(t, path, "x")
		}
		_, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual), Loader: loader})
		if none := kernel == "" || strings.Contains(kernel, "config"); none != (err != nil && strings.Contains(err.Error(), "has no kernel in /boot")) {
			t.Errorf("%q: %v", kernel, err)
		}
	}
	root := system(t, "-", "usr/lib/grub/i386-pc/x")
	if _, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual), Loader: loader, Excludes: []string{"/boot"}}); err == nil || !strings.Contains(err.Error(), "has no kernel") {
		t.Errorf("/boot left out: %v", err)
	}
	if _, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual), Loader: wire.Loader{Kind: "none"}, Excludes: []string{"/boot"}}); err != nil {
		t.Error(err)
	}
	// /vmlinuz of old Debian is a link to /boot, which may be an absolute one.
	if err := os.Rename(root+"/boot/vmlinuz-6.1.0", root+"/boot/x"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/boot/x", root+"/vmlinuz"); err != nil {
		t.Fatal(err)
	}
	if _, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual), Loader: loader}); err != nil {
		t.Error(err)
	}
}

// TestPrograms: what stage 2 can't make is refused, with the package that
// brings it.
func TestPrograms(t *testing.T) {
	all := []string{"mke2fs", "mkswap", "mkfs.xfs", "mkfs.vfat", "lvm"}
	for _, c := range []struct {
		fstab, lacks, err string
	}{
		{"/dev/v/r / ext4\n", "", ""},
		{"/dev/v/r / xfs\n", "mkfs.xfs", "/ (xfs): the nodes' image (rescue.sqfs) has no mkfs.xfs: install package xfsprogs here, and make image again"},
		{"/dev/v/r / jfs\n", "", "install package jfsutils"},
		{"/dev/v/r / reiserfs\n", "", "install package reiserfsprogs"},
		{"/dev/v/r / f2fs\n", "", "install package f2fs-tools"},
		{"/dev/v/r / btrfs\n", "", "install package btrfs-progs"},
		{"/dev/v/r / ext4\n", "mke2fs", "install package e2fsprogs"},
		{"/dev/v/r / ext4\n", "lvm", "volume group v: the nodes' image (rescue.sqfs) has no lvm: install package lvm2"},
	} {
		have := []string{"blkid"}
		for _, p := range all {
			if p != c.lacks {
				have = append(have, p)
			}
		}
		yaml := yamlFile(t, "disks:\n  sda: {partitions: [lvm fill]}\nlvm:\n  v: {of: sda1, volumes: {r: {size: fill, mount: /}}}\n")
		_, err := Describe(t.Context(), Options{Root: folder(t, c.fstab), Layout: yaml, Programs: have})
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s without %s: %v, want %q", c.fstab, c.lacks, err, c.err)
		}
	}
}

func TestHints(t *testing.T) {
	root, no := folder(t, "-"), false
	m, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual)})
	if err != nil {
		t.Fatal(err)
	}
	take := func(texts ...string) error {
		hints, err := ParseHints(texts)
		if err != nil {
			return err
		}
		return TakeHints(m.Plan.Disks, hints)
	}
	if err := take("/dev/sda: size>=100G, model=Samsung SSD*,rotational=no,wwn=naa.5000*"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(layout.Match{MinBytes: 100 << 30, Model: "Samsung SSD*", Rotational: &no, WWN: "naa.5000*"}, m.Plan.Disks[0].Match); diff != "" {
		t.Error(diff)
	}
	for hint, want := range map[string]string{
		"sda": "want a disk and its hints", "sda:": "want a disk and its hints", "sdb:size>=1G": "disk sdb is not in the plan, which has sda",
		"sda:size": `"size"`, "sda:colour=red": `unknown key "colour"`, "sda:size>=lots": `lots`, "sda:model=a,model=b": "each once", "sda:=x": `"=x"`, "sda:bus=floppy": `"floppy"`,
	} {
		if err := take(hint); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "--match") {
			t.Errorf("%s: %v, want %s", hint, err, want)
		}
	}
	if err := take("sda:bus=ata", "sda:bus=scsi"); err == nil {
		t.Error("two hints for one disk")
	}
}

// TestCheckDisk: by what sysfs says, of which only folders count.
func TestCheckDisk(t *testing.T) {
	m := machine{sys: t.TempDir()}
	for _, dir := range []string{"sda/queue", "sda1/partition", "dm-0/dm", "md0/md", "cciss!c0d0"} {
		if err := os.MkdirAll(filepath.Join(m.sys, "class/block", dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{
		"sda": "", "cciss/c0d0": "", "sda1": "is a partition", "dm-0": "is no disk", "md0": "is no disk", "vg0/data": "no such disk", "mapper/x": "no such disk", "sbd": "no such disk",
	} {
		if err := m.checkDisk(name); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}

func TestSecrets(t *testing.T) {
	yaml := yamlFile(t, "disks:\n  sda: {partitions: [luks 5G, luks fill]}\nluks:\n  a: {of: sda1, fs: ext4, mount: /}\n  b: {of: sda2, fs: ext4, mount: /home}\n")
	one, two := descs(t, "first word\nsecond\n")["sda"], descs(t, "no newline")["sda"]
	dos := descs(t, strings.Repeat("x", 512)+"\r\nsecond\r\n")["sda"]
	root := folder(t, "-")
	m, err := Describe(t.Context(), Options{Root: root, Layout: yaml, Passphrases: []string{one, "b=" + two}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]wire.Secret{{Crypt: "a", Passphrase: []byte("first word")}, {Crypt: "b", Passphrase: []byte("no newline")}}, m.Plan.Secrets); diff != "" {
		t.Error(diff)
	}
	if m, err = Describe(t.Context(), Options{Root: root, Layout: yaml, Passphrases: []string{dos}}); err != nil || string(m.Plan.Secrets[0].Passphrase) != strings.Repeat("x", 512) {
		t.Errorf("of a file with CRLF: %v, %v", m, err)
	}
	for name, c := range map[string]struct {
		give []string
		want string
	}{
		"none":           {nil, "container a on sda1: the clones' has a key of its own, and needs a passphrase: give --luks-passphrase FILE, or a=FILE"},
		"one of two":     {[]string{"a=" + one}, "container b on sda2"},
		"unknown":        {[]string{"c=" + one, two}, "no encrypted container c"},
		"two for all":    {[]string{one, two}, "another file is for all"},
		"twice":          {[]string{"a=" + one, "a=" + two}, "once each"},
		"no file":        {[]string{"/nowhere/x"}, "passphrase: open /nowhere/x"},
		"empty":          {[]string{descs(t, "\nx")["sda"]}, "first line is empty"},
		"a folder":       {[]string{"/"}, "is a directory"},
		"CRLF alone":     {[]string{descs(t, "\r\nx")["sda"]}, "first line is empty"},
		"far too long":   {[]string{descs(t, strings.Repeat("x", 600))["sda"]}, "more than 512 bytes"},
		"a zero of many": {[]string{"/dev/zero"}, "more than 512 bytes"},
	} {
		if _, err := Describe(t.Context(), Options{Root: root, Layout: yaml, Passphrases: c.give}); err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "first word") {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual), Passphrases: []string{one}}); err == nil || !strings.Contains(err.Error(), "the clones have no encrypted container") {
		t.Errorf("a passphrase for nothing: %v", err)
	}
}

func TestIdentity(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"etc/hostname", "a.example\n", "a.example"}, {"etc/HOSTNAME", "suse\n", "suse"},
		{"etc/sysconfig/network", "NETWORKING=yes\nHOSTNAME=\"rhel5.example\"\n", "rhel5.example"}, {"etc/sysconfig/network", "NETWORKING=yes\n", ""},
	} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "etc/sysconfig"), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(root, c.file), c.text)
		if got := identity(root, "/sys"); got.Hostname != c.want || len(got.MACs) > 0 {
			t.Errorf("%s: %+v", c.file, got)
		}
	}
	sys := sysTree(t, "class/net/eth0/address 52:54:00:12:34:56", "class/net/eth0/device/x y", "class/net/lo/address 00:00:00:00:00:00", "class/net/br0/address 52:54:00:12:34:57",
		"class/net/wlan0/address 00:11:22:33:44:55", "class/net/wlan0/device/x y", "class/net/ib0/address 80:00:02:08:fe:80:00:00:00:00:00:00:f4:52:14:03:00:7b:cb:a1", "class/net/ib0/device/x y")
	if got := strings.Join(cards(sys), " "); got != "52:54:00:12:34:56 00:11:22:33:44:55" {
		t.Errorf("cards: %s", got)
	}
}

// TestAsBlocks: what is copied as blocks is no file system of the plan's.
func TestAsBlocks(t *testing.T) {
	desc := "linux 100\ntype7 200\nlinux 100\n"
	root := folder(t, "/dev/sda1 / ext4\n/dev/sda2 /windows ntfs\n/dev/sda3 /home ext4\n")
	m, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, desc), Blocks: []string{"sda2", "/dev/sda3"}})
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(m.Notes, "\n"); short(m) != "0:1 / ext4" || strings.Contains(notes, "stays empty") {
		t.Errorf("got %s\n%s", short(m), notes)
	}
	m, err = Describe(t.Context(), Options{Root: folder(t, "/dev/sda1 / ext4\n"), Descs: descs(t, desc)})
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "partition 2 of sda: stays empty: it is for neither Linux files nor swap: give -D sda2") {
		t.Errorf("notes:\n%s", notes)
	}
}
