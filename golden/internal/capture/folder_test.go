package capture

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

const manual = "linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n"

// folder makes what looks like a root, with an fstab; "-" is none.
func folder(t *testing.T, fstab string) string {
	t.Helper()
	root := t.TempDir()
	for _, d := range []string{"etc", "usr/bin", "var", "boot"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, filepath.Join(root, "boot/vmlinuz-6.1.0"), "kernel")
	write(t, filepath.Join(root, "etc/hostname"), "golden\n")
	write(t, filepath.Join(root, "etc/machine-id"), "0123456789abcdef0123456789abcdef\n")
	if fstab != "-" {
		write(t, filepath.Join(root, "etc/fstab"), fstab)
	}
	return root
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func descs(t *testing.T, text ...string) map[string]string {
	m := map[string]string{}
	for i, s := range text {
		path := filepath.Join(t.TempDir(), "desc")
		write(t, path, s)
		m[fmt.Sprintf("sd%c", 'a'+i)] = path
	}
	return m
}

// short prints a machine's file systems: "0:1 / ext4".
func short(m *Machine) string {
	var list []string
	for _, fs := range m.Plan.Filesystems {
		list = append(list, fmt.Sprintf("%d:%d %s %s", fs.Disk, fs.Part, fs.MountPoint, fs.Type))
	}
	return strings.Join(list, ", ")
}

func TestFolder(t *testing.T) {
	both := "linux 100\nlinux 100\nswap 50\n"
	for name, c := range map[string]struct {
		fstab, want string
		descs       []string
		err         []string
	}{
		"manual by name":     {fstab: "/dev/sda1 / ext4\n/dev/sda5 none swap\n/dev/sda6 /var ext3\nproc /proc proc", want: "0:1 / ext4, 0:6 /var ext3, 0:5  swap"},
		"another disk name":  {fstab: "/dev/nvme0n1p6 / ext4\n/dev/nvme0n1p1 /boot ext2\n", want: "0:6 / ext4, 0:1 /boot ext2, 0:5  swap"},
		"in order":           {fstab: "UUID=aa-1 /var ext4\nUUID=bb-2 / ext4\nUUID=cc-3 none swap", want: "0:1 / ext4, 0:6 /var ext4, 0:5  swap"},
		"no fstab":           {fstab: "-", want: "0:1 / ext4, 0:5  swap"},
		"empty fstab":        {fstab: "# UNCONFIGURED FSTAB FOR BASE SYSTEM\n", want: "0:1 / ext4, 0:5  swap"},
		"no root":            {fstab: "/dev/sda6 /var ext4\n", want: "0:1 / ext4, 0:6 /var ext4, 0:5  swap"},
		"all kinds left out": {fstab: "tmpfs /tmp tmpfs\nsrv:/x /x nfs4\n/dev/sr0 /media auto noauto\n/swapfile none swap\n/a /b none bind\n//s/x /y cifs\n/dev/sdq1 /mnt ntfs noauto\n", want: "0:1 / ext4, 0:5  swap"},
		"number not there":   {fstab: "/dev/sda1 / ext4\n/dev/sda9 /var ext4\n", want: "0:1 / ext4, 0:6 /var ext4, 0:5  swap"},
		"two disks":          {fstab: "/dev/sdb1 /srv ext4\n/dev/sda2 / ext4\n/dev/sdb3 none swap", descs: []string{both, both}, want: "0:2 / ext4, 1:1 /srv ext4, 0:3  swap, 1:3  swap"},
		"too many":           {fstab: "UUID=a / ext4\nUUID=b /var ext4\nUUID=c /home ext4\n", err: []string{"etc/fstab:3: /home (ext4)", "no linux partition is left", "sda"}},
		"too much swap":      {fstab: "UUID=a / ext4\n/dev/vdx9 none swap\nUUID=b none swap", err: []string{"etc/fstab:3: swap", "no swap partition"}},
		"ntfs":               {fstab: "UUID=a / ext4\n/dev/sda3 /data ntfs\n", err: []string{"etc/fstab:2", "/data is ntfs", "-x /data", "-D /dev/sda3"}},
		"others":             {fstab: "/dev/sda1 / xfs\n/dev/sda6 /var reiserfs\n", want: "0:1 / xfs, 0:6 /var reiserfs, 0:5  swap"},
		"jfs, f2fs":          {fstab: "/dev/sda1 / jfs\n/dev/sda6 /var f2fs\n", want: "0:1 / jfs, 0:6 /var f2fs, 0:5  swap"},
		"vfat":               {fstab: "UUID=a / ext4\nUUID=b /boot/efi vfat umask=0077\n", err: []string{"etc/fstab:2: /boot/efi (vfat)", "a line such as efi 512", "-x /boot/efi"}},
		"efi":                {fstab: "UUID=a / ext4\nUUID=AAAA-0001 /boot/efi vfat umask=0077\n", descs: []string{"efi 100\n" + both}, want: "0:2 / ext4, 0:1 /boot/efi vfat, 0:4  swap"},
		"efi by name":        {fstab: "/dev/vda3 / ext4\n/dev/vda1 /boot/efi vfat umask=0077,noauto\n", descs: []string{"efi 100\n" + both}, want: "0:3 / ext4, 0:1 /boot/efi vfat, 0:4  swap"},
		"efi not in fstab":   {fstab: "UUID=a / ext4\n", descs: []string{both + "efi 100\n"}, want: "0:1 / ext4, 0:4 /boot/efi vfat, 0:3  swap"},
		"efi in an MBR":      {fstab: "UUID=a / ext4\n", descs: []string{both + "typeef 100\n"}, want: "0:1 / ext4, 0:4 /boot/efi vfat, 0:3  swap"},
		"other vfat":         {fstab: "UUID=a / ext4\nUUID=b /data vfat defaults\n", descs: []string{"efi 100\n" + both}, err: []string{"/data is vfat", "-x /data"}},
		"lvm":                {fstab: "/dev/mapper/vg--a-root / ext4\n", err: []string{"etc/fstab:1", "/dev/mapper/vg--a-root", "vg-a/root", "-p LAYOUT.yaml"}},
		"twice":              {fstab: "/dev/sda1 / ext4\n/dev/sda1 /var ext4\n", err: []string{"etc/fstab:2", "partition 1 of sda is / (ext4) already"}},
		"two roots":          {fstab: "UUID=a / ext4\n\nUUID=b / ext4\n", err: []string{"etc/fstab:3: /: ", "etc/fstab:1 mounts something there already"}},
		"malformed":          {fstab: "/dev/sda1 / ext4\nUUID=x\n", err: []string{"etc/fstab:2", `"UUID=x"`}},
		"bad desc":           {fstab: "-", descs: []string{"linux 5\nlinucks 3"}, err: []string{"desc of sda", ":2:", `"linucks"`}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.descs == nil {
				c.descs = []string{manual}
			}
			m, err := Describe(t.Context(), Options{Root: folder(t, c.fstab), Descs: descs(t, c.descs...)})
			if c.err != nil {
				for _, w := range c.err {
					if err == nil || !strings.Contains(err.Error(), w) {
						t.Errorf("got %v, want %q in it", err, w)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := short(m); got != c.want {
				t.Errorf("got %s, want %s\n%s", got, c.want, strings.Join(m.Notes, "\n"))
			}
			if m.Plan.Golden.Hostname != "golden" || m.Plan.Golden.MachineID != "0123456789abcdef0123456789abcdef" || m.Mounts[0] != "/" || len(m.Mounts) != strings.Count(c.want, " /") {
				t.Errorf("got %+v, %v", m.Plan.Golden, m.Mounts)
			}
			if notes := strings.Join(m.Notes, "\n"); !regexp.MustCompile(`/ \([a-z0-9]+\): partition `).MatchString(notes) {
				t.Errorf("the notes don't say where / goes: %s", notes)
			}
		})
	}
}

func TestFolderTags(t *testing.T) {
	root := folder(t, "UUID=0000aaaa-1 / ext4\nLABEL=var\\040x /var ext4\n/dev/disk/by-partuuid/beef-05 none swap")
	m, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, manual), Excludes: []string{"/tmp/", "/tmp"}})
	if err != nil {
		t.Fatal(err)
	}
	fs := m.Plan.Filesystems
	if fs[0].OldUUID != "0000aaaa-1" || fs[1].Label != "var x" || fs[2].OldPartID != "beef-05" || fs[2].OldDevice != "/dev/disk/by-partuuid/beef-05" {
		t.Errorf("got %+v", fs)
	}
	if len(m.Plan.Excludes) != 1 || m.Plan.Excludes[0] != "/tmp" {
		t.Errorf("excludes %q", m.Plan.Excludes)
	}
}

func TestRefused(t *testing.T) {
	good := folder(t, "-")
	onlyEtc := t.TempDir()
	if err := os.Mkdir(filepath.Join(onlyEtc, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		opt  Options
		want string
	}{
		"no root":       {Options{Root: t.TempDir()}, "is no root file system: it has no etc"},
		"only etc":      {Options{Root: onlyEtc}, "it has no usr/bin"},
		"not there":     {Options{Root: good + "/nowhere"}, "no such file"},
		"no desc":       {Options{Root: good}, "give one with -p"},
		"desc missing":  {Options{Root: good, Descs: map[string]string{"sda": "/no/desc"}}, "desc of sda: open /no/desc"},
		"both":          {Options{Root: good, Descs: descs(t, manual), SkipDisks: []string{"sdb|sda"}}, "has a desc (-p) and is left out (-X)"},
		"rel exclude":   {Options{Root: good, Excludes: []string{"tmp"}}, `exclude "tmp"`},
		"all excluded":  {Options{Root: good, Excludes: []string{"/./"}}, "exclude /"},
		"excluded disk": {Options{Root: folder(t, "/dev/sda1 / ext4\n/dev/sdb1 /x ext4\n/dev/sdc1 /y ntfs"), Descs: descs(t, manual), SkipDisks: []string{"sdb"}}, "/y is ntfs"},
	} {
		_, err := Describe(t.Context(), c.opt)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// TestLeftOut: in a folder the files of what comes as blocks, or lies on a disk
// that is left out, look like those of the file system around.
func TestLeftOut(t *testing.T) {
	fstab := "/dev/sda1 / ext4\n/dev/sda6 /below/it ext4\n/dev/sdb1 /x ext4\n/dev/sda2 /win ntfs\n/dev/sdb2 none swap\n/dev/sdb3 /below ext4\n"
	m, err := Describe(t.Context(), Options{Root: folder(t, fstab), Descs: descs(t, manual), SkipDisks: []string{"/dev/sdb"}, Blocks: []string{"sda2"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(m.Plan.Excludes, " "); got != "/x /win /below" {
		t.Errorf("excludes %q", got)
	}
	if got := short(m); got != "0:1 / ext4, 0:5  swap" || !strings.Contains(strings.Join(m.Notes, "\n"), "etc/fstab:2: /below/it left out: it is mounted below /below") {
		t.Errorf("got %s\n%s", got, strings.Join(m.Notes, "\n"))
	}
	for _, o := range []Options{{SkipDisks: []string{"sdb"}}, {Blocks: []string{"sdb1"}}} {
		o.Root, o.Descs = folder(t, "/dev/sdb1 / ext4\n"), descs(t, manual)
		if _, err := Describe(t.Context(), o); err == nil || !strings.Contains(err.Error(), "/ can't be left out") {
			t.Errorf("got %v", err)
		}
	}
}

func TestFATLabel(t *testing.T) {
	for label, want := range map[string]string{"": "", "efi": "EFI", "EFI SYSTEM": "EFI SYSTEM", "EFI-SYSTEM-PARTITION": "", "größe": ""} {
		if got := fatLabel(label); got != want {
			t.Errorf("%q becomes %q, want %q", label, got, want)
		}
	}
}

// TestFirmware: for which machines a boot loader can be installed is known
// before one of them comes.
func TestFirmware(t *testing.T) {
	const bios, uefi = "usr/lib/grub/i386-pc", "usr/lib/grub/x86_64-efi"
	for _, c := range []struct {
		name, desc         string
		grub               []string
		lackBIOS, lackUEFI string // in the reason; empty: none
		parts              int
	}{
		{"bios as ever", manual, []string{bios}, "", "a line such as efi 512", 4},
		{"uefi packages, no partition", manual, []string{bios, uefi}, "", "a line such as efi 512", 4},
		{"both", "efi 100\nlinux fill\n", []string{bios, uefi}, "", "", 3}, // with a BIOS boot partition
		{"uefi only", "efi 100\nlinux fill\n", []string{uefi}, "package grub-pc-bin", "", 2},
		{"partition, no package", "efi 100\nlinux fill\n", []string{bios}, "", "package grub-efi-amd64-bin", 3},
	} {
		root := folder(t, "-")
		for _, dir := range c.grub {
			if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		m, err := Describe(t.Context(), Options{Root: root, Descs: descs(t, c.desc), Loader: wire.Loader{Kind: "grub"}})
		if err != nil {
			t.Fatal(err)
		}
		for firmware, want := range map[string]string{wire.BIOS: c.lackBIOS, wire.UEFI: c.lackUEFI} {
			got := m.Plan.Loader.Refuses(firmware)
			if (got == "") != (want == "") || !strings.Contains(got, want) {
				t.Errorf("%s: %s: %q, want %q", c.name, firmware, got, want)
			}
		}
		if got := len(m.Plan.Disks[0].Layout.Parts); got != c.parts {
			t.Errorf("%s: %d partitions, want %d", c.name, got, c.parts)
		}
	}
	none := Options{Root: folder(t, "-"), Descs: descs(t, "linux fill\n"), Loader: wire.Loader{Kind: "grub"}}
	_, err := Describe(t.Context(), none)
	for _, want := range []string{"no machine could boot as a clone", "package grub-pc-bin", "package grub-efi-amd64-bin", "-r none"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no GRUB at all: %v, want %q", err, want)
		}
	}
	none.Loader.Kind = "none"
	if _, err := Describe(t.Context(), none); err != nil {
		t.Errorf("no GRUB, and none is wanted: %v", err)
	}
}
