// Golden-serve is the golden side: it turns machines that boot from the
// network into copies of this one, or sends a file, a device or a folder to
// many receivers.
//
// EXIT STATUS: 0 all nodes are done and verified; 1 some failed, each is named
// with its stage and cause; 2 nothing was started; 130 interrupted.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	cmd := newCommand()
	cmd.SetArgs(verbFirst(cmd, oneWord(os.Args[1:])))
	err := cmd.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(os.Stderr, "golden-serve:", err)
	}
	os.Exit(exitStatus(ctx, err))
}
