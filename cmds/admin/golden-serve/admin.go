package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// admin are the flags of the verbs that speak to a golden-serve that runs.
type admin struct {
	session, iface, output string
	port                   int
}

func (o *admin) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVarP(&o.session, "session", "s", "kamethod", "name of the session")
	f.StringVar(&o.iface, "interface", "", "network interface of that golden-serve; default: as it has written down")
	f.IntVar(&o.port, "port", 0, "its control port; default: as it has written down")
}

func (o *admin) client() (golden.Admin, error) {
	a := golden.Admin{Session: o.session}
	var err error
	if a.Identity, err = trust.LoadOrCreate(trust.Dir()); err != nil {
		return a, err
	}
	if o.iface == "" && o.port == 0 {
		a.Control, err = golden.Control(stateDir(), o.session)
		return a, err
	}
	if o.port == 0 {
		o.port = wire.ControlPort
	}
	_, addr, err := golden.Interface(o.iface)
	a.Control = net.JoinHostPort(addr.String(), strconv.Itoa(o.port))
	return a, err
}

func goCommand() *cobra.Command {
	var o admin
	c := &cobra.Command{
		Use:   "go [-s NAME]",
		Short: "Have a golden-serve that waits start with the nodes that are there",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			a, err := o.client()
			if err != nil {
				return err
			}
			return a.Go(cmd.Context())
		},
	}
	o.add(c)
	return c
}

func statusCommand() *cobra.Command {
	var o admin
	c := &cobra.Command{
		Use:   "status [-s NAME]",
		Short: "Say how far a golden-serve is",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.status(cmd.Context()) },
	}
	o.add(c)
	c.Flags().StringVarP(&o.output, "output", "o", "", "json")
	return c
}

func (o *admin) status(ctx context.Context) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q: want json", o.output)
	}
	a, err := o.client()
	if err != nil {
		return err
	}
	s, err := a.Status(ctx)
	if err != nil {
		return err
	}
	if o.output == "json" {
		b, err := json.MarshalIndent(s, "", "\t")
		_, werr := fmt.Fprintln(os.Stdout, string(b))
		return errors.Join(err, werr)
	}
	fmt.Printf("session %s: %s\n", o.session, s.Phase)
	for _, n := range s.Nodes {
		fmt.Printf("node %-3d %-21s %s", n.Number, n.Name, n.State)
		if s.Bytes > 0 {
			fmt.Printf(" %d %%", n.Stored*100/s.Bytes)
		}
		if n.Rejoined {
			fmt.Print(" rejoined")
		}
		fmt.Println()
	}
	return nil
}
