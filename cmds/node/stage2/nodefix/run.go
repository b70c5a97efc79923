package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/cmds/node/internal/fixup"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/wire"
)

type options struct {
	plan, disks, root, hostname, mac string
	number                           int
	json, unseal                     bool
}

// run reads the two files, does the work and prints the report, of a failure
// too.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	env := fixup.Env{
		Root:     o.root,
		Firmware: join.Firmware(),
		Number:   o.number,
		Hostname: o.hostname,
		MAC:      o.mac,
		MACs:     fixup.Cards("/sys"),
		Log:      slog.New(slog.NewTextHandler(stderr, nil)),
	}
	if err := load(o.plan, &env.Plan); err != nil {
		return err
	}
	if err := load(o.disks, &env.Disks); err != nil {
		return err
	}
	if env.MAC == "" {
		if state, err := handover.Load(handover.Path); err == nil {
			env.MAC = state.MAC
		}
	}
	if o.unseal {
		return disk.Unseal(env.Plan, env.Disks, handover.Dir)
	}
	env.BeforeLoader = func() error { return disk.Unseal(env.Plan, env.Disks, handover.Dir) }
	report, err := fixup.Run(ctx, env)
	if err == nil {
		err = disk.WriteBootCode(env.Plan, env.Disks)
	} else {
		err = errors.Join(err, disk.Seal(env.Plan, env.Disks, handover.Dir))
	}
	if o.json {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		if jerr := e.Encode(report); jerr != nil && err == nil {
			err = jerr
		}
		return err
	}
	report.Print(stdout)
	return err
}

// load reads a wire.Plan or a wire.DiskResult; a field that isn't theirs is a
// file that was meant for something else.
func load[T wire.Plan | wire.DiskResult](name string, into *T) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	d := json.NewDecoder(io.LimitReader(f, 16<<20)) // a plan is a few kilobytes
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}
