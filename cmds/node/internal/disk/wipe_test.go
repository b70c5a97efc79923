package disk

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// zfsLabels writes what blkid knows a ZFS by into all four labels: uberblocks
// (vdev_impl.h) in the last 128 KiB of 256, two at each end.
func zfsLabels(t *testing.T, dev string, bytes int64) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1024)
	binary.LittleEndian.PutUint64(block, 0x00bab10c)
	binary.LittleEndian.PutUint64(block[8:], 5000)
	end := bytes &^ (256<<10 - 1)
	for _, at := range []int64{0, 256 << 10, end - 512<<10, end - 256<<10} {
		for i := range int64(128) {
			if _, err := f.WriteAt(block, at+128<<10+i*1024); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// md writes an array's superblock of version 0.90 or 1.0, which lie at the
// end (md_p.h; blkid checks magic and version, and 1.x's own place).
func mdSuper(t *testing.T, dev, version string, size int64) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	binary.LittleEndian.PutUint32(block, 0xa92b4efc)
	at := size&^(64<<10-1) - 64<<10
	if version == "0.90" {
		binary.LittleEndian.PutUint32(block[8:], 90)
	} else {
		at = (size/512 - 16) &^ 7 * 512
		binary.LittleEndian.PutUint32(block[4:], 1)
		binary.LittleEndian.PutUint64(block[144:], uint64(at/512)) // super_offset
		var sum uint64
		for i := 0; i < 256; i += 4 {
			sum += uint64(binary.LittleEndian.Uint32(block[i:]))
		}
		binary.LittleEndian.PutUint32(block[216:], uint32(sum)+uint32(sum>>32))
	}
	if _, err := f.WriteAt(block, at); err != nil {
		t.Fatal(err)
	}
}

// TestWiped: whatever a disk and its partitions were known by, wipefs finds
// nothing of it afterwards.
func TestWiped(t *testing.T) {
	const size = gib
	program := func(args ...string) func(t *testing.T, dev string) {
		return func(t *testing.T, dev string) {
			programs(t, args[0])
			cmd := exec.Command(args[0], append(args[1:], dev)...)
			cmd.Stdin = strings.NewReader("secret")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Skipf("%v: %v: %s", args, err, out)
			}
		}
	}
	for name, spoil := range map[string]func(t *testing.T, dev string){
		"xfs": program("mkfs.xfs", "-q", "-f"), "btrfs": program("mkfs.btrfs", "-q", "-f"), "jfs": program("mkfs.jfs", "-q"),
		"reiserfs": program("mkfs.reiserfs", "-q", "-f", "-f"), "f2fs": program("mkfs.f2fs", "-q", "-f"), "ext4": program("mkfs.ext4", "-q", "-F"),
		"vfat": program("mkfs.vfat", "-I"), "swap": program("mkswap", "-f"), "ntfs": program("mkfs.ntfs", "-q", "-F", "-Q"),
		"LVM2_member":           program("lvm", "pvcreate", "-ff", "-y", "--config", "devices{scan=\"/dev\" use_devicesfile=0 filter=[\"a|^/dev/loop|\",\"r|.*|\"]} backup{backup=0 archive=0}"),
		"crypto_LUKS":           program("cryptsetup", "luksFormat", "-q", "--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file=-", "--luks2-metadata-size=4m"),
		"zfs_member":            func(t *testing.T, dev string) { zfsLabels(t, dev, size) },
		"linux_raid_member":     func(t *testing.T, dev string) { mdSuper(t, dev, "0.90", size) },
		"linux_raid_member 1.0": func(t *testing.T, dev string) { mdSuper(t, dev, "1.0", size) },
	} {
		t.Run(name, func(t *testing.T) {
			dev, _ := loop(t, size, "512")
			path := "/dev/" + dev
			spoil(t, path)
			kind, _, _ := strings.Cut(name, " ")
			if out := must(t, "wipefs", "--noheadings", "-O", "TYPE", path); !strings.Contains(out, kind) {
				t.Fatalf("nothing of %s to wipe: %q", name, out)
			}
			plan := wire.Plan{
				Disks: []wire.DiskPlan{{Name: "sda", Layout: layout.Disk{Table: layout.MBR, Parts: []layout.Part{
					{Number: 1, Kind: layout.Primary, Type: layout.TypeLinux, Size: 200 << 20}, {Number: 2, Kind: layout.Primary, Type: 0x8e, Fill: true},
				}}}},
				Filesystems: []wire.Filesystem{{Part: 1, Type: "ext2", MountPoint: "/"}},
			}
			_, root := prepare(t, plan, dev)
			if err := Unmount(root); err != nil {
				t.Fatal(err)
			}
			for part, want := range map[string]string{path: "dos", path + "p1": "ext2", path + "p2": ""} {
				if out := must(t, "wipefs", "--noheadings", "-O", "TYPE", part); out != want {
					t.Errorf("%s: wipefs finds %q, want %q", part, out, want)
				}
			}
		})
	}
}

// TestWipedInPartitions: what the new partitions' places held before doesn't
// come back in them, though the old ones began and ended elsewhere.
func TestWipedInPartitions(t *testing.T) {
	dev, _ := loop(t, gib, "512")
	f, err := os.OpenFile("/dev/"+dev, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// A container at the place of the second partition, known by its second
	// header alone at 4 MiB, and the mirror of a btrfs at 64 MiB.
	plan := gpt(t)
	plan.Disks[0].Layout.Parts[1].Size, plan.Disks[0].Layout.Parts[1].Fill = 200<<20, false
	at := int64(2 << 20)
	var backup [8]byte
	copy(backup[:], "SKUL\xba\xbe\x00\x02")
	for place, magic := range map[int64]string{4 << 20: string(backup[:]), 64<<20 + 64: "_BHRfS_M", mib + 512: "LABELONE"} {
		if _, err := f.WriteAt([]byte(magic), at+place); err != nil {
			t.Fatal(err)
		}
	}
	plan.Filesystems = plan.Filesystems[:1]
	plan.Filesystems[0].Part = 3 // the second stays as wiping left it
	plan.Disks[0].Layout.Parts[2].GUID = layout.GUIDLinux
	_, root := prepare(t, plan, dev)
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
	for _, place := range oddPlaces() {
		got := make([]byte, 8<<10)
		if place > 200<<20 {
			continue
		}
		if _, err := f.ReadAt(got, at+place); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, make([]byte, 8<<10)) {
			t.Errorf("at %d of the partition something is left", place)
		}
	}
	if out := must(t, "wipefs", "--noheadings", "-O", "TYPE", "/dev/"+dev+"p2"); out != "" {
		t.Errorf("wipefs finds %q", out)
	}
}
