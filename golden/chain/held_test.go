package chain

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/wire"
)

func TestMissingListsExactlyWhatWasNotAdded(t *testing.T) {
	streams := []wire.Stream{
		wire.NewStream(0, wire.ManifestStream, 3<<20),
		wire.NewStream(1, wire.ContentsStream, 200<<20+17),
		wire.NewStream(2, wire.ImageStream, 64<<20),
		wire.NewStream(3, wire.ImageStream, 0),
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	for round := range 50 {
		l := newLedger(streams)
		var want []wire.Range
		for _, s := range streams {
			for p := range s.Pieces {
				if rnd.IntN(10) < round%10 {
					l.add(s.ID, p, wire.Hash{1})
					continue
				}
				if n := len(want); n > 0 && want[n-1].Stream == s.ID && want[n-1].To == p {
					want[n-1].To++
				} else {
					want = append(want, wire.Range{Stream: s.ID, From: p, To: p + 1})
				}
			}
		}
		if d := cmp.Diff(want, l.missing()); d != "" {
			t.Fatalf("round %d: missing (-want +got):\n%s", round, d)
		}
		if l.held+count(want) != l.total {
			t.Fatalf("round %d: %d held and %d missing of %d", round, l.held, count(want), l.total)
		}
		if d := cmp.Diff(want, union(streams, want, nil)); d != "" {
			t.Fatalf("round %d: union of one (-want +got):\n%s", round, d)
		}
	}
}

func TestValidDropsForeignRanges(t *testing.T) {
	streams := []wire.Stream{mebibytes(1, 10<<20)}
	got := valid([]wire.Range{{Stream: 1, From: 0, To: 10}, {Stream: 1, From: 0, To: 11}, {Stream: 1, From: 5, To: 5},
		{Stream: 2, From: 0, To: 1}, {Stream: 1, From: 9, To: 3}}, streams)
	if d := cmp.Diff([]wire.Range{{Stream: 1, From: 0, To: 10}}, got); d != "" {
		t.Fatalf("(-want +got):\n%s", d)
	}
}
