// Soak plays random combinations of faults, each from a seed that it prints,
// and goes on after a broken one.
//
//	go run ./images/faults/soak [-n 200] [-first SEED] [-without NAME,NAME]
//	go run ./images/faults/soak -seed SEED     play one again, with all logs
//
// EXIT STATUS: 0 no invariant was broken; 1 some were; 2 it could not run.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kamethod/kamethod/images/faults"
)

func main() {
	if status, ok := faults.Isolate(); ok {
		os.Exit(status)
	}
	var o options
	flag.IntVar(&o.n, "n", 200, "how many combinations")
	flag.Uint64Var(&o.first, "first", 0, "the first `seed`; 0: a random one")
	flag.Uint64Var(&o.seed, "seed", 0, "play the combination of this `seed` only")
	flag.StringVar(&o.without, "without", "", "leave these faults out, `NAME,NAME`")
	flag.IntVar(&o.nodes, "nodes", 0, "so many nodes, instead of 5 or 20")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	broken, err := soak(ctx, o)
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(2)
	case broken > 0:
		os.Exit(1)
	}
}
