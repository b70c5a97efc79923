package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/templates"
)

// nodesFile are the flags of golden-serve nodes that are about a nodes file.
type nodesFile struct {
	check, add, label, hostname string
	networks                    []string
}

func (o *nodesFile) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.check, "check", "", "check and print this nodes file (as FILE does)")
	f.StringVar(&o.add, "add", "", "add to this nodes file the machines of the session, or those that are named, if they aren't in it")
	f.StringSliceVar(&o.networks, "network", nil, "its addresses have to be in this network, 10.0.1.0/24; repeated; default: that of --interface")
	f.StringVar(&o.label, "label", templates.LabelLocal, "label of those that are added")
	f.StringVar(&o.hostname, "hostname", "node%d", "their names, %d or %03d is their node_id")
}

// file does what the flags and arguments say of a file; false: nothing.
func (o *nodesFile) file(ctx context.Context, a *admin, args []string) (bool, error) {
	switch {
	case o.add != "" && o.check != "":
		return true, errors.New("--check and --add: one of them, --add checks too")
	case o.add != "":
		return true, o.addTo(ctx, a, args)
	case o.check != "" && len(args) == 0:
		args = []string{o.check}
	case o.check != "" || len(args) > 1:
		return true, fmt.Errorf("one nodes file at a time, not %s", strings.Join(append(args, o.check), " "))
	}
	if len(args) == 0 {
		return false, nil
	}
	networks, err := o.within(a.iface)
	if err != nil {
		return true, err
	}
	list, err := golden.CheckNodes(args[0], networks)
	if err != nil {
		return true, err
	}
	return true, printNamed(os.Stdout, list, a.output)
}

func (o *nodesFile) within(iface string) ([]netip.Prefix, error) {
	if len(o.networks) == 0 && iface != "" {
		return golden.NetworksOf(iface)
	}
	var out []netip.Prefix
	for _, s := range o.networks {
		p, err := netip.ParsePrefix(s)
		if err != nil || p.Masked() != p {
			return nil, fmt.Errorf("network %q: want one such as 10.0.1.0/24", s)
		}
		out = append(out, p)
	}
	return out, nil
}

func (o *nodesFile) addTo(ctx context.Context, a *admin, macs []string) error {
	if !templates.IsLabel(o.label) {
		return fmt.Errorf("label %q: want %s", o.label, strings.Join(templates.Labels(), ", "))
	}
	n, err := a.list(ctx)
	if err != nil && len(macs) == 0 {
		return err
	}
	added, err := golden.AddNodes(o.add, golden.Newcomers{Seen: n.Machines, MACs: macs, Label: o.label, Hostname: o.hostname})
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%d added to %s\n", len(added), o.add)
	if len(added) == 0 && a.output == "" {
		return nil
	}
	return printNamed(os.Stdout, added, a.output)
}

func printNamed(w io.Writer, list []golden.Named, output string) error {
	if output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "\t")
		return e.Encode(list)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE_ID\tMAC\tNAME\tADDRESS\tLABEL\tSTAGE 2\tNOTE")
	for _, n := range list {
		var addrs []string
		for _, a := range n.Addresses {
			addrs = append(addrs, a.String())
		}
		label, from := n.Label, ""
		if label == "" {
			label = templates.LabelKAMethod
		}
		if templates.NeedsServer(label) {
			from = cmp.Or(n.Server, "boot server") + ":" + cmp.Or(n.Directory, "/")
		}
		fmt.Fprintf(t, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", n.Number, n.MAC, dash(n.Name), dash(strings.Join(addrs, ",")), label, dash(from), dash(n.Note))
	}
	return t.Flush()
}
