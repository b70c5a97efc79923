package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/trust"
)

// runFlags are those of clone that boot machines and say who they are, and a
// few of its own.
type runFlags struct {
	cloneFlags
	render     string
	swap, stay bool
}

func runCommand() *cobra.Command {
	var o runFlags
	o.who.diskless = true
	c := &cobra.Command{
		Use:   "run -n N PATH",
		Short: "Boot N machines from the network that run PATH in their memory: a folder, a squashfs or an ext image",
		Long: "Boot N machines from the network that run PATH in their memory: a folder, a squashfs or an ext image.\n" +
			"No disk is touched. Each has its own name, node_id, ssh host keys and machine-id.\n\n" +
			"  make diskless PACKAGES=htop KEYS=~/.ssh/id_ed25519.pub\n" +
			"  golden-serve run -n 3 images/diskless.sqfs\n\n" +
			"A machine that boots again gets it again, as long as golden-serve runs: see --stay.\n",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.profiled(func() error { return o.run(cmd.Context(), args[0]) })
		},
	}
	f := c.Flags()
	f.SortFlags = false
	o.add(f)
	o.addSnapshot(f, "off")
	f.BoolVar(&o.stay, "stay", false, "go on when all machines run, and serve those that boot again, until interrupted")
	f.BoolVar(&o.swap, "swap", false, "use the swap areas that are on the machines' own disks (ka.swap=local); nothing else is written there")
	f.StringVar(&o.hostname, "hostname", "node%d", "the machines' names, %d or %03d is the node's number")
	f.StringVar(&o.who.nodes, "nodes-file", "", "YAML file with the machines that run it, and their names and addresses (instead of --macs); -n defaults to their number")
	f.StringVar(&o.macs, "macs", "", "file with the network card addresses of the machines that run it, one a line; default: the first N that boot")
	f.StringVar(&o.render, "render", "", "folder with files that each machine gets, those called *.tmpl filled in (docs/diskless.md); besides /etc/hosts and /etc/kerrighed_nodes")
	f.StringVar(&o.who.known, "known-hosts", "", "add the machines' ssh host keys to this file; default: one in "+filepath.Join(stateDir(), "known_hosts"))
	o.addBoot(f)
	return c
}

func (o *runFlags) run(ctx context.Context, path string) error {
	if path == "-" {
		return errors.New("standard input can't be run: give a folder or an image")
	}
	if err := o.readNodes(); err != nil {
		return err
	}
	cfg, err := o.config()
	if err != nil {
		return err
	}
	token, err := trust.NewToken()
	if err != nil {
		return err
	}
	boot, err := o.boot()
	if err != nil {
		return err
	}
	boot.LeaseFile = leaseFile(cfg.Log)
	snapshot, err := o.wantsSnapshot()
	if err != nil {
		return err
	}
	if err := golden.Runnable(path); err != nil {
		return err
	}
	src, err := openSource(ctx, path, snapshot, cfg)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := o.takeUp(&cfg, src, token, o.who.named); err != nil {
		return err
	}
	v := newView(o.verbose)
	cfg.Watch, cfg.Log = v.watch, v.log
	r, err := golden.Run(ctx, golden.RunConfig{
		Config: cfg, Source: src, Boot: &boot, Named: o.who.named, Hostname: o.hostname, Render: o.render,
		Swap: o.swap, Stay: o.stay, Open: o.dhcp == "off",
	})
	v.stop()
	r.Touched = r.Bytes > 0
	o.knownHosts(os.Stderr, r)
	if err == nil {
		for _, n := range r.Nodes {
			if n.Error == "" {
				fmt.Fprintf(os.Stderr, "node %d runs as %s at %s\n", n.Number, n.Hostname, n.Address)
			}
		}
	}
	return o.finish(r, err)
}
