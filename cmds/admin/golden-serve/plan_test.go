package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// TestPrintPlan: a person sees all that will be made, and no passphrase.
func TestPrintPlan(t *testing.T) {
	no := false
	desc, err := layout.ParseDesc(strings.NewReader("efi 100\nlinux 200\ntype8e fill\n"), "desc")
	if err != nil {
		t.Fatal(err)
	}
	d := &golden.Described{Notes: []string{"a note"}, Plan: wire.Plan{
		Disks: []wire.DiskPlan{
			{Name: "sda", Layout: desc, Match: layout.Match{Model: "X*", MinBytes: 1e9, Rotational: &no}, BootCode: []byte{1}},
			{Name: "sdb", Layout: layout.Disk{Table: layout.None}},
		},
		Stack: layout.Stack{
			Arrays: []layout.Array{{Name: "md0", Level: 1, Members: []string{"sda3", "sdb"}}},
			Crypts: []layout.Crypt{{Name: "c", Device: "md0"}},
			Groups: []layout.Group{{Name: "vg", Devices: []string{"mapper/c"}, Volumes: []layout.Volume{{Name: "root", Size: 2e9, Fill: true, Min: 1}, {Name: "d", Percent: 20, Stripes: 2}, {Name: "e", Fill: true}}}},
		},
		Secrets: []wire.Secret{{Crypt: "c", Passphrase: []byte("geheim")}},
		Filesystems: []wire.Filesystem{
			{On: "vg/root", Type: "btrfs", MountPoint: "/", NeedBytes: 3e6, NeedInodes: 12, Subvolumes: []wire.Subvolume{
				{Path: "@", MountPoint: "/", Mounted: true, Default: true}, {Path: "@/x", MountPoint: "/x"}, {Path: "h"},
			}},
			{Disk: 0, Part: 1, Type: "vfat", MountPoint: "/boot/efi"}, {Disk: 1, Type: "xfs", MountPoint: "/srv"},
		},
		Blocks: []wire.Blocks{{On: "sda2", Type: "ntfs", Bytes: 2e9, How: "used"}},
		Loader: wire.Loader{Kind: "grub", With: []string{"ahci"}},
	}}
	const want = `The clones will have:
  disk sda, gpt, with a boot record; on a disk with model X*, at least 1.0 GB, not rotating
    sda1 efi 104.9 MB
    sda2 linux 209.7 MB
    sda3 lvm fill
  disk sdb, used as a whole
  array md0, RAID 1 of sda3, sdb
  container mapper/c, LUKS on md0, with a new key
  volume group vg on mapper/c
    root 2.0 GB and what is left, less on a smaller disk
    d 20%, striped over 2
    e fill
  btrfs /            on vg/root, needs 3.0 MB for 12 files
    subvolume @, mounted on /, the default
    subvolume @/x, seen in /x
    subvolume h, holds others
  vfat  /boot/efi    on sda partition 1
  xfs   /srv         on disk sdb
  ntfs  blocks       on sda2, 2.0 GB, used
  boot loader grub, modules for the initrd: ahci
  note: a note
`
	var b strings.Builder
	printPlan(&b, d)
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
