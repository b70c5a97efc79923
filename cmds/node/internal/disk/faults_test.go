package disk

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// onTmpfs makes a loop device of so many bytes whose file has only room for
// some: what is written beyond that is an EIO, as of a disk that dies.
func onTmpfs(t *testing.T, bytes, has int64) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting needs root")
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size="+strconv.FormatInt(has, 10)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	file := filepath.Join(dir, "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	dev := must(t, "losetup", "--find", "--show", file)
	t.Cleanup(func() {
		_ = exec.Command("partx", "--delete", dev).Run() // fails where there is none
		must(t, "losetup", "--detach", dev)
	})
	return strings.TrimPrefix(dev, "/dev/")
}

// TestDyingDisk: writes that fail, early or late, fail the node with what it
// was about, and nothing stays mounted.
func TestDyingDisk(t *testing.T) {
	for name, c := range map[string]struct {
		has  int64
		want []string // one of them
	}{
		"wiping": {256 << 10, []string{"wipe /dev/loop"}},
		"mkfs":   {9 << 20, []string{"make /", "mount /dev/loop"}},
	} {
		t.Run(name, func(t *testing.T) {
			dev := onTmpfs(t, gib, c.has)
			root := t.TempDir()
			start := time.Now()
			_, err := Prepare(t.Context(), manual(t, "linux 300"), root, Options{Devices: []string{dev}})
			if err == nil {
				t.Fatal("done on a disk that can't be written")
			}
			found := false
			for _, w := range c.want {
				found = found || strings.Contains(err.Error(), w)
			}
			if !found {
				t.Errorf("after %s: %v: want one of %q", time.Since(start), err, c.want)
			}
			if out, err := exec.Command("findmnt", "-n", "-o", "TARGET", "-S", "/dev/"+dev+"p1").Output(); err == nil {
				t.Errorf("still mounted: %s", out)
			}
		})
	}
}

// brokenTables are disks' first sectors that no program has made.
func brokenTables() map[string]func(f *os.File) error {
	entry := func(b []byte, i int, kind byte, start, count uint32) {
		e := b[446+16*i:]
		e[4] = kind
		binary.LittleEndian.PutUint32(e[8:], start)
		binary.LittleEndian.PutUint32(e[12:], count)
	}
	sector := func() []byte {
		b := make([]byte, 512)
		b[510], b[511] = 0x55, 0xaa
		return b
	}
	put := func(f *os.File, at int64, b []byte) error {
		_, err := f.WriteAt(b, at*512)
		return err
	}
	return map[string]func(f *os.File) error{
		"overlapping": func(f *os.File) error {
			b := sector()
			entry(b, 0, 0x83, 2048, 900000)
			entry(b, 1, 0x83, 4096, 4000000000)
			entry(b, 2, 0x82, 0, 100)
			entry(b, 3, 0xee, 1, 0xffffffff)
			return put(f, 0, b)
		},
		"a chain that ends in itself": func(f *os.File) error {
			b, link := sector(), sector()
			entry(b, 0, 0x05, 2048, 200000)
			entry(link, 0, 0x83, 1, 100)
			entry(link, 1, 0x05, 0, 200000) // relative to the extended one: here again
			if err := put(f, 2048, link); err != nil {
				return err
			}
			return put(f, 0, b)
		},
		"an extended one in the table's own sector": func(f *os.File) error {
			b := sector()
			entry(b, 0, 0x0f, 0, 200000)
			return put(f, 0, b)
		},
		"a GPT that names itself": func(f *os.File) error {
			b, h := sector(), make([]byte, 512)
			entry(b, 0, 0xee, 1, 0xffffffff)
			copy(h, "EFI PART")
			binary.LittleEndian.PutUint32(h[8:], 0x10000)
			binary.LittleEndian.PutUint32(h[12:], 92)
			binary.LittleEndian.PutUint64(h[24:], 1)
			binary.LittleEndian.PutUint64(h[32:], 1)
			binary.LittleEndian.PutUint64(h[72:], 1)
			binary.LittleEndian.PutUint32(h[80:], 0xffffffff)
			binary.LittleEndian.PutUint32(h[84:], 0xffffffff)
			if err := put(f, 1, h); err != nil {
				return err
			}
			return put(f, 0, b)
		},
	}
}

// TestBrokenTables: what is on a node's disk is nobody's business; not even
// when it is looked at to be brought up to date.
func TestBrokenTables(t *testing.T) {
	for name, spoil := range brokenTables() {
		t.Run(name, func(t *testing.T) {
			dev, _ := loop(t, gib, "512")
			f, err := os.OpenFile("/dev/"+dev, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			if err := spoil(f); err != nil {
				t.Fatal(err)
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
			res, root, said := again(t, manual(t, "linux 300"), dev)
			if res.Kept || !strings.Contains(said, "all is made anew") {
				t.Errorf("kept: %s", said)
			}
			if err := Unmount(root); err != nil {
				t.Fatal(err)
			}
			if out := must(t, "sfdisk", "--verify", "/dev/"+dev); !strings.Contains(out, "No errors") {
				t.Error(out)
			}
		})
	}
}

// TestProgramMissing: a mkfs that isn't there is found before a byte is
// written.
func TestProgramMissing(t *testing.T) {
	name, file := loop(t, 600<<20, "512")
	before := hash(t, file)
	dir := t.TempDir()
	for _, p := range []string{"sfdisk", "blkid", "mkfs.ext4", "mkfs.ext3", "mkswap", "mkfs.jfs"} {
		path, err := exec.LookPath(p)
		if err != nil {
			t.Skipf("%s is not installed", p)
		}
		if err := os.Symlink(path, filepath.Join(dir, p)); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	for fstype, want := range map[string]string{"xfs": `"mkfs.xfs"`, "reiserfs": `"mkfs.reiserfs"`, "jfs": `"jfs_tune"`} {
		plan := manual(t, "linux 400")
		plan.Filesystems[2] = wire.Filesystem{Part: 1, Type: fstype, MountPoint: "/"}
		_, err := Prepare(t.Context(), plan, t.TempDir(), Options{Devices: []string{name}})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "stage 2's image lacks") {
			t.Errorf("%s: %v", fstype, err)
		}
	}
	if hash(t, file) != before {
		t.Error("refused, but the disk has changed")
	}
}
