// Init is the first process of stage 1: it brings the machine onto the
// network, gets stage 2 from the golden node and steps into it.
//
//	drivers ──▶ network ──▶ fetch ──▶ mount ──▶ switch ──▶ stage 2's init
//
// Any stage may be the last: then it says which and why, and keeps a shell.
// Only a golden node that nobody can find makes the machine boot again.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kamethod/kamethod/cmds/node/internal/pid1"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: only the kernel starts this; to boot again type: shutdown -r")
		os.Exit(1)
	}
	pid1.Shield()
	boot(context.Background())
}
