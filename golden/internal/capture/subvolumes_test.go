package capture

import (
	"fmt"
	"strings"
	"testing"
)

// subs prints a machine's subvolumes: "@ / m", with m for mounted and d for
// the default.
func subs(m *Machine) string {
	var list []string
	for _, fs := range m.Plan.Filesystems {
		for _, s := range fs.Subvolumes {
			word := fmt.Sprintf("%s %s ", s.Path, s.MountPoint)
			if s.Mounted {
				word += "m"
			}
			if s.Default {
				word += "d"
			}
			list = append(list, word)
		}
	}
	return strings.Join(list, ", ")
}

// TestSubvolumesOfFstab: several entries on one btrfs are one file system.
func TestSubvolumesOfFstab(t *testing.T) {
	for name, c := range map[string]struct{ fstab, want, subs, mounts, err string }{
		"Ubuntu": {fstab: "UUID=a / btrfs defaults,subvol=@ 0 0\nUUID=a /home btrfs compress=zstd,subvol=@home 0 0\n",
			want: "0:1 / btrfs, 0:5  swap", subs: "@ / m, @home /home m", mounts: "/ /home"},
		"Fedora": {fstab: "UUID=a /home btrfs subvol=home\nUUID=a / btrfs subvol=/root,subvolid=257\n",
			want: "0:1 / btrfs, 0:5  swap", subs: "home /home m, root / m", mounts: "/ /home"},
		"openSUSE": {fstab: "UUID=a / btrfs defaults\nUUID=a /var btrfs subvol=/@/var\nUUID=a /boot/grub2/i386-pc btrfs subvol=/@/boot/grub2/i386-pc\n",
			want: "0:1 / btrfs, 0:5  swap", subs: "@ / md, @/boot/grub2/i386-pc /boot/grub2/i386-pc m, @/var /var m", mounts: "/ /boot/grub2/i386-pc /var"},
		"plain":     {fstab: "UUID=a / btrfs\n/dev/sda6 /srv btrfs compress\n", want: "0:1 / btrfs, 0:6 /srv btrfs, 0:5  swap", mounts: "/ /srv"},
		"top and /": {fstab: "UUID=a / btrfs subvol=@\nUUID=a /top btrfs subvolid=5\n", want: "0:1 / btrfs, 0:5  swap", subs: "@ / m", mounts: "/"},
		"top is /":  {fstab: "UUID=a / btrfs subvolid=5\nUUID=a /home btrfs subvol=home\n", want: "0:1 / btrfs, 0:5  swap", subs: "home /home m", mounts: "/ /home"},
		"two disks": {fstab: "/dev/sda1 / btrfs subvol=@\n/dev/sda6 /home btrfs subvol=@\n", want: "0:1 / btrfs, 0:6 /home btrfs, 0:5  swap", subs: "@ / m, @ /home m", mounts: "/ /home"},
		"by number": {fstab: "UUID=a / btrfs subvolid=256\n", err: "fstab:1: /: subvolid=256 means another"},
		"a 5 in it": {fstab: "UUID=a / btrfs subvolid=500\n", err: "fstab:1: /: subvolid=500 means another"},
		"05":        {fstab: "UUID=a / btrfs subvolid=05\n", want: "0:1 / btrfs, 0:5  swap", mounts: "/"},
		"twice":     {fstab: "UUID=a / btrfs subvol=@\nUUID=a /x btrfs subvol=/@/\n", err: `subvolume "@" is mounted on / and on /x`},
	} {
		m, err := Describe(t.Context(), Options{Root: folder(t, c.fstab), Descs: descs(t, manual)})
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got %v, want %s", name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.Join(m.Mounts, " "); short(m) != c.want || subs(m) != c.subs || got != c.mounts {
			t.Errorf("%s: got %s; %s; %s", name, short(m), subs(m), got)
		}
	}
}

func TestSome(t *testing.T) {
	word := func(n int) string { return fmt.Sprint(n) }
	if got := some([]int{1, 2}, word); got != "1, 2" {
		t.Errorf("got %s", got)
	}
	if got := some(make([]int, 34), word); got != strings.Repeat("0, ", 30)+"and 4 more" {
		t.Errorf("got %s", got)
	}
}

func TestSubvolumePaths(t *testing.T) {
	// btrfs-progs 6.2 and 4.4.
	out := "ID 256 gen 10 top level 5 path @\nID 257 gen 9 top level 256 path @/var/lib/machines\nID 258 gen 9 cgen 3 top level 5 path <FS_TREE>/a b\n"
	if got := strings.Join(subvolumePaths(out), "|"); got != "@|@/var/lib/machines|a b" {
		t.Errorf("got %s", got)
	}
	if got := subvolumePaths("ID 5 (FS_TREE)\n"); len(got) != 0 {
		t.Errorf("got %q", got)
	}
}
