// Modprobe loads a kernel module and what it needs. The kernel itself calls
// it as /sbin/modprobe (CONFIG_MODPROBE_PATH) when it wants a file system, a
// cipher or a protocol that isn't built in.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"

	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
)

func main() {
	fs := flag.NewFlagSet("modprobe", flag.ExitOnError)
	quiet := fs.Bool("q", false, "say nothing when there is no such module")
	verbose := fs.Bool("v", false, "print each module that was loaded")
	resolve := fs.Bool("R", false, "only print the modules that the name stands for")
	fs.Parse(os.Args[1:])
	if fs.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: modprobe [-q] [-v] [-R] NAME-OR-ALIAS [PARAMETER=VALUE]...")
		os.Exit(2)
	}
	err := run(fs.Arg(0), fs.Args()[1:], *verbose, *resolve)
	if err == nil {
		return
	}
	if !*quiet || !errors.Is(err, drivers.ErrNotFound) {
		fmt.Fprintf(os.Stderr, "modprobe: %v\n", err)
	}
	os.Exit(1)
}
