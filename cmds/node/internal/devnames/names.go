// Package devnames says what a device is called, by the lists pci.ids and
// usb.ids of the distribution's packages. It only reads: which driver a device
// needs is package drivers' business, and the lists are the builder's.
//
//	pci:v00008086d0000100Esv…bc02sc00i00 ──▶ pci.ids ──▶ Intel Corporation | 82540EM Gigabit Ethernet Controller
//	virtio:d00000001v00001AF4 ─────────────▶ pci.ids ──▶ Red Hat, Inc. | Virtio 1.0 network device
//	usb:v0BDAp8153d3100…icFFiscFFip00in00 ─▶ usb.ids ──▶ Realtek Semiconductor Corp. | RTL8153 Gigabit Ethernet Adapter
package devnames

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Names are the lists of one image. A nil or empty one knows nothing.
type Names struct{ PCI, USB *Table }

// Where the packages pci.ids and usb.ids put their lists, and an image too.
const (
	PCIFile = "/usr/share/misc/pci.ids"
	USBFile = "/usr/share/misc/usb.ids"
)

// Open reads the lists under root. A list that is missing is an error of kind
// fs.ErrNotExist; what could be read counts all the same.
func Open(root string) (*Names, error) {
	n := &Names{}
	var errs [2]error
	n.PCI, errs[0] = open(filepath.Join(root, PCIFile))
	n.USB, errs[1] = open(filepath.Join(root, USBFile))
	return n, errors.Join(errs[:]...)
}

func open(file string) (*Table, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open list of device names: %w", err)
	}
	defer f.Close()
	return Parse(file, f)
}

// field is one of a modalias: its key, and how many hexadecimal digits follow.
type field struct {
	key   string
	width int
}

// The forms of a modalias that have numbers in the lists, as
// scripts/mod/file2alias.c of Linux writes them.
func pciForm() []field {
	return []field{{"pci:v", 8}, {"d", 8}, {"sv", 8}, {"sd", 8}, {"bc", 2}, {"sc", 2}, {"i", 2}}
}

func usbForm() []field {
	return []field{{"usb:v", 4}, {"p", 4}, {"d", 4}, {"dc", 2}, {"dsc", 2}, {"dp", 2}, {"ic", 2}, {"isc", 2}, {"ip", 2}, {"in", 2}}
}

func virtioForm() []field { return []field{{"virtio:d", 8}, {"v", 8}} }

// numbers takes a modalias apart; nil if it hasn't that form.
func numbers(modalias string, form []field) []uint64 {
	var out []uint64
	for _, f := range form {
		rest, ok := strings.CutPrefix(modalias, f.key)
		if !ok || len(rest) < f.width || strings.ContainsFunc(rest[:f.width], notHex) {
			return nil
		}
		n, err := strconv.ParseUint(rest[:f.width], 16, 64)
		if err != nil {
			return nil
		}
		out, modalias = append(out, n), rest[f.width:]
	}
	if modalias != "" {
		return nil
	}
	return out
}

// virtioPCI is what a virtio device's type is added to for its number on PCI
// (Virtual I/O Device Version 1.2, 4.1.2.1); 0x7f is the last one there.
const (
	virtioPCI  = 0x1040
	virtioLast = 0x7f
)

// Lookup is the vendor's and the device's name of what has that modalias.
// A device that no list knows goes by its class, as lspci(8) has it; ok is
// false if nothing is known.
func (n *Names) Lookup(modalias string) (vendor, device string, ok bool) {
	if n == nil {
		return "", "", false
	}
	if m := numbers(modalias, pciForm()); m != nil {
		return n.PCI.lookup(m[0], m[1], m[4:])
	}
	// Of the two classes that USB gives, the interface's is what a driver asks for.
	if m := numbers(modalias, usbForm()); m != nil {
		return n.USB.lookup(m[0], m[1], m[6:9])
	}
	if m := numbers(modalias, virtioForm()); m != nil && m[0] <= virtioLast {
		return n.PCI.lookup(m[1], virtioPCI+m[0], nil)
	}
	return "", "", false
}

func (t *Table) lookup(vendor, device uint64, class []uint64) (string, string, bool) {
	if t == nil || vendor > 0xffff || device > 0xffff {
		return "", "", false
	}
	v, known := t.vendors[uint16(vendor)]
	d := t.devices[pair{uint16(vendor), uint16(device)}]
	if d == "" {
		d = t.className(class)
	}
	if !known && d == "" {
		return "", "", false
	}
	if !known {
		v = fmt.Sprintf("vendor %04x", vendor)
	}
	if d == "" {
		d = fmt.Sprintf("device %04x", device)
	}
	return v, d, true
}

// className is the most exact name that a class, subclass and programming
// interface have: "USB controller (XHCI)".
func (t *Table) className(class []uint64) string {
	if len(class) != 3 {
		return ""
	}
	key := fmt.Sprintf("%02X%02X%02X", class[0], class[1], class[2])
	sub, prog := t.classes[key[:4]], t.classes[key]
	switch {
	case sub != "" && prog != "":
		return sub + " (" + prog + ")"
	case sub != "":
		return sub
	}
	return t.classes[key[:2]]
}
