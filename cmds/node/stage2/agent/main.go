// Agent runs programs in stage 2 as the administrator says (golden-serve
// exec), and tells golden what is on this machine's console. Stage 2's init
// starts it and keeps it running. It obeys the golden node's key alone.
//
// EXIT STATUS: 0 it was told to end; 1 there is nothing to go by: no state of
// stage 1, no key.
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
	f := flag.NewFlagSet("agent", flag.ExitOnError)
	state := f.String("state", handover.Path, "what stage 1 left, a JSON `file`")
	kmsg := f.String("kmsg", "/dev/kmsg", "the kernel's log, a `file`; empty: golden isn't told of the console")
	verbose := f.Bool("v", false, "say more")
	_ = f.Parse(os.Args[1:]) // ExitOnError
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *state, *kmsg, *verbose, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}
