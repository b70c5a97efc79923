package main

import (
	"context"
	"slices"

	"github.com/kamethod/kamethod/images/bench/feed"
	"github.com/kamethod/kamethod/images/bench/figures"
	"github.com/kamethod/kamethod/images/bench/lab"
	"github.com/kamethod/kamethod/images/bench/peers"
)

// unshaped is part a: what the processors can do.
func (r *run) unshaped(ctx context.Context) error {
	fill := func(path string) error { return feed.Random(ctx, path, r.big) }
	return r.room(ctx, slices.Max(r.crowd), "", func(room *lab.Room) error {
		return r.source("random", fill, func(src peers.Source) error {
			for _, n := range r.crowd {
				if !r.fits("a, "+count(n), src.Bytes*int64(n)) {
					continue
				}
				if err := r.unshapedTo(ctx, room, src, n); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func (r *run) unshapedTo(ctx context.Context, room *lab.Room, src peers.Source, n int) error {
	line, err := r.iperf3(ctx, room)
	if err != nil {
		return err
	}
	got, err := r.contest(ctx, room, src, n, append(r.modes(),
		entrant{figures.Udpcast, peers.Udpcast{}}, entrant{figures.Chain, peers.Chain{}}))
	if err != nil {
		return err
	}
	for _, tls := range []bool{false, true} {
		f := r.speed("a", room, src, n, tls, got[ours(tls)])
		r.report.Add(against(f, figures.Iperf3, line))
		for _, peer := range []string{figures.Udpcast, figures.Chain} {
			r.report.Add(against(f, peer, rate(src, got[peer].Transfer)))
		}
	}
	return nil
}

// slowLinks is part b: what the network can do. Each link is the same, so the
// time should be too, whatever the number of receivers.
func (r *run) slowLinks(ctx context.Context) error {
	fill := func(path string) error { return feed.Random(ctx, path, r.slowSize) }
	return r.room(ctx, slices.Max(r.slowCrowd), r.slow, func(room *lab.Room) error {
		return r.source("random", fill, func(src peers.Source) error {
			var one float64 // seconds to the first number of receivers, which is 1
			for _, n := range r.slowCrowd {
				if !r.fits("b, "+count(n), src.Bytes*int64(n)) {
					continue
				}
				line, err := r.iperf3(ctx, room)
				if err != nil {
					return err
				}
				got, err := r.contest(ctx, room, src, n, r.modes()[1:])
				if err != nil {
					return err
				}
				f := r.speed("b", room, src, n, true, got[ours(true)])
				r.report.Add(against(f, figures.Iperf3, line))
				f.What, f.Unit, f.Ours, f.Less = figures.Time, "s", got[ours(true)].Transfer.Seconds(), true
				if one == 0 {
					one = f.Ours
					continue
				}
				r.report.Add(against(f, figures.One, one))
				// What a further hop adds, beside the time that the link needs
				// for a piece: a node has a piece before it passes it on.
				f.What, f.Unit, f.Ours = figures.HopTime, "ms", max(1e3*(f.Ours-one)/float64(n-r.slowCrowd[0]), 0.01)
				r.report.Add(against(f, "256 KiB on the link", float64(256<<10)/line/1e3))
			}
			return nil
		})
	})
}
