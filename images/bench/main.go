// Bench measures the chain between hosts in network namespaces of one machine
// and beside it, in the same run, the programs that it is compared with. It
// is what `make bench` runs, as root. docs/performance.md says how to read
// what it prints.
//
// EXIT STATUS: 0 all was measured (with --strict: and no target is missed);
// 1 something could not be measured or, with --strict, a target is missed;
// 2 usage; 130 interrupted.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kamethod/kamethod/images/bench/crowd"
	"github.com/kamethod/kamethod/images/bench/lab"
)

func main() {
	if order := os.Getenv(crowd.Env); order != "" { // this process is the clients of part h
		if err := crowd.Main(order, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "crowd:", err)
			os.Exit(1)
		}
		return
	}
	o, err := parse(os.Args[1:], os.Stderr)
	if err != nil {
		os.Exit(usageStatus(err))
	}
	if err := lab.Isolate(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the program at once
	err = bench(ctx, o, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
	}
	os.Exit(exitStatus(ctx, err))
}
