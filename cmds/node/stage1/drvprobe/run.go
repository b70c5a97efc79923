package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
)

func run(ctx context.Context, w io.Writer, dry, every bool) error {
	l, err := drivers.OpenRunning()
	if err != nil {
		return err
	}
	if dry {
		wanted, err := l.Wanted("/sys")
		for _, name := range wanted {
			fmt.Fprintf(w, "would load %s\n", name)
		}
		return errors.Join(err, driverless(w, every))
	}
	r, err := l.Settle(ctx, 500*time.Millisecond, 10*time.Second)
	for _, name := range r.Loaded {
		fmt.Fprintf(w, "loaded %s\n", name)
	}
	return errors.Join(err, errors.Join(r.Failed...), driverless(w, every))
}

// driverless prints the devices without a driver, or all if every is set.
// Most of the board's own devices need none, so only buses that people plug
// cards and disks into count otherwise.
func driverless(w io.Writer, every bool) error {
	devices, err := drivers.Devices("/sys")
	if err != nil {
		return err
	}
	for _, d := range devices {
		bus, _, _ := strings.Cut(d.Path, "/")
		if d.Driver == "" && (every || slices.Contains(pluggable(), bus)) {
			fmt.Fprintf(w, "no driver: %s %s\n", d.Path, d.Modalias)
		}
	}
	return nil
}

func pluggable() []string { return []string{"pci", "usb", "virtio", "scsi", "vmbus", "xen", "mmc"} }
