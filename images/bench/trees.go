package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/kamethod/kamethod/images/bench/feed"
	"github.com/kamethod/kamethod/images/bench/figures"
	"github.com/kamethod/kamethod/images/bench/lab"
	"github.com/kamethod/kamethod/images/bench/peers"
)

// rootTree is part c: a root file system, compressed where that pays, from
// golden-serve's start to the last receiver's end. It counts the contents of files only.
func (r *run) rootTree(ctx context.Context) error {
	what := figures.RootTree
	fill := func(path string) error { return r.goldenRoot(ctx, path) }
	if r.quick {
		what = "text, no golden root"
		fill = func(path string) error {
			return errors.Join(os.Mkdir(path, 0o755), feed.Text(ctx, filepath.Join(path, "text"), r.big))
		}
	}
	if !r.fits("c", 5<<30) {
		return nil
	}
	return r.room(ctx, slices.Max(r.rootCrowd), r.slow, func(room *lab.Room) error {
		return r.source("root", fill, func(src peers.Source) error {
			line, err := r.iperf3(ctx, room)
			if err != nil {
				return err
			}
			for _, n := range r.rootCrowd {
				got, err := r.contest(ctx, room, src, n, []entrant{
					{"auto", peers.Kamethod{Bin: r.bin}}, {"off", peers.Kamethod{Bin: r.bin, Compress: "off"}}})
				if err != nil {
					return err
				}
				for _, c := range []string{"auto", "off"} {
					f := r.speed("c", room, src, n, true, got[c])
					f.What, f.Ours = fmt.Sprintf("%s, compress %s", what, c), rate(src, got[c].Whole)
					r.report.Add(against(f, figures.Iperf3, line))
				}
			}
			return nil
		})
	})
}

// goldenRoot unpacks the small Debian of the tests; the first time it is made,
// from Debian's packages.
func (r *run) goldenRoot(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(r.top, "scripts/golden-root.sh"), "cloud", path)
	cmd.WaitDelay = time.Second
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("make the golden root: %w: %s", err, out)
	}
	return nil
}

// smallFiles is part d: many files, where creating them is the work, from the
// first program's start to the receiver's end, on the same kind of file
// system as tar has.
func (r *run) smallFiles(ctx context.Context) error {
	fill := func(path string) error {
		_, err := feed.Small(ctx, path, r.files, r.folders)
		return err
	}
	if !r.fits("d", 3<<30) {
		return nil
	}
	return r.source("small", fill, func(src peers.Source) error {
		for _, rate := range []string{r.slow, ""} {
			err := r.room(ctx, 1, rate, func(room *lab.Room) error { return r.smallFilesOver(ctx, room, src) })
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *run) smallFilesOver(ctx context.Context, room *lab.Room, src peers.Source) error {
	again := *r
	if !r.quick {
		again.repeat = max(r.repeat, 2) // both go first once
	}
	got, err := again.contest(ctx, room, src, 1, []entrant{
		{ours(true), peers.Kamethod{Bin: r.bin}}, {figures.Tar, peers.Tar{}}})
	if err != nil {
		return err
	}
	o, t := got[ours(true)], got[figures.Tar]
	files := func(d time.Duration) float64 { return float64(r.files) / d.Seconds() }
	f := figures.Figure{Part: "d", What: figures.SmallFiles, Receivers: 1, TLS: true, Link: room.Rate, Unit: "files/s",
		Ours: files(o.Whole), Busy: o.Busy}
	r.report.Add(against(f, figures.Tar, files(t.Whole)))
	f.What, f.Ours = figures.SmallFiles+", without scan and join", files(o.Transfer)
	r.report.Add(against(f, figures.Tar, files(t.Whole)))
	f.What, f.Unit, f.Ours, f.Less = "head's memory, small files", "MiB", mib(o.Peak[0]), true
	r.report.Add(against(f, figures.Budget, 256))
	return nil
}
