package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
)

func run(ctx context.Context, w io.Writer, dry bool) error {
	l, err := drivers.OpenRunning()
	if err != nil {
		return err
	}
	if dry {
		wanted, err := l.Wanted("/sys")
		for _, name := range wanted {
			fmt.Fprintf(w, "would load %s\n", name)
		}
		return errors.Join(err, driverless(w))
	}
	r, err := l.Settle(ctx, 500*time.Millisecond, 10*time.Second)
	for _, name := range r.Loaded {
		fmt.Fprintf(w, "loaded %s\n", name)
	}
	return errors.Join(err, errors.Join(r.Failed...), driverless(w))
}

// driverless prints the devices without a driver. Many need none: bridges,
// sensors, the board itself.
func driverless(w io.Writer) error {
	devices, err := drivers.Devices("/sys")
	if err != nil {
		return err
	}
	for _, d := range devices {
		if d.Driver == "" {
			fmt.Fprintf(w, "no driver: %s %s\n", d.Path, d.Modalias)
		}
	}
	return nil
}
