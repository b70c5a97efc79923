// Init is the first process of stage 2, which runs from RAM: it loads the
// storage drivers, keeps the network as stage 1 left it, and runs clone.
//
//	drivers ──▶ network ──▶ clone ──exit 0──▶ reboot
//	                          └────exit ≠ 0──▶ says so, keeps a shell
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kamethod/kamethod/cmds/node/internal/pid1"
)

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: only stage 1 starts this; to boot again type: shutdown -r")
		os.Exit(1)
	}
	pid1.Shield()
	boot(context.Background())
}
