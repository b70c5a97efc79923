package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Report is what a coldplug did.
type Report struct {
	Loaded []string // modules, in order
	Failed []error
	Served []Served // devices for which there is a module, in the order they were found
}

// Served is a device with the modules that its modalias stands for.
type Served struct {
	Device  Device
	Modules []string
	Err     error
}

// Device is something on a bus, with the name it asks for a driver by.
type Device struct {
	Path     string // under /sys/bus
	Modalias string
	Driver   string // empty: none
}

// maxPasses bounds the coldplug: each pass is one level deeper in the tree of
// buses, and no machine has so many levels.
const maxPasses = 32

// Coldplug loads a module for every device that is there, and goes round
// again until no new device turned up: virtio_pci makes the virtio device
// that virtio_net then serves.
func (l *Loader) Coldplug(ctx context.Context) (Report, error) {
	return l.coldplug(ctx, map[string]bool{})
}

// coldplug passes over the devices that seen holds already, by path and name.
func (l *Loader) coldplug(ctx context.Context, seen map[string]bool) (Report, error) {
	var r Report
	for range maxPasses {
		fresh := 0
		devices, err := Devices("/sys")
		if err != nil {
			return r, err
		}
		for _, d := range devices {
			key := d.Path + " " + d.Modalias
			if seen[key] {
				continue
			}
			if err := ctx.Err(); err != nil {
				return r, fmt.Errorf("coldplug: %w", err)
			}
			seen[key] = true
			fresh++
			l.serve(d, &r)
		}
		if fresh == 0 {
			return r, nil
		}
	}
	return r, fmt.Errorf("coldplug: still new devices after %d passes", maxPasses)
}

// Settle is Coldplug for buses that are probed in the background, such as
// SATA and USB: it goes on until nothing new was loaded for quiet, at most
// until limit.
func (l *Loader) Settle(ctx context.Context, quiet, limit time.Duration) (Report, error) {
	var all Report
	seen := map[string]bool{}
	end := time.Now().Add(limit)
	last := time.Now()
	for {
		r, err := l.coldplug(ctx, seen)
		all.Loaded = append(all.Loaded, r.Loaded...)
		all.Served = append(all.Served, r.Served...)
		all.Failed = append(all.Failed, newErrors(all.Failed, r.Failed)...)
		if err != nil {
			return all, err
		}
		now := time.Now()
		if len(r.Loaded) > 0 {
			last = now
		}
		if now.Sub(last) >= quiet || now.After(end) {
			return all, nil
		}
		select {
		case <-ctx.Done():
			return all, fmt.Errorf("coldplug: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// newErrors are those of list that old doesn't say already.
func newErrors(old, list []error) (out []error) {
	for _, e := range list {
		if !slices.ContainsFunc(old, func(o error) bool { return o.Error() == e.Error() }) {
			out = append(out, e)
		}
	}
	return out
}

func (l *Loader) serve(d Device, r *Report) {
	loaded, err := l.LoadAlias(d.Modalias)
	r.Loaded = append(r.Loaded, loaded...)
	// ENODEV is a driver's way to say that this isn't its device after all.
	if errors.Is(err, ErrNotFound) || errors.Is(err, unix.ENODEV) {
		err = nil
	}
	if err != nil {
		r.Failed = append(r.Failed, fmt.Errorf("device %s: %w", d.Modalias, err))
	}
	if modules := l.choice(d.Modalias); len(modules) > 0 {
		r.Served = append(r.Served, Served{Device: d, Modules: modules, Err: err})
	}
}

// choice is what a device gets: what its modalias stands for, less what is
// built into the kernel or denied.
func (l *Loader) choice(modalias string) []string {
	return slices.DeleteFunc(slices.Clone(l.x.Lookup(modalias)), func(n string) bool {
		_, file := l.x.files[n]
		return l.deny[n] || !file
	})
}

// Would serves the devices in sys without loading anything.
func (l *Loader) Would(sys string) (Report, error) {
	var r Report
	devices, err := Devices(sys)
	for _, d := range devices {
		if modules := l.choice(d.Modalias); len(modules) > 0 {
			r.Served = append(r.Served, Served{Device: d, Modules: modules})
		}
	}
	return r, err
}

// Wanted are the modules that Coldplug would load for the devices there are
// now, in order and with what they need, loading nothing.
func (l *Loader) Wanted(sys string) ([]string, error) {
	devices, err := Devices(sys)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, d := range devices {
		for _, name := range l.x.Lookup(d.Modalias) {
			if !l.deny[name] {
				out = l.x.withDeps(name, out)
			}
		}
	}
	return slices.DeleteFunc(out, live), nil
}

// withDeps appends name after what it needs, each only once.
func (x *Index) withDeps(name string, list []string) []string {
	if _, ok := x.files[name]; !ok || slices.Contains(list, name) {
		return list
	}
	for _, dep := range slices.Backward(x.deps[name]) {
		if dep != name {
			list = x.withDeps(dep, list)
		}
	}
	return append(list, name)
}

// maxModalias is more than any device has: the kernel gives sysfs a page.
const maxModalias = 4096

// Devices lists what has a modalias under sys, usually /sys.
func Devices(sys string) ([]Device, error) {
	paths, err := filepath.Glob(filepath.Join(sys, "bus/*/devices/*/modalias"))
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var out []Device
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil || len(b) > maxModalias { // gone again: unplugged
			continue
		}
		d := Device{Path: strings.TrimPrefix(filepath.Dir(p), sys+"/bus/"), Modalias: strings.TrimSpace(string(b))}
		if d.Modalias == "" {
			continue
		}
		if driver, err := os.Readlink(filepath.Join(filepath.Dir(p), "driver")); err == nil {
			d.Driver = filepath.Base(driver)
		}
		out = append(out, d)
	}
	return out, nil
}
