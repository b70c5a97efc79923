package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/kamethod/kamethod/golden"
)

const saveText = `Save this machine, or a root in a folder, as an image from which machines are
cloned later, without it: golden-serve clone --image DIR. DIR is a new folder, an
empty one, or one with images; what an image there has already isn't written
again. It takes the options with which clone captures a machine.

  golden-serve save /srv/images
  golden-serve save --name lab-2 --root /srv/golden -p sda /tmp/desc /srv/images

Whoever reads DIR reads all files of this machine, its keys and passwords too.
What opens encrypted containers isn't saved: clone --image asks for it. A save
that is interrupted leaves no image; the next one goes on with what is there.

EXIT STATUS
  0    the image is whole, and on the disk
  1    it is not, or files changed all the time while they were saved
       (--allow-torn: 0)
  2    nothing was started: usage, or a plan that is refused
  130  interrupted; there is no new image
`

type saveFlags struct {
	cloneFlags
	name  string
	level string
}

// addCapture adds the flags that say what of which machine is taken.
func (o *cloneFlags) addCapture(f *pflag.FlagSet) {
	o.flags = f
	f.StringVar(&o.root, "root", "/", "clone the system in this folder; default: the running machine")
	o.disk.add(f)
	f.StringArrayVarP(&o.excludes, "exclude", "x", nil, "folder that is recreated empty; repeated, or 'A|B'")
	f.StringArrayVarP(&o.blocks, "blocks", "D", nil, "PARTITION, disk or volume that is copied as blocks, whatever is on it (also PARTITION=FILE with its contents); repeated, or 'sda3|sda4'")
	f.StringVar(&o.blocksHow, "blocks-sent", "auto", "of -D: used, those of its file system; nonzero; raw, all; auto: the fewest that can be")
	f.StringArrayVarP(&o.bootOf, "boot-record", "m", nil, "DISK whose boot record (446 bytes, without the table) is copied, for Windows; repeated, or 'sda|sdb'")
	f.StringArrayVarP(&o.bootFrom, "boot-record-file", "M", nil, "DISK FILE: boot record for the disk, 446 bytes long (also DISK=FILE)")
	f.BoolVar(&o.noFiles, "no-files", false, "clone nothing but -D and -m: a machine with Windows alone, that runs a rescue system now")
}

func saveCommand() *cobra.Command {
	var o saveFlags
	c := &cobra.Command{
		Use:   "save DIR",
		Short: "Save this machine, or a root in a folder, as an image to clone from later",
		Long:  saveText,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.profiled(func() error { return o.save(cmd.Context(), args[0]) })
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.name, "name", golden.DefaultImage, "name of the image; one that is there is replaced when the new one is whole")
	o.addCapture(f)
	o.addSnapshot(f, "auto")
	f.StringVar(&o.level, "compress", "1", "off, or a zstd level from 1 (fastest) to 4 (best)")
	f.BoolVar(&o.allowTorn, "allow-torn", false, "exit status 0 although files changed all the time while they were saved")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say more")
	f.StringVarP(&o.output, "output", "o", "", "json")
	f.StringVar(&o.profile, "cpuprofile", "", "write a profile of the processor's time to this file")
	f.MarkHidden("cpuprofile")
	return c
}

func (o *saveFlags) save(ctx context.Context, dir string) error {
	log := newLog(os.Stderr, o.verbose)
	level, err := o.packing()
	if err != nil {
		return err
	}
	if len(o.disk.passphrases) > 0 {
		return errors.New("--luks-passphrase: an image has no passphrase in it: give it to clone --image")
	}
	o.hostname = "node%d" // whatever: an image doesn't say who its clones are
	original, err := o.original()
	if err != nil {
		return err
	}
	original.ToSave = true
	exclude, err := golden.PrepareSave(dir, o.root)
	if err != nil {
		return err
	}
	if exclude != "" {
		original.Excludes = append(original.Excludes, exclude)
	}
	d, err := golden.Describe(ctx, original, log)
	if err != nil {
		return err
	}
	defer d.Close()
	if d.Tree != nil {
		d.Tree.Spool = spoolDir(log)
	}
	printPlan(os.Stderr, d)
	p := newSaveWatch(os.Stderr)
	s, err := d.Save(ctx, golden.SaveConfig{Dir: dir, Name: o.name, Root: o.root, Level: level, Progress: p.tell})
	p.stop()
	return o.saved(s, err)
}

func (o *saveFlags) packing() (int, error) {
	if o.output != "" && o.output != "json" {
		return 0, fmt.Errorf("output %q: want json", o.output)
	}
	switch o.level {
	case "off":
		return 0, nil
	case "1", "2", "3", "4":
		return int(o.level[0] - '0'), nil
	}
	return 0, fmt.Errorf("compress %q: want off, or 1 to 4", o.level)
}

// saved says how it came out.
func (o *saveFlags) saved(s golden.Saved, err error) error {
	if err != nil {
		fmt.Fprintf(os.Stderr, "image %s is not saved; golden-serve save %s goes on with what is there\n", s.Name, s.Dir)
		return failed{err}
	}
	for _, name := range s.Torn {
		fmt.Fprintln(os.Stderr, "torn:", name)
	}
	fmt.Fprintln(os.Stderr, "verdict:", s.Summary())
	fmt.Fprintf(os.Stderr, "image %s in %s: %s in %d pieces, of which %d (%s) were written, %.0f s\n",
		s.Name, s.Dir, size(s.Bytes), s.Pieces, s.Added+s.Mended, size(s.Written), s.Seconds)
	if s.Mended > 0 {
		fmt.Fprintf(os.Stderr, "%d pieces were there and broken, and are mended: golden-serve check %s looks at the others\n", s.Mended, s.Dir)
	}
	if o.output == "json" {
		b, err := json.MarshalIndent(s, "", "\t")
		if err == nil {
			_, err = fmt.Println(string(b))
		}
		if err != nil {
			return failed{err}
		}
	}
	if len(s.Torn) > 0 && !o.allowTorn {
		return failed{fmt.Errorf("the image is saved, but %d files changed all the time (--allow-torn lets that be)", len(s.Torn))}
	}
	return nil
}

// saveWatch prints how far a save is: over and over in one line on a terminal,
// a line now and then elsewhere.
type saveWatch struct {
	w     io.Writer
	every time.Duration
	begun time.Time
	end   string

	mu   sync.Mutex
	last time.Time
	said bool
}

func newSaveWatch(w *os.File) *saveWatch {
	s := &saveWatch{w: w, every: watchEvery, begun: time.Now(), last: time.Now(), end: "\n"}
	if term.IsTerminal(int(w.Fd())) {
		s.every, s.end = 500*time.Millisecond, "\r"
	}
	return s
}

func (s *saveWatch) tell(f golden.SaveFigures) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.last) < s.every {
		return
	}
	s.last, s.said = time.Now(), true
	fmt.Fprintf(s.w, "saving: %d %% of %s, %.1f MB/s, %s written    %s", f.Read*100/max(f.Total, 1), size(f.Total),
		float64(f.Read)/1e6/time.Since(s.begun).Seconds(), size(f.Written), s.end)
}

func (s *saveWatch) stop() {
	if s.said && s.end == "\r" {
		fmt.Fprintln(s.w)
	}
}
