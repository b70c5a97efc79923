package cook

import (
	"strings"
	"testing"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/golden/wire"
)

func TestHere(t *testing.T) {
	d := func(name, bus string) disk.Device { return disk.Device{Name: name, Path: "/dev/" + name, Bus: bus} }
	one, two := []disk.Device{d("kazz0n1", "nvme"), d("kausb", "usb")}, []disk.Device{d("kaza", "ata"), d("kazb", "ata")}
	sda := []disk.Device{d("sda", "ata")}
	for _, c := range []struct {
		dev  string
		devs []disk.Device
		want string
	}{
		{"/dev/hda", one, "/dev/kazz0n1"}, {"/dev/hda", two, "/dev/hda"}, {"/dev/hda", nil, "/dev/hda"},
		{"/dev/hda5", sda, "/dev/sda5"}, {"/dev/hda5", one, "/dev/kazz0n1p5"}, {"/dev/nvme0n1p2", sda, "/dev/sda2"}, {"/dev/mmcblk0", sda, "/dev/sda"},
		{"/dev/vda", sda, "/dev/sda"}, {"/dev/xvda1", sda, "/dev/sda1"}, {"/dev/sda", one, "/dev/kazz0n1"}, {"/dev/sda5", sda, "/dev/sda5"},
		// Another disk than the first is never the only one.
		{"/dev/sdb", sda, "/dev/sdb"}, {"/dev/sdb1", sda, "/dev/sdb1"}, {"/dev/hdb", sda, "/dev/hdb"}, {"/dev/vdb2", sda, "/dev/vdb2"}, {"/dev/sdaa", sda, "/dev/sdaa"},
		{"/dev/nvme1n1", sda, "/dev/nvme1n1"}, {"/dev/nvme0n2", sda, "/dev/nvme0n2"}, {"/dev/mmcblk1p1", sda, "/dev/mmcblk1p1"},
		{"/dev/null", sda, "/dev/null"}, {"/dev/md0", sda, "/dev/md0"},
	} {
		if got := instead(c.dev, c.devs); got != c.want {
			t.Errorf("%s: %s, want %s", c.dev, got, c.want)
		}
	}
}

// The disk of a mount has to be there before anything is written; its
// partition may come.
func TestMountsHere(t *testing.T) {
	devs := []disk.Device{{Name: "kaza", Path: "/dev/kaza", Bus: "ata"}}
	for dev, want := range map[string]string{"/dev/sdzz1": "no disk sdzz, it has /dev/kaza", "/dev/mapper/x": "", "/dev/null": ""} {
		_, err := mountsHere(wire.Plan{Mounts: []wire.Mount{{Device: dev, At: "/"}}}, devs)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", dev, err)
		}
	}
}
