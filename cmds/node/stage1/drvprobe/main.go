// Drvprobe loads a driver for every device of the machine, prints what it
// loaded and which devices are left without.
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
	every := fs.Bool("a", false, "name all devices without a driver, the board's own too")
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
