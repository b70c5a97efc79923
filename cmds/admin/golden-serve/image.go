package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/pflag"

	"github.com/kamethod/kamethod/golden"
)

// imageFlags name a saved image in place of this machine.
type imageFlags struct {
	dir, name string
	noCheck   bool
}

func (o *imageFlags) add(f *pflag.FlagSet) {
	f.StringVar(&o.dir, "image", "", "folder with a saved image (golden-serve save), which is taken in place of this machine")
	f.StringVar(&o.name, "image-name", "", "name of the image; default: the only one there")
}

func (o *imageFlags) check() error {
	if o.name != "" && o.dir == "" {
		return errors.New("--image-name: give --image DIR too")
	}
	if o.noCheck && o.dir == "" {
		return errors.New("--no-check: give --image DIR too")
	}
	return nil
}

// settled are the flags whose say was had when an image was saved.
var settled = []struct{ flag, why string }{
	{"root", "the image is of the root that was saved"},
	{"exclude", "which files the image has was decided when it was saved: golden-serve save -x"},
	{"blocks", "which partitions the image has as blocks was decided when it was saved: golden-serve save -D"},
	{"blocks-sent", "which blocks the image has was decided when it was saved: golden-serve save --blocks-sent"},
	{"boot-record", "this machine's boot record is not the saved one's: give -m to golden-serve save, or a file with -M"},
	{"no-files", "whether the image has files was decided when it was saved: golden-serve save --no-files"},
	{"skip-disk", "which disks the image has was decided when it was saved: golden-serve save -X"},
	{"snapshot", "a saved image doesn't change: give it to golden-serve save"},
}

// describe looks at what is to be cloned: this machine, a folder, or a saved
// image.
func (o *cloneFlags) describe(ctx context.Context, original golden.Original, log *slog.Logger) (*golden.Described, error) {
	if err := o.image.check(); err != nil {
		return nil, err
	}
	if o.image.dir == "" {
		return golden.Describe(ctx, original, log)
	}
	for _, s := range settled {
		if o.flags.Changed(s.flag) {
			return nil, fmt.Errorf("--%s and --image: %s", s.flag, s.why)
		}
	}
	if !o.flags.Changed("loader") {
		original.Loader.Kind = "" // the saved one
	}
	return golden.DescribeSaved(ctx, golden.SavedOriginal{Dir: o.image.dir, Name: o.image.name, NoCheck: o.image.noCheck, Original: original}, log)
}
