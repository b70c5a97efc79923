package main

import (
	"errors"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/kamethod/kamethod/golden"
)

func descCommand() *cobra.Command {
	asYAML := false
	c := &cobra.Command{
		Use:   "desc [DISK]",
		Short: "Print the layout of a disk, for -p",
		Long: "Print the layout of a disk, or of a disk in an image file, as -p takes it: as a desc, or with --yaml as a\n" +
			"layout file, which also says what is on each partition. --yaml without a disk prints all disks of this\n" +
			"machine, and what is made of them.\n" +
			"\nEXIT STATUS\n  0    it is printed\n  2    the disk has no layout that a clone could be given; the reason is told\n",
		Example: "  golden-serve desc sda > /tmp/desc\n" +
			"  golden-serve desc --yaml > /tmp/layout.yaml\n",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var text string
			var err error
			switch {
			case asYAML:
				disk := ""
				if len(args) == 1 {
					disk = args[0]
				}
				text, err = golden.DescYAML(cmd.Context(), disk, newLog(os.Stderr, false))
			case len(args) == 0:
				return errors.New("desc: want a disk, such as sda (desc --yaml describes all)")
			default:
				text, err = golden.Desc(args[0])
			}
			if err == nil {
				_, err = io.WriteString(cmd.OutOrStdout(), text)
			}
			return err
		},
	}
	c.Flags().BoolVar(&asYAML, "yaml", false, "print a layout file in place of a desc")
	return c
}
