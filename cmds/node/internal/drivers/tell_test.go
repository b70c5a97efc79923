package drivers

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/cmds/node/internal/devnames"
)

// put writes files below root, by name and content.
func put(t *testing.T, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestName(t *testing.T) {
	root, sys := t.TempDir(), t.TempDir()
	put(t, root, map[string]string{
		devnames.PCIFile: "8086  Intel Corporation\n\t100e  82540EM Gigabit Ethernet Controller\n",
		devnames.USBFile: "0bda  Realtek Semiconductor Corp.\n",
	})
	put(t, sys, map[string]string{
		"devices/usb1/1-1/manufacturer":            "ACME\n",
		"devices/usb1/1-1/product":                 "Network \x1b[2Jthing\n",
		"devices/usb1/1-1/1-1:1.0/modalias":        "usb:x",
		"bus/scsi/devices/0:0:0:0/vendor":          "ATA     \n",
		"bus/scsi/devices/0:0:0:0/model":           "QEMU HARDDISK   \n",
		"bus/pci/devices/0000:00:04.0/vendor":      "0x1234\n",
		"bus/pci/devices/0000:00:04.0/device":      "0x1111\n",
		"bus/platform/devices/serial8250/modalias": "platform:serial8250",
	})
	if err := os.MkdirAll(filepath.Join(sys, "bus/usb/devices"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../devices/usb1/1-1/1-1:1.0", filepath.Join(sys, "bus/usb/devices/1-1:1.0")); err != nil {
		t.Fatal(err)
	}
	n, err := devnames.Open(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		d    Device
		want string
	}{
		{Device{Path: "pci/devices/0000:00:03.0", Modalias: "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"}, "Intel Corporation|82540EM Gigabit Ethernet Controller"},
		{Device{Path: "pci/devices/0000:00:04.0", Modalias: "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00"}, "pci:v00001234d00001111sv00001AF4sd00001100bc03sc00i00"},
		{Device{Path: "usb/devices/1-1:1.0", Modalias: "usb:v1234p0001d0100dc00dsc00dp00icFFiscFFip00in00"}, "ACME|Network ?[2Jthing"},
		{Device{Path: "usb/devices/1-1:1.0", Modalias: "usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00"}, "Realtek Semiconductor Corp.|device 8153"},
		{Device{Path: "scsi/devices/0:0:0:0", Modalias: "scsi:t-0x00"}, "ATA|QEMU HARDDISK"},
		{Device{Path: "platform/devices/serial8250", Modalias: "platform:serial8250"}, "platform:serial8250"},
		{Device{Path: "usb/devices/gone", Modalias: "usb:\x1b"}, "usb:?"},
	} {
		if got := tt.d.Name(sys, n); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.d.Path, got, tt.want)
		}
	}
}

// TestTell has the lines of the manual's log, each device once.
func TestTell(t *testing.T) {
	root, sys := t.TempDir(), t.TempDir()
	put(t, root, map[string]string{devnames.PCIFile: "1af4  Red Hat, Inc.\n\t1041  Virtio 1.0 network device\n"})
	put(t, sys, map[string]string{
		"bus/virtio/devices/virtio0/modalias":  "virtio:d00000001v00001AF4\n",
		"bus/virtio/devices/virtio1/modalias":  "virtio:d00000001v00001AF4\n",
		"bus/virtio/devices/virtio2/modalias":  "virtio:d00000002v00001AF4\n",
		"bus/acpi/devices/PNP0700:00/modalias": "acpi:PNP0700:\n",
		"bus/usb/devices/1-1:1.0/modalias":     "usb:v0403p6001\n",
		"bus/platform/devices/crc/modalias":    "crypto-crc32c\n",
		"bus/usb/devices/2-1:1.0/modalias":     "usb:v0403p6002\n",
	})
	l := NewLoader(smallTree(t), "")
	r, err := l.Would(sys)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	say := func(line string) { got = append(got, line) }
	l.Tell(root, sys, r, say)
	l.Tell(root, sys, r, say)
	net := `installing driver virtio_net (for "Red Hat, Inc.|Virtio 1.0 network device")`
	want := []string{ // a list that isn't there, usb.ids, is no news
		`installing driver failover (for "usb:v0403p6001")`,
		`installing driver failover (for "usb:v0403p6002")`,
		net, net,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestWhy(t *testing.T) {
	l := NewLoader(smallTree(t), "")
	l.done["jbd2"] = os.ErrPermission
	for _, tt := range []struct{ modalias, driver, want string }{
		{"virtio:d00000001v00001AF4", "virtio_net", "driver virtio_net"},
		{"virtio:d00000002v00001AF4", "", "no module in this image has its alias virtio:d00000002v00001AF4"},
		{"acpi:PNP0700:", "", "floppy is never loaded for a device"},
		{"platform:tty-x", "", "tty_x is part of the kernel"},
		{"dmi:svnDell:pnA/x1", "", "permission denied"},
		{"usb:v0403p6001", "", "failover isn't loaded"},
	} {
		if got := l.Why(Device{Modalias: tt.modalias, Driver: tt.driver}); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %q, want %q", tt.modalias, got, tt.want)
		}
	}
}
