package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// maxPlan bounds a plan's file: the largest, with 128 partitions on each of
// some disks, stays far below.
const maxPlan = 4 << 20

type config struct {
	plan, root string
	check      bool
	disks      []string
	out        io.Writer
}

func (c *config) addDisk(name string) error {
	c.disks = append(c.disks, strings.TrimPrefix(name, "/dev/"))
	return nil
}

// run returns the exit status and what went wrong.
func (c *config) run(ctx context.Context, args []string) (int, error) {
	if len(args) > 0 {
		return 2, fmt.Errorf("%q: no argument is expected", args[0])
	}
	if c.plan == "" {
		return 2, errors.New("no plan: give -plan FILE")
	}
	plan, err := readPlan(c.plan)
	if err != nil {
		return 2, err
	}
	if c.check {
		return c.show(ctx, plan)
	}
	opt := disk.Options{Devices: c.disks}
	if _, err := disk.Assign(ctx, plan, opt); err != nil {
		return 2, err
	}
	opt.Progress = func(s string) { fmt.Fprintln(c.out, s) }
	res, err := disk.Prepare(ctx, plan, c.root, opt)
	if err != nil {
		return 1, err
	}
	enc := json.NewEncoder(c.out)
	enc.SetIndent("", "  ")
	return 0, enc.Encode(res)
}

// show prints what Prepare would do.
func (c *config) show(ctx context.Context, plan wire.Plan) (int, error) {
	a, err := disk.Assign(ctx, plan, disk.Options{Devices: c.disks})
	for _, w := range a.Why {
		fmt.Fprintln(c.out, w)
	}
	if err != nil {
		return 2, err
	}
	for i, d := range a.Devices {
		fmt.Fprintf(c.out, "\n%s would be ERASED and get, for %s:\n", d, plan.Disks[i].Name)
		if a.Fitted[i].Table == layout.None {
			fmt.Fprintln(c.out, "# no table: it is used as a whole")
			continue
		}
		fmt.Fprint(c.out, a.Fitted[i].Script())
		for _, n := range a.Fitted[i].Notes {
			fmt.Fprintf(c.out, "# %s\n", n)
		}
	}
	fmt.Fprintln(c.out)
	for _, line := range disk.Describe(plan, a) {
		fmt.Fprintln(c.out, line)
	}
	fmt.Fprintln(c.out, "nothing was written")
	return 0, nil
}

func readPlan(name string) (wire.Plan, error) {
	var plan wire.Plan
	f, err := os.Open(name)
	if err != nil {
		return plan, fmt.Errorf("read plan: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxPlan+1))
	if err != nil {
		return plan, fmt.Errorf("read plan %s: %w", name, err)
	}
	if len(text) > maxPlan {
		return plan, fmt.Errorf("read plan %s: larger than %d bytes", name, maxPlan)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&plan); err != nil {
		return plan, fmt.Errorf("read plan %s: %w", name, err)
	}
	return plan, nil
}

func usage(flags *flag.FlagSet) {
	fmt.Fprint(flags.Output(), `usage: diskprep -plan FILE [-check] [-root DIR] [-disk DISK]...

Makes the disks of this machine what a plan says: partitions, arrays,
containers, volumes, file systems, mounts. It ERASES the disks.

`)
	flags.PrintDefaults()
	fmt.Fprint(flags.Output(), `
EXIT STATUS
  0  done, or with -check: could be done
  1  something failed after the disks were touched
  2  nothing was touched: usage, a plan that can't be read or doesn't fit
`)
}
