// Nodefix makes the clone that is mounted on this node a machine of its own,
// as the node does by itself after it has received everything: for a person in
// the rescue shell, after a fix-up that failed.
//
//	nodefix -plan plan.json -disks disks.json [-root /mnt/disk] [-number N] [-hostname NAME] [-mac ADDRESS] [-unseal]
//
// A node that fails leaves its EFI system partition without its first sector,
// so that no firmware starts half a system: "nodefix -unseal" with the same two
// files before it is mounted again.
//
// EXIT STATUS: 0 all steps are done; 1 a step failed, it is named; 2 usage.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var o options
	f := flag.NewFlagSet("nodefix", flag.ExitOnError)
	f.StringVar(&o.plan, "plan", "", "the plan that golden made, a JSON `file`")
	f.StringVar(&o.disks, "disks", "", "what became of it on this node, a JSON `file`")
	f.StringVar(&o.root, "root", "/mnt/disk", "`folder` where the clone is mounted")
	f.IntVar(&o.number, "number", 1, "the node's `number`, for its name")
	f.StringVar(&o.mac, "mac", "", "`address` of the network card that booted; default: as stage 1 has written down")
	f.StringVar(&o.hostname, "hostname", "", "the clone's `name`, instead of the plan's")
	f.BoolVar(&o.unseal, "unseal", false, "only give the EFI system partition back its start, so that it can be mounted")
	f.BoolVar(&o.json, "json", false, "print the report as JSON")
	_ = f.Parse(os.Args[1:]) // ExitOnError
	if o.plan == "" || o.disks == "" || f.NArg() > 0 {
		f.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	if err := run(ctx, o, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "nodefix:", err)
		os.Exit(1)
	}
}
