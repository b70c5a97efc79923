// Command diskprep makes the disks of the machine it runs on what a plan says:
// it ERASES them. With -check it says what it would do and writes nothing.
//
//	diskprep -plan plan.json -check
//	diskprep -plan plan.json -root /mnt/disk
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	cfg := config{out: os.Stdout}
	flags := flag.NewFlagSet("diskprep", flag.ContinueOnError)
	flags.StringVar(&cfg.plan, "plan", "", "the plan, a `file` of JSON")
	flags.BoolVar(&cfg.check, "check", false, "say what would be done, and write nothing")
	flags.StringVar(&cfg.root, "root", "/mnt/disk", "the `folder` to mount the new file systems under")
	flags.Func("disk", "use only this `disk` (sda); may be repeated, and name a loop device", cfg.addDisk)
	flags.Usage = func() { usage(flags) }
	if err := flags.Parse(os.Args[1:]); err != nil {
		if err == flag.ErrHelp {
			return
		}
		os.Exit(2)
	}
	code, err := cfg.run(ctx, flags.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "diskprep:", err)
	}
	os.Exit(code)
}
