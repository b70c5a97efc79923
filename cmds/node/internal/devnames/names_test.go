package devnames

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// packaged are the lists of the packages.
func packaged(t *testing.T) *Names {
	t.Helper()
	n, err := Open("/")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skipf("packages pci.ids and usb.ids: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestLookup(t *testing.T) {
	n := packaged(t)
	for _, tt := range []struct{ modalias, want string }{
		{"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00", "Intel Corporation|82540EM Gigabit Ethernet Controller"},
		{"pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00", "Red Hat, Inc.|Virtio network device"},
		{"virtio:d00000001v00001AF4", "Red Hat, Inc.|Virtio 1.0 network device"},
		{"virtio:d00000002v00001AF4", "Red Hat, Inc.|Virtio 1.0 block device"},
		{"usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00", "Realtek Semiconductor Corp.|RTL8153 Gigabit Ethernet Adapter"},
		{"pci:v00008086d0000FFFFsv00000000sd00000000bc0Csc03i30", "Intel Corporation|USB controller (XHCI)"},
		{"pci:v0000FFF1d0000FFFFsv00000000sd00000000bc02sc00i00", "vendor fff1|Ethernet controller"},
		{"pci:v00008086d0000FFFFsv00000000sd00000000bcFEsc00i00", "Intel Corporation|device ffff"},
		{"usb:v0BDApFFFFd3100dc00dsc00dp00ic03isc01ip01in00", "Realtek Semiconductor Corp.|Boot Interface Subclass (Keyboard)"},
		{"virtio:d00000080v00001AF4", ""},
		{"pci:v00018086d0000100Esv00001AF4sd00001100bc02sc00i00", ""},
		{"pci:v00008086d0000100E", ""},
		{"pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00x", ""},
		{"acpi:PNP0303:", ""},
		{"", ""},
	} {
		vendor, device, ok := n.Lookup(tt.modalias)
		got := vendor + "|" + device
		if !ok {
			got = ""
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.modalias, got, tt.want)
		}
	}
	var none *Names
	for _, n := range []*Names{none, {}} {
		if _, _, ok := n.Lookup("virtio:d00000001v00001AF4"); ok {
			t.Error("no list knows a device")
		}
	}
}

// TestLikeLspci has lspci(8) name every device of the list.
func TestLikeLspci(t *testing.T) {
	n := packaged(t)
	if _, err := exec.LookPath("lspci"); err != nil {
		t.Skipf("package pciutils, the judge here: %v", err)
	}
	// A machine in the form of lspci -x, in slots of a bus: first, the vendor,
	// device and class of the header of PCI's configuration space (pci(4)).
	var machine bytes.Buffer
	var ids []pair
	for id := range n.PCI.devices {
		i := len(ids)
		fmt.Fprintf(&machine, "%04x:%02x:%02x.%d x\n", i>>16, i>>8&0xff, i>>3&0x1f, i&7)
		fmt.Fprintf(&machine, "00: %02x %02x %02x %02x 00 00 00 00 00 00 00 02 00 00 00 00\n", id.vendor&0xff, id.vendor>>8, id.device&0xff, id.device>>8)
		for _, row := range []string{"10", "20", "30"} {
			fmt.Fprintf(&machine, "%s:%s\n", row, strings.Repeat(" 00", 16))
		}
		ids = append(ids, id)
	}
	file := filepath.Join(t.TempDir(), "machine")
	if err := os.WriteFile(file, machine.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("lspci", "-i", PCIFile, "-F", file, "-D", "-vmm").Output()
	if err != nil {
		t.Fatal(err)
	}
	records := strings.Split(strings.TrimSpace(string(out)), "\n\n")
	if len(records) != len(ids) || len(ids) < 10_000 {
		t.Fatalf("lspci names %d devices of %d", len(records), len(ids))
	}
	wrong := 0
	for _, rec := range records {
		field := map[string]string{}
		for line := range strings.Lines(rec) {
			k, v, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
			field[k] = v
		}
		var domain, bus, dev, fn int
		if _, err := fmt.Sscanf(field["Slot"], "%04x:%02x:%02x.%d", &domain, &bus, &dev, &fn); err != nil {
			t.Fatalf("slot %q: %v", field["Slot"], err)
		}
		id := ids[domain<<16|bus<<8|dev<<3|fn]
		vendor, device, _ := n.Lookup(fmt.Sprintf("pci:v0000%04Xd0000%04Xsv00000000sd00000000bc02sc00i00", id.vendor, id.device))
		if vendor != field["Vendor"] || device != field["Device"] {
			if wrong++; wrong < 10 {
				t.Errorf("%04x:%04x: lspci says %q, %q; we say %q, %q", id.vendor, id.device, field["Vendor"], field["Device"], vendor, device)
			}
		}
	}
	t.Logf("%d devices compared, %d differ", len(ids), wrong)
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"8086  Intel\n\t10  short\n", `ids line 2: word "10"`},
		{"8086  Intel\n\t100g  not hex\n", `ids line 2: word "100g"`},
		{"8086\n", `ids line 1: word "8086": no name`},
		{"80866  Intel\n", `ids line 1: word "80866"`},
		{"C 2  Network\n", `ids line 1: word "2"`},
		{"C 02  Network\n\t\t30  XHCI\n", `ids line 2: word "30"`},
		{"8086  In\x1b[2Jtel\n", "ids line 1"},
		{"8086  \xff\n", "ids line 1"},
		{"8086  " + strings.Repeat("x", 201) + "\n", "201 bytes"},
		{"x\ny\nz\n", "and 2 more lines"},
		{strings.Repeat("a", 5000), "token too long"},
	} {
		_, err := Parse("ids", strings.NewReader(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.30q: %v, want %s", tt.text, err, tt.want)
		}
	}
}

// What is right in a list counts whatever stands beside it.
func TestParseGoesOn(t *testing.T) {
	table, err := Parse("ids", strings.NewReader("rubbish\n1AF4  Red Hat, Inc.\n\t1041  Virtio 1.0 network device\nHID 21  HID\n\t1041  no device\n"))
	if err == nil {
		t.Error("rubbish accepted")
	}
	_, device, ok := (&Names{PCI: table}).Lookup("virtio:d00000001v00001AF4")
	if !ok || device != "Virtio 1.0 network device" {
		t.Errorf("%q, %v", device, ok)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("8086  Intel Corporation\n\t100e  82540EM\n\t\t1028 002e  PRO\nC 02  Net\n\t00  Ethernet\n\t\t30  X\n", "pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00")
	f.Add("# x\nHID 21  y\n\tz\nC x\n", "usb:v0BDAp8153d3100dc00dsc00dp00icFFiscFFip00in00")
	f.Fuzz(func(t *testing.T, list, modalias string) {
		table, _ := Parse("ids", strings.NewReader(list))
		n := &Names{PCI: table, USB: table}
		vendor, device, ok := n.Lookup(modalias)
		if ok && (vendor == "" || device == "") {
			t.Errorf("%q: %q, %q", modalias, vendor, device)
		}
		if strings.ContainsAny(vendor+device, "\x1b\n\r\x00") {
			t.Errorf("%q, %q would reach a console", vendor, device)
		}
	})
}
