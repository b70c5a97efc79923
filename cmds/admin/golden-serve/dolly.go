package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// dollyFlags are those of clone that boot machines, and a few of its own.
type dollyFlags struct {
	cloneFlags
	file   string
	mounts []string
	far    bool
}

func dollyCommand() *cobra.Command {
	var o dollyFlags
	c := &cobra.Command{
		Use:   "dolly -f dolly.cfg",
		Short: "Copy disks, partitions and files to the machines that a file of Dolly or Dolly+ names",
		Long: "Copy disks, partitions and files to the machines that a file of Dolly or Dolly+ names.\n" +
			"THE DISKS THAT IT NAMES ARE OVERWRITTEN ON THOSE MACHINES, after they were listed and you said yes.\n\n" +
			"  golden-serve dolly -v -f dolly.cfg\n\n" +
			"The old lines dolly -s -v -f dolly.cfg and dollyS -v -f dolly.cfg are taken with golden-serve dolly\n" +
			"before their options: a -s that no name follows is Dolly's \"server\", which is understood here.\n",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.profiled(func() error { return o.run(cmd.Context()) })
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.file, "file", "f", "", "file of Dolly (infile, outfile) or Dolly+ (iofiles) (required)")
	o.add(f)
	if err := f.MarkHidden("nodes"); err != nil {
		panic("BUG: " + err.Error()) // the flag is of the line before
	}
	f.StringArrayVar(&o.mounts, "mount", nil, "PARTITION=FOLDER: mount a partition of the nodes for what is put into that folder: sda1=/boot; repeated")
	f.BoolVar(&o.far, "allow-far-links", false, "symbolic links in archives may point out of the folder (nothing is written through them)")
	f.StringVar(&o.macs, "macs", "", "file with the network card addresses of the machines, one a line: others are not booted, and these are not asked for")
	f.StringVar(&o.who.nodes, "nodes-file", "", "YAML file with machines: names of the clients are looked up there first; where it has all of them, these are not asked for (one with label local is refused, other labels don't count)")
	f.IntVarP(&o.delay, "delay", "d", 0, "between the release of two nodes, in tenths of a second")
	f.DurationVar(&o.linger, "linger", 3*time.Minute, "after the release, answer the nodes' network boots with their own disks for so long at most")
	f.DurationVar(&o.armFor, "arm-for", 0, "a machine that boots from here has so long to come; default: 30m, or --wait if that is longer")
	f.BoolVar(&o.yes, "yes", false, "write to the disks of the named machines without asking")
	o.addBoot(f)
	f.Lookup("force").Usage = "send infiles that are mounted or otherwise in use; with --dhcp full also: be the DHCP server although another one answers"
	return c
}

// withoutServer takes the -s of Dolly's own line away, "this is the server": no
// name follows it, as one follows ours.
func withoutServer(args []string) []string {
	var out []string
	for i, a := range args {
		if a == "-s" && (i+1 == len(args) || strings.HasPrefix(args[i+1], "-")) {
			continue
		}
		out = append(out, a)
	}
	return out
}

func (o *dollyFlags) run(ctx context.Context) error {
	if o.file == "" {
		return errors.New("which file? give -f dolly.cfg")
	}
	if err := o.readNodes(); err != nil {
		return err
	}
	d, err := golden.OpenDolly(ctx, golden.DollyOptions{
		File: o.file, Mounts: o.mounts, Force: o.force, FarLinks: o.far, Named: o.who.named, Log: newLog(os.Stderr, o.verbose),
	})
	if err != nil {
		return err
	}
	defer d.Close()
	o.nodes = d.Nodes()
	c, done, err := o.prepareDolly(d)
	if err != nil {
		return err
	}
	defer done()
	printDolly(os.Stderr, d)
	v := newView(o.verbose)
	v.show(&c)
	r, err := golden.Clone(ctx, c)
	v.stop()
	return o.finish(r, err)
}

// prepareDolly makes what clone makes of its flags.
func (o *dollyFlags) prepareDolly(d *golden.Dolly) (c golden.CloneConfig, done func(), err error) {
	done = func() {}
	if c.Config, err = o.config(); err != nil {
		return c, nil, err
	}
	token, err := dollyToken()
	if err != nil {
		return c, nil, err
	}
	named := o.who.named
	o.who.named = nil // they boot if the file names them
	if c.Boot, err = o.boot(); err != nil {
		return c, nil, err
	}
	o.who.named = named
	if c.Boot.MACs == nil {
		c.Boot.MACs = d.MACs()
	}
	c.Boot.LeaseFile = leaseFile(c.Log)
	c.Plan, c.Tree, c.Fetch, c.Wants, c.Fits = d.Plan, d.Source(), d.Fetch, d.Wants(), d.Fits
	c.Delay, c.Linger, c.ArmFor, c.Confirm = time.Duration(o.delay)*100*time.Millisecond, o.linger, o.armFor, o.confirmDolly(d)
	if !d.Fetch {
		stage2, err := stream.OpenImage(0, filepath.Join(o.images, "rescue.sqfs"))
		if err != nil {
			return c, nil, fmt.Errorf("%w (make image makes it; --images names its folder)", err)
		}
		c.Stage2, done = stage2, func() { stage2.Close() }
	}
	o.report = defaultReport(o.report, o.session, c.Log)
	if err := o.takeUp(&c.Config, c.Tree, token, d.Plan); err != nil {
		done()
		return c, nil, err
	}
	return c, done, nil
}

// dollyToken is the join token of all sessions of dolly: one file may send stage
// 2 and the next one disks, and the nodes know golden by the same word then. It
// stands on boot lines, which anybody on the network can read, so it is not
// send's.
func dollyToken() (string, error) {
	return trust.LoadOrCreateToken(filepath.Join(trust.Dir(), "dolly"))
}

// confirmDolly asks as clone does, and says what is written.
func (o *dollyFlags) confirmDolly(d *golden.Dolly) func([]*golden.Node) error {
	return func(nodes []*golden.Node) error {
		fmt.Fprintf(os.Stderr, "\nTo be written on each: %s\n", strings.Join(outfiles(d.Plan), ", "))
		if d.MACs() == nil {
			o.who.nodes = "" // names alone are no consent: who says an address or a name may be anybody
		}
		return o.confirm(nodes)
	}
}

func outfiles(p wire.Plan) []string {
	var out []string
	for _, c := range p.Copies {
		out = append(out, c.To)
	}
	return out
}

// printDolly says what goes where, before anything is started.
func printDolly(w io.Writer, d *golden.Dolly) {
	fmt.Fprintf(w, "%d machines get:\n", d.Nodes())
	for _, c := range d.Plan.Copies {
		how := "as it is"
		if f := (archive.Form{Archive: c.Archive, Packing: c.Packing}); c.Cooked() {
			how = "unpacked (" + f.String() + ")"
		}
		fmt.Fprintf(w, "  %s -> %s, %s, %s\n", c.From, c.To, how, size(c.Bytes))
	}
	for _, m := range d.Plan.Mounts {
		fmt.Fprintf(w, "  %s is mounted on %s\n", m.Device, m.At)
	}
	for _, n := range d.Notes {
		fmt.Fprintln(w, "  note:", n)
	}
}
