package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/devnames"
	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
)

// sysfs is where the kernel lists its devices.
const sysfs = "/sys"

func run(ctx context.Context, w io.Writer, dry, every bool) error {
	l, err := drivers.OpenRunning()
	if err != nil {
		return err
	}
	names, err := devnames.Open("/")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(w, "some devices go without a name: %v\n", err)
	}
	if dry {
		r, err := l.Would(sysfs)
		if err != nil {
			return err
		}
		return errors.Join(install(w, "would be ", r, names, every), wouldLoad(w, l), devices(w, l, names, every))
	}
	r, err := l.Settle(ctx, 500*time.Millisecond, 10*time.Second)
	return errors.Join(err, install(w, "", r, names, every), errors.Join(r.Failed...), devices(w, l, names, every))
}

// install prints which module went to which device.
func install(w io.Writer, would string, r drivers.Report, names *devnames.Names, every bool) error {
	for _, s := range r.Served {
		if s.Device.Driver != "" || !every && !s.Device.Pluggable() {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s%s\n", would, s.Installing(sysfs, names)); err != nil {
			return err
		}
	}
	return nil
}

func wouldLoad(w io.Writer, l *drivers.Loader) error {
	wanted, err := l.Wanted(sysfs)
	for _, name := range wanted {
		fmt.Fprintf(w, "would load %s\n", name)
	}
	return err
}

// devices prints each device with its names and its driver, or why it has
// none. Most of the board's own devices need no driver, so those without one
// count only if every is set.
func devices(w io.Writer, l *drivers.Loader, names *devnames.Names, every bool) error {
	list, err := drivers.Devices(sysfs)
	if err != nil {
		return err
	}
	for _, d := range list {
		if d.Driver == "" && !every && !d.Pluggable() {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s %q %s\n", d.Path, d.Name(sysfs, names), l.Why(d)); err != nil {
			return err
		}
	}
	return nil
}
