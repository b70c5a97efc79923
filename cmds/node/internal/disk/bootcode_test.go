package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// TestUpdateStopsBooting: while an earlier clone is brought up to date, its
// boot record starts nothing, if the end of the work writes another.
func TestUpdateStopsBooting(t *testing.T) {
	name, _ := loop(t, gib, "512")
	plan := manual(t, "linux 300")
	_, root := prepare(t, plan, name)
	mark(t, root, "/")
	code := bytes.Repeat([]byte("code"), 110)
	if err := EditBootRecord("/dev/"+name, func(b []byte) error { copy(b, code); return nil }); err != nil {
		t.Fatal(err)
	}
	table := must(t, "sfdisk", "--dump", "/dev/"+name)
	for _, c := range []struct {
		kind  string
		boots bool
	}{{"none", true}, {"", true}, {"grub", false}} {
		plan.Loader.Kind = c.kind
		res, root, said := again(t, plan, name)
		if !res.Kept {
			t.Fatalf("not kept: %s", said)
		}
		if got := bytes.Equal(bootRecord(t, "/dev/"+name)[:440], code); got != c.boots {
			t.Errorf("loader %q: the code is there: %v, want %v", c.kind, got, c.boots)
		}
		if err := Unmount(root); err != nil {
			t.Fatal(err)
		}
	}
	if got := must(t, "sfdisk", "--dump", "/dev/"+name); got != table {
		t.Errorf("the table is\n%s\nand was\n%s", got, table)
	}
}

// TestSecondDiskTaken: a disk that can't be had is found before the first is
// written.
func TestSecondDiskTaken(t *testing.T) {
	one, file := loop(t, gib, "512")
	two, _ := loop(t, gib, "512")
	before := hash(t, file)
	plan := wire.Plan{
		Disks: []wire.DiskPlan{
			{Name: one, Layout: desc(t, "linux fill")}, {Name: two, Layout: layout.Disk{Table: layout.None}},
		},
		Filesystems: []wire.Filesystem{{Part: 1, Type: "ext4", MountPoint: "/"}, {Disk: 1, Type: "ext4", MountPoint: "/srv"}},
	}
	f, err := os.OpenFile("/dev/"+two, os.O_RDONLY|unix.O_EXCL, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = Prepare(t.Context(), plan, filepath.Join(t.TempDir(), "mnt"), Options{Devices: []string{one, two}})
	if err == nil || !strings.Contains(err.Error(), "nothing was written") || !strings.Contains(err.Error(), two) {
		t.Errorf("got %v", err)
	}
	if hash(t, file) != before {
		t.Error("the first disk was written to")
	}
}
