package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// Recordings of LVM 2.03.16 with the fields that readGroup asks for.
const (
	recordedLVs = `{"report": [{"lv": [
{"vg_name":"vg-a", "vg_uuid":"xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD", "vg_extent_size":"4194304", "vg_free":"0", "lv_name":"home", "lv_uuid":"aYb4Uq-E7z3-LAww-G4uz-A4bs-b0mN-kFdUeG", "lv_size":"67108864", "segtype":"linear", "stripes":"1", "lv_attr":"-wi-ao----"},
{"vg_name":"vg-a", "vg_uuid":"xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD", "vg_extent_size":"4194304", "vg_free":"0", "lv_name":"home", "lv_uuid":"aYb4Uq-E7z3-LAww-G4uz-A4bs-b0mN-kFdUeG", "lv_size":"67108864", "segtype":"linear", "stripes":"1", "lv_attr":"-wi-ao----"},
{"vg_name":"vg-a", "vg_uuid":"xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD", "vg_extent_size":"4194304", "vg_free":"0", "lv_name":"my-data", "lv_uuid":"As7nq2-cWXr-XDro-DmPx-co3u-ZRCh-AdhDEZ", "lv_size":"41943040", "segtype":"striped", "stripes":"2", "lv_attr":"-wi-a-----"},
{"vg_name":"vg-a", "vg_uuid":"xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD", "vg_extent_size":"4194304", "vg_free":"0", "lv_name":"mirror", "lv_uuid":"D0cXuY-4cpw-Ngt7-00NJ-YeXv-ckxo-n12I1l", "lv_size":"41943040", "segtype":"raid1", "stripes":"2", "lv_attr":"rwi-a-r---"},
{"vg_name":"vg-a", "vg_uuid":"xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD", "vg_extent_size":"4194304", "vg_free":"0", "lv_name":"snap", "lv_uuid":"2KrtEz-xVXS-0Wxq-qsCg-5ym8-jd06-o37LXO", "lv_size":"25165824", "segtype":"linear", "stripes":"1", "lv_attr":"swi-a-s---"}
]}]}`
	recordedPVs = `{"report": [{"pv": [
{"vg_name":"vg-a", "pv_name":"/dev/sda2"}, {"vg_name":"vg-a", "pv_name":"/dev/md127"}, {"vg_name":"", "pv_name":"/dev/sdz"}
]}]}`
	recordedArray = `MD_LEVEL=raid1
MD_DEVICES=2
MD_METADATA=1.2
MD_UUID=d2c4a1b8:6f0e9a11:27c53e5b:04a1b2c3
MD_DEVNAME=home
MD_NAME=golden:home
MD_DEVICE_dev_sdb1_ROLE=0
MD_DEVICE_dev_sdb1_DEV=/dev/sdb1
`
)

// sysTree makes what sysfs has of a machine: each line is a file and its text,
// or, with a > between, a link.
func sysTree(t *testing.T, lines ...string) string {
	t.Helper()
	sys := t.TempDir()
	for _, l := range lines {
		path, text, _ := strings.Cut(l, " ")
		path = filepath.Join(sys, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if to, ok := strings.CutPrefix(text, "> "); ok {
			if err := os.Symlink(to, path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		write(t, path, text+"\n")
	}
	return sys
}

// goldenWithStack is a volume group on a partition and an array, and an
// encrypted volume; the array's members stand in the wrong order in sysfs.
func goldenWithStack(t *testing.T, more ...string) (*describer, *bool) {
	t.Helper()
	sys := sysTree(t, append([]string{
		"devices/sda/sda2/partition 2", "class/block/sda2 > ../../devices/sda/sda2", "class/block/sda > ../../devices/sda", "devices/sda/size 1",
		"devices/sdb/sdb1/partition 1", "class/block/sdb1 > ../../devices/sdb/sdb1", "class/block/sdb > ../../devices/sdb", "devices/sdb/size 1",
		"devices/cciss!c0d0/size 1", "class/block/cciss!c0d0 > ../../devices/cciss!c0d0",
		"class/block/dm-0/dm/name vg--a-home", "class/block/dm-0/dm/uuid LVM-xg4kToretJuXdO", "class/block/dm-0/slaves/sda2 x",
		"class/block/dm-1/dm/name vg--a-my--data", "class/block/dm-1/dm/uuid LVM-xg4kToretJ",
		"class/block/dm-2/dm/name secret", "class/block/dm-2/dm/uuid CRYPT-LUKS2-53aa3da2cd53445b96b6cc46948655a4-secret", "class/block/dm-2/slaves/dm-1 x",
		"class/block/dm-3/dm/name cryptswap", "class/block/dm-3/dm/uuid CRYPT-PLAIN-cryptswap", "class/block/dm-3/slaves/sda2 x",
		"class/block/dm-4/dm/name mpatha", "class/block/dm-4/dm/uuid mpath-36001",
		"class/block/md127/md/level raid1", "class/block/md127/md/metadata_version 1.2", "class/block/md127/md/raid_disks 2", "class/block/md127/md/chunk_size 0",
		"class/block/md127/slaves/cciss!c0d0 x", "class/block/md127/slaves/sdb1 x",
		"class/block/md127/md/dev-sdb1/slot 0", "class/block/md127/md/dev-cciss!c0d0/slot 1",
	}, more...)...)
	old := false
	d := &describer{stack: newStacked(), m: machine{sys: sys, run: func(_ context.Context, name string, args ...string) (string, error) {
		switch {
		case old && args[0] == "--reportformat":
			return "", errors.New("unrecognized option")
		case name == "lvs" && args[0] == "--noheadings": // LVM 2.02.87, with a separator
			return "  vg-a|xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD|4194304|8388608|home|aYb4Uq-E7z3-LAww-G4uz-A4bs-b0mN-kFdUeG|67108864|linear|1|-wi-ao\n", nil
		case name == "pvs" && args[0] == "--noheadings":
			return "  vg-a|/dev/sda2\n  vg-a|/dev/md127\n", nil
		case name == "lvs":
			return recordedLVs, nil
		case name == "pvs":
			return recordedPVs, nil
		case name == "mdadm":
			return recordedArray, nil
		case name == "cryptsetup" && args[1] == "/dev/dm-1":
			return "LUKS header information\nVersion:       \t2\nEpoch:         \t3\nUUID:          \t53aa3da2-cd53-445b-96b6-cc46948655a4\nLabel:         \t(no label)\n", nil
		}
		return "", fmt.Errorf("%s %q is not recorded", name, args)
	}}}
	return d, &old
}

func TestStack(t *testing.T) {
	d, _ := goldenWithStack(t)
	for name, want := range map[string]string{"dm-0": "vg-a/home", "dm-2": "mapper/secret", "sda2": "sda2"} {
		if got, err := d.device(t.Context(), name); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %s", name, got, err, want)
		}
	}
	want := layout.Stack{
		Arrays: []layout.Array{{Name: "md/home", Level: 1, Members: []string{"sdb1", "cciss/c0d0"}, Metadata: "1.2", OldUUID: "d2c4a1b8:6f0e9a11:27c53e5b:04a1b2c3"}},
		Crypts: []layout.Crypt{{Name: "secret", Device: "vg-a/my-data", Version: 2, OldUUID: "53aa3da2-cd53-445b-96b6-cc46948655a4"}},
		Groups: []layout.Group{{Name: "vg-a", Devices: []string{"sda2", "md/home"}, Extent: 4 << 20, OldUUID: "xg4kTo-retJ-uXdO-q0qE-97By-jvUA-IkcwyD", Volumes: []layout.Volume{
			{Name: "home", Size: 64 << 20, Fill: true, OldUUID: "aYb4Uq-E7z3-LAww-G4uz-A4bs-b0mN-kFdUeG"},
			{Name: "my-data", Size: 40 << 20, Stripes: 2, OldUUID: "As7nq2-cWXr-XDro-DmPx-co3u-ZRCh-AdhDEZ"},
			{Name: "mirror", Size: 40 << 20, OldUUID: "D0cXuY-4cpw-Ngt7-00NJ-YeXv-ckxo-n12I1l"},
		}}},
	}
	if diff := cmp.Diff(want, d.stack.Stack); diff != "" {
		t.Error(diff)
	}
	if !d.stack.disks["sda"] || !d.stack.disks["sdb"] || !d.stack.whole["cciss/c0d0"] || len(d.stack.disks) != 3 {
		t.Errorf("disks %v, whole %v", d.stack.disks, d.stack.whole)
	}
	if notes := strings.Join(d.notes, "\n"); !strings.Contains(notes, "vg-a/snap: a snapshot, left out") || !strings.Contains(notes, "vg-a/mirror: raid1 here, linear on the clones") {
		t.Errorf("notes: %s", notes)
	}
	prune(d, "vg-a/home")
	if len(d.stack.Arrays) != 1 || len(d.stack.Groups) != 1 || len(d.stack.Crypts) != 0 {
		t.Errorf("what /home doesn't need stays: %+v", d.stack.Stack)
	}
	prune(d, "")
	if len(d.stack.Arrays) > 0 || len(d.stack.Groups) > 0 {
		t.Errorf("what nothing needs stays: %+v", d.stack.Stack)
	}
	d.skip = []string{"sda"}
	if got := d.skipped("dm-0"); got != "sda" {
		t.Errorf("the disk under dm-0 that is left out: %q", got)
	}

	d, old := goldenWithStack(t)
	*old = true
	if got, err := d.device(t.Context(), "dm-0"); got != "vg-a/home" || err != nil || len(d.stack.Groups) != 1 || d.stack.Groups[0].Volumes[0].Fill {
		t.Errorf("an old LVM: %q, %v, %+v", got, err, d.stack.Groups)
	}
}

func prune(d *describer, on string) {
	d.pruneStack([]want{{Filesystem: wire.Filesystem{On: on}}})
}

func TestStackRefused(t *testing.T) {
	for _, c := range []struct {
		name, want string
		more       []string
	}{
		{"dm-3", "without a LUKS header", nil},
		{"dm-4", "neither LVM nor LUKS (mpath-36001)", nil},
		{"dm-9", "no block device", nil},
		{"dm-5", "is made of itself", []string{"class/block/dm-5/dm/name a", "class/block/dm-5/dm/uuid CRYPT-LUKS1-x-a", "class/block/dm-5/slaves/dm-5 x"}},
		{"dm-5", "made of 0 devices", []string{"class/block/dm-5/dm/name a", "class/block/dm-5/dm/uuid CRYPT-LUKS1-x-a"}},
		{"md5", "member 1 of 3 is missing", []string{"class/block/md5/md/level raid5", "class/block/md5/md/raid_disks 3", "class/block/md5/slaves/sda2 x", "class/block/md5/md/dev-sda2/slot 0", "class/block/md5/slaves/sdb1 x", "class/block/md5/md/dev-sdb1/slot 2"}},
		{"md5", "the firmware's RAID", []string{"class/block/md5/md/level raid1", "class/block/md5/md/metadata_version external:imsm"}},
		{"md5", `level "linear"`, []string{"class/block/md5/md/level linear"}},
		{"md6p1", "a partition of an array", []string{"devices/md6/md/level raid1", "devices/md6/md6p1/partition 1", "class/block/md6p1 > ../../devices/md6/md6p1", "class/block/md6 > ../../devices/md6"}},
		{"dm-6", `no logical volume's name`, []string{"class/block/dm-6/dm/name x", "class/block/dm-6/dm/uuid LVM-x"}},
		{"dm-6", `names no physical volume of it`, []string{"class/block/dm-6/dm/name other-x", "class/block/dm-6/dm/uuid LVM-x"}},
	} {
		d, _ := goldenWithStack(t, c.more...)
		if ref, err := d.device(t.Context(), c.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q, %v, want %s", c.name, ref, err, c.want)
		}
	}
}

func TestSplitMapper(t *testing.T) {
	for name, want := range map[string]string{
		"vg0-root": "vg0 root", "vg--a-my--data": "vg-a my-data", "a---b": "a- b", "debian--vg-root": "debian-vg root", "crypt": " ", "": " ", "-": " ", "a-b-c": " ",
	} {
		if vg, lv := splitMapper(name); vg+" "+lv != want {
			t.Errorf("%s: %s, %s", name, vg, lv)
		}
	}
}

func FuzzStack(f *testing.F) {
	f.Add(recordedLVs, recordedPVs, recordedArray)
	f.Add("a|b|c", "vg|/dev/x", "Version: 2\nUUID: 53aa3da2-cd53-445b-96b6-cc46948655a4")
	f.Fuzz(func(t *testing.T, lvs, pvs, other string) {
		a, err := parseReport(lvs)
		b, err2 := parseReport(pvs)
		if err == nil && err2 == nil {
			if g, _, err := makeGroup("vg-a", a, b); err == nil && len(g.Devices) == 0 {
				t.Fatal("a group of nothing")
			}
		}
		_, _ = parseColumns(lvs, []string{"vg_name", "lv_name"})
		if v, uuid, err := parseLUKS(other); err == nil && (v < 1 || v > 2 || len(uuid) != 36) {
			t.Fatalf("%d %q", v, uuid)
		}
		if uuid, _ := parseArray(other, "md127"); uuid != "" && len(uuid) != 35 {
			t.Fatalf("%q", uuid)
		}
		splitMapper(lvs)
	})
}

// TestStackOnDescs: a desc with a place for what golden's stack is made of
// keeps it; one with linux partitions only makes file systems of it.
func TestStackOnDescs(t *testing.T) {
	for _, c := range []struct{ desc, want string }{
		{"linux 100\ntype8e fill\n", "vg-a"},
		{"linux 100\ntype83 fill\n", ""},
		{"linux fill\n", ""},
		{"swap 100\nswap 50\n", ""},
	} {
		d, _ := goldenWithStack(t)
		d.laid.disks = map[string]bool{}
		if _, err := d.device(t.Context(), "dm-0"); err != nil {
			t.Fatal(err)
		}
		l, err := layout.ParseDesc(strings.NewReader(c.desc), "desc")
		if err != nil {
			t.Fatal(err)
		}
		d.addDisk("sda", l)
		var groups []string
		got := d.takeLayout([]want{{Filesystem: wire.Filesystem{On: "vg-a/home"}}})
		for _, g := range d.stack.Groups {
			groups = append(groups, g.Name)
		}
		if strings.Join(groups, " ") != c.want || (got[0].On == "") != (c.want == "") {
			t.Errorf("%q: groups %q, /home on %q", c.desc, groups, got[0].On)
		}
	}
}
