package main

import (
	"context"
	"fmt"
	"time"

	"github.com/kamethod/kamethod/images/bench/figures"
	"github.com/kamethod/kamethod/images/bench/lab"
	"github.com/kamethod/kamethod/images/bench/peers"
)

// entrant takes part in a contest.
type entrant struct {
	name string
	peers.Sender
}

// contest lets all carry the same source over the same links, in turns and
// in changing order, and keeps each one's best.
func (r *run) contest(ctx context.Context, room *lab.Room, src peers.Source, n int, all []entrant) (map[string]peers.Result, error) {
	best := map[string]peers.Result{}
	for turn := range r.repeat {
		for i := range all {
			e := all[i]
			if turn%2 == 1 {
				e = all[len(all)-1-i]
			}
			got, err := peers.Carry(ctx, e.Sender, room, src, n)
			if err != nil {
				return nil, fmt.Errorf("%s to %d: %w", e.name, n, err)
			}
			r.say("  %d receivers, %s: %.2f s, %.1f MB/s", n, e.name, got.Transfer.Seconds(), rate(src, got.Transfer))
			if b, ok := best[e.name]; !ok || got.Transfer < b.Transfer {
				best[e.name] = got
			}
		}
	}
	return best, nil
}

// iperf3 is the best of as many turns.
func (r *run) iperf3(ctx context.Context, room *lab.Room) (best float64, err error) {
	for range r.repeat {
		got, err := peers.Iperf3(ctx, room, r.iperf)
		if err != nil {
			return 0, err
		}
		best = max(best, got/1e6)
	}
	r.say("  iperf3: %.1f MB/s", best)
	return best, nil
}

// rate is MB/s to each receiver.
func rate(src peers.Source, d time.Duration) float64 {
	return float64(src.Bytes) / 1e6 / d.Seconds()
}

// modes are ours, with and without TLS.
func (r *run) modes() []entrant {
	return []entrant{
		{ours(false), peers.Kamethod{Bin: r.bin, Plain: true}},
		{ours(true), peers.Kamethod{Bin: r.bin}},
	}
}

func ours(tls bool) string {
	if tls {
		return "kamethod, TLS"
	}
	return "kamethod, plain"
}

// speed is a figure of ours in MB/s.
func (r *run) speed(part string, room *lab.Room, src peers.Source, n int, tls bool, got peers.Result) figures.Figure {
	return figures.Figure{Part: part, What: figures.Transfer, Receivers: n, TLS: tls, Link: room.Rate,
		Unit: "MB/s each", Ours: rate(src, got.Transfer), Busy: got.Busy}
}

// against names the peer and its figure.
func against(f figures.Figure, peer string, theirs float64) figures.Figure {
	f.Peer = peer
	return f.By(theirs)
}
