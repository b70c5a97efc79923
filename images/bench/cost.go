package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/images/bench/feed"
	"github.com/kamethod/kamethod/images/bench/figures"
	"github.com/kamethod/kamethod/images/bench/lab"
	"github.com/kamethod/kamethod/images/bench/peers"
)

// relayCPU is part e: what the middle one of three receivers uses, by its own
// account, for each GB that it stores in memory and passes on.
func (r *run) relayCPU(ctx context.Context) error {
	const relay = 2 // of three; in a Result golden is 0
	return r.room(ctx, 3, "", func(room *lab.Room) error {
		for _, kind := range []struct {
			name string
			fill func(context.Context, string, int64) error
		}{{"incompressible", feed.Random}, {"compressible", feed.Text}} {
			if !r.fits("e, "+kind.name, 4*r.big) {
				continue
			}
			fill := func(path string) error { return kind.fill(ctx, path, r.big) }
			err := r.source("big", fill, func(src peers.Source) error {
				got, err := r.contest(ctx, room, src, 3, append(r.modes(), entrant{figures.Chain, peers.Chain{}}))
				if err != nil {
					return err
				}
				perGB := func(x peers.Result) float64 { return x.CPU[relay].Seconds() / (float64(src.Bytes) / 1e9) }
				for _, tls := range []bool{false, true} {
					o := got[ours(tls)]
					f := figures.Figure{Part: "e", What: figures.RelayCPU + ", " + kind.name, Receivers: 3, TLS: tls,
						Unit: "s/GB", Ours: perGB(o), Less: true, Busy: o.Busy}
					r.report.Add(against(f, figures.Chain, perGB(got[figures.Chain])))
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// memory is part f: by the number of receivers, then by the source's size.
func (r *run) memory(ctx context.Context) error {
	return r.room(ctx, slices.Max(r.members), "", func(room *lab.Room) error {
		var one float64
		for _, n := range r.members {
			got, err := r.weigh(ctx, room, r.growing[0], n)
			if err != nil || got == nil {
				return err
			}
			if one == 0 {
				one = mib(got.Peak[0])
			}
			f := r.heads(*got, n, figures.HeadRSS)
			r.report.Add(against(f, figures.One, one))
			r.report.Add(relays(f, *got))
		}
		for _, size := range r.growing[1:] {
			got, err := r.weigh(ctx, room, size, 1)
			if err != nil || got == nil {
				return err
			}
			f := r.heads(*got, 1, fmt.Sprintf("%s, source %d MiB", figures.HeadRSS, size>>20))
			r.report.Add(against(f, figures.Small, one))
			r.report.Add(relays(f, *got))
			// A page at least, so that the ratio is one.
			f.What, f.Ours = figures.HeadGrowth, max(f.Ours-one, 4.0/1024)
			r.report.Add(against(f, "64 bytes a piece, 16 MiB", 16+float64(size>>20)*64/(1<<20)))
		}
		return nil
	})
}

// weigh sends a source of a size to n; nil where memory is too little.
func (r *run) weigh(ctx context.Context, room *lab.Room, size int64, n int) (got *peers.Result, err error) {
	what := fmt.Sprintf("%d MiB to %d", size>>20, n)
	if !r.fits("f, "+what, size*int64(n+1)) {
		return nil, nil
	}
	fill := func(path string) error { return feed.Random(ctx, path, size) }
	err = r.source("weighed", fill, func(src peers.Source) error {
		x, err := peers.Carry(ctx, peers.Kamethod{Bin: r.bin}, room, src, n)
		got = &x
		r.say("  %s: head %.0f MiB, largest receiver %.0f MiB", what, mib(x.Peak[0]), mib(slices.Max(x.Peak[1:])))
		return err
	})
	return got, err
}

func (r *run) heads(got peers.Result, n int, what string) figures.Figure {
	return figures.Figure{Part: "f", What: what, Receivers: n, TLS: true, Unit: "MiB", Ours: mib(got.Peak[0]), Less: true, Busy: got.Busy}
}

// relays is the largest of the receivers, in the figure of the same transfer.
// What they store is in a file, not in the process.
func relays(f figures.Figure, got peers.Result) figures.Figure {
	f.What, f.Ours = figures.RelayRSS, mib(slices.Max(got.Peak[1:]))
	return against(f, figures.Budget, 256)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

func count(n int) string { return fmt.Sprintf("%d receivers", n) }
