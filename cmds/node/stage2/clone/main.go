// Clone is the whole replication on a node in stage 2: it registers with the
// golden node, prepares the disks by golden's plan, receives the golden node's
// files while passing them on, makes them a machine of its own, reports, and
// waits for its release. Stage 2's init runs it, and reboots when it succeeds.
//
// EXIT STATUS: 0 this machine is a clone: reboot it; 1 it is not: the stage
// and the cause are named here and at the golden node; 75 no golden node was
// found, and nothing has been touched: boot again.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
)

func main() {
	f := flag.NewFlagSet("clone", flag.ExitOnError)
	state := f.String("state", handover.Path, "what stage 1 left, a JSON `file`")
	root := f.String("root", "/mnt/disk", "`folder` to mount the clone under")
	_ = f.Parse(os.Args[1:]) // ExitOnError
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	if err := run(ctx, *state, *root, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "clone:", err)
		os.Exit(exitStatus(err))
	}
}
