package fixup

import (
	"slices"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// What came as blocks stays in the fstab, under the UUID that it has now.
func TestBlocksInFstab(t *testing.T) {
	const dataWas, dataNow = "aaaaaaaa-0000-4000-8000-00000000000d", "bbbbbbbb-0000-4000-8000-00000000000d"
	p, d := testPlan()
	p.Disks[0].Layout.Parts = append(p.Disks[0].Layout.Parts, layout.Part{Number: 2}, layout.Part{Number: 3}, layout.Part{Number: 6})
	p.Blocks = []wire.Blocks{{On: "sda3", Type: "ntfs", OldUUID: "71C4F2A95A3B0D1E"}, {On: "sda6", Type: "ext4", OldUUID: dataWas}, {On: "sda2"}}
	d.Blocks, d.BlockUUIDs = []string{"/dev/vda3", "/dev/vda6", "/dev/vda2"}, []string{"", dataNow, ""}
	s, err := newStack(p, d)
	if err != nil {
		t.Fatal(err)
	}
	vols, err := s.volumes(p, d)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"UUID=71C4F2A95A3B0D1E /win ntfs ro 0 0\n": "UUID=71C4F2A95A3B0D1E /win ntfs ro 0 0\n",
		"/dev/sda3 /win ntfs ro 0 0\n":             "UUID=71C4F2A95A3B0D1E /win ntfs ro 0 0\n",
		"UUID=" + dataWas + " /data ext4 ro 0 0\n": "UUID=" + dataNow + " /data ext4 ro 0 0\n",
		"/dev/sda6 /data ext4 ro 0 0\n":            "UUID=" + dataNow + " /data ext4 ro 0 0\n",
		"UUID=" + dataNow + " /data ext4 ro 0 0\n": "UUID=" + dataNow + " /data ext4 ro 0 0\n",
		"UUID=" + rootWas + " / ext4 ro 0 0\n":     "UUID=" + rootNow + " / ext4 ro 0 0\n",
		"/dev/sdc1 /other ext4 ro 0 0\n":           notCloned + "/dev/sdc1 /other ext4 ro 0 0\n",
	} {
		if got, notes := rewriteFstab(in, slices.Concat(vols, s.blocks)); got != want {
			t.Errorf("%q became %q, want %q; %q", in, got, want, notes)
		}
	}
	if got := replaceIDs("resume=UUID="+dataWas, s.ids); got != "resume=UUID="+dataNow {
		t.Errorf("in other files: %q", got)
	}
	d.Blocks = d.Blocks[:1]
	if _, err := newStack(p, d); err == nil {
		t.Error("a node without a device for some is taken")
	}
	p.Blocks, d.Blocks = []wire.Blocks{{On: "sdx9", OldUUID: dataWas}}, []string{"/dev/vda3"}
	if _, err := newStack(p, d); err == nil {
		t.Error("blocks of nowhere are taken")
	}
}
