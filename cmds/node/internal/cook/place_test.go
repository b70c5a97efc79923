package cook

import (
	"testing"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
)

func TestHere(t *testing.T) {
	d := func(name, bus string) disk.Device { return disk.Device{Name: name, Path: "/dev/" + name, Bus: bus} }
	one, two := []disk.Device{d("kazz0n1", "nvme"), d("kausb", "usb")}, []disk.Device{d("kaza", "ata"), d("kazb", "ata")}
	for _, c := range []struct {
		dev  string
		devs []disk.Device
		want string
	}{
		{"/dev/kahda", one, "/dev/kazz0n1"}, {"/dev/kahda", two, "/dev/kahda"}, {"/dev/kahda", nil, "/dev/kahda"},
		{"/dev/hdz5", []disk.Device{d("sdz", "ata")}, "/dev/sdz5"}, {"/dev/hdz5", []disk.Device{d("nvme9n1", "nvme")}, "/dev/nvme9n1p5"},
		{"/dev/sdz5", []disk.Device{d("sdz", "ata")}, "/dev/sdz5"}, {"/dev/null", one, "/dev/null"},
	} {
		if got := here(c.dev, c.devs); got != c.want {
			t.Errorf("%s: %s, want %s", c.dev, got, c.want)
		}
	}
}
