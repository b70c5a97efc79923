// Karecv receives what golden-serve send sends, while passing it on to the
// next receiver. It runs on any Linux, and in the images.
//
//	karecv [-s NAME] [-h HOST] [--plain] [--out PATH]
//
// EXIT STATUS: 0 all is here and its hash is golden's; 1 it is not, the cause
// is named; 2 nothing was started (usage, no key, no golden node).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	var o options
	f := flags(&o)
	if err := f.Parse(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(0)
		}
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	if err := run(ctx, o, f.Args(), os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "karecv:", err)
		os.Exit(status(err))
	}
}
