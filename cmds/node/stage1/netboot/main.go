// Netboot brings the network up as init does, for a person in the rescue
// shell: interface, link, lease.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	fs := flag.NewFlagSet("netboot", flag.ExitOnError)
	iface := fs.String("i", "", "interface `NAME`, or auto (default: as the kernel command line says)")
	timeout := fs.Duration("timeout", time.Minute, "how long to try for a lease")
	fs.Parse(os.Args[1:])
	if fs.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: netboot [-i INTERFACE] [-timeout TIME]")
		os.Exit(2)
	}
	if err := run(context.Background(), os.Stdout, *iface, *timeout); err != nil {
		fmt.Fprintf(os.Stderr, "netboot: %v\n", err)
		os.Exit(1)
	}
}
