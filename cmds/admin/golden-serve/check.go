package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/kamethod/kamethod/golden"
)

const checkText = `Reads every piece of the images in DIR, compares it with its hash, and reads the
lists of files. Names each piece that is missing or broken, and the files that
have a share in it. It changes nothing. A save of the same machine writes broken
pieces anew.

EXIT STATUS
  0    all images are as they were saved
  1    something is missing or broken, or DIR holds no whole image
  2    nothing was started: usage, or DIR is no folder with images
  130  interrupted
`

func checkImagesCommand() *cobra.Command {
	var name, output string
	c := &cobra.Command{
		Use:   "check DIR",
		Short: "Check saved images, piece by piece",
		Long:  checkText,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if output != "" && output != "json" {
				return fmt.Errorf("output %q: want json", output)
			}
			return checkImages(cmd.Context(), args[0], name, output)
		},
	}
	c.Flags().StringVar(&name, "name", "", "only this image; default: all")
	c.Flags().StringVarP(&output, "output", "o", "", "json")
	return c
}

func checkImages(ctx context.Context, dir, name, output string) error {
	watch, stop := checkWatch(os.Stderr)
	r, err := golden.CheckImages(ctx, dir, name, watch)
	stop()
	switch {
	case errors.Is(err, golden.ErrNoImages):
		return err
	case err != nil:
		return failed{err}
	}
	if output == "json" {
		b, err := json.MarshalIndent(r, "", "\t")
		if err == nil {
			_, err = fmt.Println(string(b))
		}
		if err != nil {
			return failed{err}
		}
	} else {
		printCheck(os.Stdout, r)
	}
	if !r.Whole() {
		return failed{fmt.Errorf("%s: not all is as it was saved", dir)}
	}
	return nil
}

func printCheck(w io.Writer, r *golden.CheckReport) {
	for _, b := range r.Broken {
		fmt.Fprintln(w, "broken:", b)
	}
	for _, i := range r.Images {
		switch {
		case i.Error != "":
			fmt.Fprintf(w, "image %s: BROKEN: %s\n", i.Name, i.Error)
			continue
		case i.Broken > 0 || len(i.Affected) > 0:
			fmt.Fprintf(w, "image %s: BROKEN: %d of %d pieces\n", i.Name, i.Broken, i.Pieces)
		default:
			fmt.Fprintf(w, "image %s: whole: %s in %d pieces, %s\n", i.Name, size(i.Bytes), i.Pieces, i.Verdict)
		}
		for _, name := range i.Affected {
			fmt.Fprintf(w, "image %s: affected: %s\n", i.Name, printable(name))
		}
		if i.More > 0 {
			fmt.Fprintf(w, "image %s: affected: and %d more\n", i.Name, i.More)
		}
	}
	fmt.Fprintf(w, "%d pieces, %s on the disk\n", r.Pieces, size(r.Bytes))
	if r.Unused > 0 {
		fmt.Fprintf(w, "%d pieces more, %s, belong to no image: they are of a save that was interrupted, or of an image that was replaced\n", r.Unused, size(r.Garbage))
	}
}

// printable is a file's name, quoted where a terminal would be told things.
func printable(name string) string {
	if q := strconv.Quote(name); q != `"`+name+`"` {
		return q
	}
	return name
}

// checkWatch prints how far a check is.
func checkWatch(w *os.File) (tell func(done, all int), stop func()) {
	every, end := watchEvery, "\n"
	if term.IsTerminal(int(w.Fd())) {
		every, end = 500*time.Millisecond, "\r"
	}
	last, said := time.Now(), false
	tell = func(done, all int) {
		if time.Since(last) >= every {
			last, said = time.Now(), true
			fmt.Fprintf(w, "checking: %d of %d pieces    %s", done, all, end)
		}
	}
	return tell, func() {
		if said && end == "\r" {
			fmt.Fprintln(w)
		}
	}
}
