package disk

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

func vmSimple(t *testing.T) wire.Plan {
	return wire.Plan{
		Disks:       []wire.DiskPlan{{Name: "hda", Layout: desc(t, "linux 400\nswap fill")}},
		Filesystems: []wire.Filesystem{{Part: 1, Type: "ext4", MountPoint: "/", BlockSize: 1024}, {Part: 2, Type: "swap"}},
	}
}

// TestVM5BadDisks: a disk that fails where the table lies, one that fails in
// mkfs, and one that is gone while it is written: each ends soon, and says in
// what.
func TestVM5BadDisks(t *testing.T) {
	inVM(t)
	for number, want := range map[string]string{"BADTABLE": "wipe /dev/sd", "BADMKFS": "make /: ", "GONE": "GONE"} {
		name := serial(t, number)
		gone := func(step string) {
			t.Log(step)
			if number == "GONE" && strings.HasPrefix(step, "making ext4") {
				if err := os.WriteFile("/sys/block/"+name+"/device/delete", []byte("1"), 0); err != nil {
					t.Error(err)
				}
			}
		}
		if number == "GONE" {
			want = "/dev/" + name
		}
		start := time.Now()
		_, err := Prepare(t.Context(), vmSimple(t), t.TempDir(), Options{Devices: []string{name}, Progress: gone})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v: want %s", number, err, want)
		}
		t.Logf("%s: after %s: %v", number, time.Since(start), err)
	}
}

// TestVM6BrokenTables: nor does what the kernel itself has made of a broken
// table bother anybody.
func TestVM6BrokenTables(t *testing.T) {
	inVM(t)
	name := serial(t, "SCSI1")
	for what, spoil := range brokenTables() {
		f, err := os.OpenFile("/dev/"+name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(spoil(f), f.Sync()); err != nil {
			t.Fatal(err)
		}
		_, err = unix.IoctlRetInt(int(f.Fd()), unix.BLKRRPART)
		t.Logf("%s: the kernel says %v", what, err)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		_, root, _ := again(t, vmSimple(t), name)
		if err := Unmount(root); err != nil {
			t.Fatal(err)
		}
	}
}
