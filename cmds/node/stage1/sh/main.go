// Sh runs shell scripts: what scripts and programs mean by sh. It isn't the
// shell that a person types into: that is gosh, which it becomes where there is
// nothing to run. A script that comes by standard input is read whole. Of the
// shell's language it knows what mvdan.cc/sh does.
//
//	sh [-eux…] [-c COMMAND [NAME [ARGUMENT]…] | FILE [ARGUMENT]… | -s]
//
// EXIT STATUS: the script's; 2 it can't be read, or is none; 127 no such file.
package main

import "os"

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
