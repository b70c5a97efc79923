package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
)

const nodesExit = `
EXIT STATUS
  0    the list was printed
  2    there is none: no golden-serve of this session answers, and none has
       left a journal; the nodes file is wrong, and file, line and word are
       named; or usage
`

const armExit = `
EXIT STATUS
  0    all of these machines are what was asked for
  2    none of them is: an address is malformed, a machine can't be armed or
       disarmed now, no golden-serve of this session answers; or usage. Or
       all are, but golden could not write it down: it says so
`

func nodesCommand() *cobra.Command {
	var o admin
	var file nodesFile
	c := &cobra.Command{
		Use:   "nodes [-s NAME] | nodes FILE | nodes --add FILE [MAC...]",
		Short: "List the machines of a session, and how far each is; check a nodes file, or add machines to it",
		Long: "List the machines that have to do with a session, and how far each is: seen, armed, booting, cloning, done\n" +
			"or failed. The golden-serve that runs is asked; where none does, the list is what the last one of this\n" +
			"session has left in its journal, and that is said.\n\n" +
			"With a nodes FILE (YAML, see clone --nodes-file): check and print it. With --add FILE: add the machines of that\n" +
			"list to it, or those that are named, each with the next free node_id, a name by --hostname, and the label local:\n" +
			"who is in the file with another label is cloned to without a question. All else in it stays as it is.\n" + nodesExit,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.checkOutput(); err != nil {
				return err
			}
			if done, err := file.file(cmd.Context(), &o, args); done || err != nil {
				return err
			}
			return o.nodes(cmd.Context())
		},
	}
	o.add(c)
	file.flags(c)
	c.Flags().StringVarP(&o.output, "output", "o", "", "json")
	return c
}

func armCommand() *cobra.Command {
	var o admin
	c := &cobra.Command{
		Use:   "arm MAC...",
		Short: "Have machines boot the image at their next network boot",
		Long: "Have machines boot the image at their next network boot, in the session that runs: further ones, beyond its\n" +
			"-n N where there is no room, or once more those that are done or have failed. They have --arm-for of that\n" +
			"golden-serve to begin, and the session waits for them as long.\n\n" +
			"It gives no consent: their disks are shown and asked for like those of all others, also where they were\n" +
			"before (not with --yes or --macs: then who is named has consented for them).\n" + armExit,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.change(cmd.Context(), golden.Admin.Arm, args)
		},
	}
	o.add(c)
	c.Flags().StringVarP(&o.output, "output", "o", "", "json")
	return c
}

func disarmCommand() *cobra.Command {
	var o admin
	var all bool
	c := &cobra.Command{
		Use:   "disarm MAC... | --all",
		Short: "Have machines boot their own disks at their next network boot",
		Long: "Take the image from machines, in the session that runs. They aren't armed again by coming; arm does that.\n" +
			"One that waits to be confirmed is sent away. One whose disk is being written can't be disarmed.\n" + armExit,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all != (len(args) == 0) {
				return errors.New("disarm whom? give addresses, or --all")
			}
			if all {
				return o.change(cmd.Context(), func(a golden.Admin, ctx context.Context, _ []string) (golden.Nodes, error) { return a.DisarmAll(ctx) }, nil)
			}
			return o.change(cmd.Context(), golden.Admin.Disarm, args)
		},
	}
	o.add(c)
	c.Flags().BoolVar(&all, "all", false, "all machines whose disks aren't being written; and none is armed by coming any more in this session")
	c.Flags().StringVarP(&o.output, "output", "o", "", "json")
	return c
}

func (o *admin) checkOutput() error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	return nil
}

// nodes asks who runs, or else reads what is left.
func (o *admin) nodes(ctx context.Context) error {
	n, err := o.list(ctx)
	if err != nil {
		return err
	}
	return o.print(os.Stdout, n)
}

func (o *admin) list(ctx context.Context) (golden.Nodes, error) {
	a, err := o.client()
	var n golden.Nodes
	if err == nil {
		n, err = a.Nodes(ctx)
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, golden.ErrNotRunning) {
		why := err
		if n, err = golden.SavedNodes(stateDir(), o.session); err != nil {
			return n, fmt.Errorf("%w; and %w", why, err)
		}
		fmt.Fprintf(os.Stderr, "no golden-serve of session %s answers: this is what the last one has left at %s\n", o.session, n.Written.Local().Format(time.DateTime))
	}
	return n, err
}

func (o *admin) change(ctx context.Context, verb func(golden.Admin, context.Context, []string) (golden.Nodes, error), macs []string) error {
	if err := o.checkOutput(); err != nil {
		return err
	}
	a, err := o.client()
	if err != nil {
		return err
	}
	n, err := verb(a, ctx, macs)
	if err != nil {
		return err
	}
	return o.print(os.Stdout, n)
}

func (o *admin) print(w io.Writer, n golden.Nodes) error {
	if o.output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		return e.Encode(n)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "MAC\tSTATE\tSINCE\tNODE\tADDRESS\tFIRMWARE\tNAME OR UUID\tLAST\tERROR")
	for _, m := range n.Machines {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.MAC, state(m), when(m.Since), dash(number(m.Number)),
			dash(m.Address), dash(m.Arch), dash(m.Name, m.UUID), dash(m.Last), dash(m.Error))
	}
	return t.Flush()
}

// state is the machine's, and what is particular about it.
func state(m golden.Machine) string {
	s := string(m.State)
	for _, x := range []struct {
		holds bool
		text  string
	}{
		{!m.Until.IsZero(), "until " + when(m.Until)},
		{m.Barred, "disarmed"},
		{m.Lost > 0, fmt.Sprintf("lost %d times", m.Lost)},
		{m.Was != "", "was " + string(m.Was)},
	} {
		if x.holds {
			s += ", " + x.text
		}
	}
	return s
}

// when is a time of day, or of another day.
func when(t time.Time) string {
	if t = t.Local(); t.Format(time.DateOnly) != time.Now().Format(time.DateOnly) {
		return t.Format("2006-01-02 15:04")
	}
	return t.Format(time.TimeOnly)
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// dash is the first of these texts that isn't empty.
func dash(texts ...string) string {
	for _, s := range texts {
		if s = strings.TrimSpace(s); s != "" {
			return s
		}
	}
	return "-"
}
