// Demo clones a golden Debian root to NODES (2) virtual machines that boot
// from the network, lets them boot from their disks, and compares. It is what
// `make demo` runs, as root, from the top of the repository.
//
// Environment: NODES; KEEP=1 keeps the disks; ACCEL names QEMU's accelerator
// (tcg); KIND=cloud takes the smaller golden root.
//
// EXIT STATUS: 0 every clone is right, 1 something is not, 130 interrupted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	go func() { // the second Ctrl-C kills, should cleaning up hang
		<-ctx.Done()
		stop()
	}()
	err := demo(ctx)
	switch {
	case err == nil:
		return
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(os.Stderr, "demo: interrupted")
		os.Exit(130)
	}
	fmt.Fprintln(os.Stderr, "demo:", err)
	os.Exit(1)
}
