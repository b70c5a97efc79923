// Treecmp compares a golden root with a clone: with another directory, or
// with a disk image whose partitions are named with their mount points.
//
//	treecmp GOLDEN CLONE-DIR
//	treecmp GOLDEN DISK.img 1=/ 6=/home x=/srv/scratch
//
// x=DIR says that golden-serve was told to leave DIR empty (-x).
//
// EXIT STATUS: 0 nothing differs but what must, 1 something else differs,
// 2 they could not be compared.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/kamethod/kamethod/images/compare"
)

func main() {
	if len(os.Args) < 3 {
		fmt.Fprintln(os.Stderr, "usage: treecmp GOLDEN CLONE-DIR | GOLDEN DISK.img PART=MOUNTPOINT... [x=DIR]")
		os.Exit(2)
	}
	report, err := compare.Run(context.Background(), os.Args[1], os.Args[2], os.Args[3:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "treecmp:", err)
		os.Exit(2)
	}
	report.Print(os.Stdout)
	if len(report.Differences) > 0 {
		os.Exit(1)
	}
}
