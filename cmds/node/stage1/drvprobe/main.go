// Drvprobe loads a driver for every device of the machine, as lspcidrake and
// drvinst did, and prints each device with its names and its driver, or why
// it has none.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
)

func main() {
	fs := flag.NewFlagSet("drvprobe", flag.ExitOnError)
	dry := fs.Bool("n", false, "load nothing, only print what would be loaded")
	every := fs.Bool("a", false, "print all devices, those of the board that need no driver too")
	fs.Parse(os.Args[1:])
	if fs.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: drvprobe [-n] [-a]")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Stdout, *dry, *every); err != nil {
		fmt.Fprintf(os.Stderr, "drvprobe: %v\n", err)
		os.Exit(1)
	}
}
