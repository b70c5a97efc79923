package drivers

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/kamethod/kamethod/cmds/node/internal/devnames"
)

// Pluggable says whether people plug that device in: a card, a disk, what a
// host gives its guest. Most of a board's own devices need no driver.
func (d Device) Pluggable() bool {
	return slices.Contains([]string{"pci", "usb", "virtio", "scsi", "vmbus", "xen", "mmc"}, d.bus())
}

func (d Device) bus() string {
	bus, _, _ := strings.Cut(d.Path, "/")
	return bus
}

// Name is "vendor|device" by the lists, or by what the device says of itself
// in sys, usually /sys. What has neither goes by its modalias.
func (d Device) Name(sys string, n *devnames.Names) string {
	if vendor, device, ok := n.Lookup(d.Modalias); ok {
		return vendor + "|" + device
	}
	dir := filepath.Join(sys, "bus", d.Path)
	if d.bus() == "usb" { // the modalias is an interface's, the words are the device's above it
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dir = filepath.Dir(real)
		}
	}
	var words []string
	for _, names := range [][]string{{"manufacturer", "vendor"}, {"product", "model", "name"}} {
		for _, name := range names {
			if s := attribute(filepath.Join(dir, name)); s != "" {
				words = append(words, s)
				break
			}
		}
	}
	if len(words) == 2 && !strings.HasPrefix(words[0], "0x") { // a PCI vendor's number is no name
		return words[0] + "|" + words[1]
	}
	return printable(d.Modalias)
}

// attribute reads a short text of sysfs; some of it is the device's own.
func attribute(file string) string {
	b, err := os.ReadFile(file)
	if err != nil || len(b) > maxModalias {
		return ""
	}
	return printable(strings.TrimSpace(string(b)))
}

// printable is s for a console: a device may call itself anything.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			return r
		}
		return '?'
	}, s)
}

// Installing is a line of the kind that users know from the old method's log:
//
//	installing driver e1000 (for "Intel Corporation|82540EM Gigabit Ethernet Controller")
func (s Served) Installing(sys string, n *devnames.Names) string {
	return fmt.Sprintf("installing driver %s (for %q)", strings.Join(s.Modules, ", "), s.Device.Name(sys, n))
}

// Tell says which driver was installed for what people plug in and what had
// none before, each device once; then what failed. root has the lists of names.
func (l *Loader) Tell(root, sys string, r Report, say func(line string)) {
	var fresh []Served
	l.mu.Lock()
	for _, s := range r.Served {
		key := s.Device.Path + " " + s.Device.Modalias
		if s.Device.Pluggable() && s.Device.Driver == "" && s.Err == nil && !l.told[key] {
			l.told[key] = true
			fresh = append(fresh, s)
		}
	}
	l.mu.Unlock()
	if len(fresh) > 0 {
		names, err := devnames.Open(root)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			say(fmt.Sprintf("some devices go without a name: %v", err))
		}
		for _, s := range fresh {
			say(s.Installing(sys, names))
		}
	}
	for _, err := range r.Failed {
		say(err.Error())
	}
}

// Why says what became of a device, as it stands in sysfs now: its driver, or
// why it has none.
func (l *Loader) Why(d Device) string {
	if d.Driver != "" {
		return "driver " + d.Driver
	}
	known := l.x.Lookup(d.Modalias)
	if len(known) == 0 {
		return "no driver: no module in this image has its alias " + printable(d.Modalias)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var why []string
	for _, name := range known {
		_, file := l.x.files[name]
		tried, done := l.done[name]
		switch {
		case l.deny[name]:
			why = append(why, name+" is never loaded for a device")
		case !file:
			why = append(why, name+" is part of the kernel and doesn't take it")
		case tried != nil:
			why = append(why, tried.Error())
		case done || live(name):
			why = append(why, name+" is loaded and doesn't take it")
		default:
			why = append(why, name+" isn't loaded")
		}
	}
	return "no driver: " + strings.Join(why, "; ")
}
