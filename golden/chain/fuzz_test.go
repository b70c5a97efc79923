package chain

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// A node may say anything: golden takes it in without panic, in bounded time,
// and believes no number beyond what it has sent.
func FuzzHeadReport(f *testing.F) {
	for _, seed := range []string{
		`{"settled":5,"held":5,"stored":5242880}`,
		`{"settled":18446744073709551615,"held":18446744073709551615,"stored":9223372036854775807}`,
		`{"lap":1,"missing":[{"stream":0,"from":0,"to":3},{"stream":1,"from":4,"to":5}]}`,
		`{"lap":4294967295,"missing":[{"stream":0,"from":0,"to":4294967295},{"stream":9,"from":1,"to":2},{"stream":1,"from":5,"to":4}]}`,
		`{"lap":1,"missing":[` + strings.TrimSuffix(strings.Repeat(`{"stream":2,"from":0,"to":16777216},`, 2000), ",") + `]}`,
		`{"complete":true,"streams":3,"root":"` + strings.Repeat("00", 32) + `"}`,
		`{"complete":true,"streams":-1}`,
		`{"have":[{"stream":0,"from":0,"sums":"AQIDBAUGBwg="},{"stream":1,"from":4294967295,"sums":"AQIDBAUGBwgBAgMEBQYHCA=="}],"have_all":true}`,
		`{"have":[{"stream":2,"from":16777215,"sums":"AQIDBAUGBwg="},{"stream":2,"from":16777216,"sums":"AQIDBAUGBwg="},{"stream":7,"sums":"AQ=="}]}`,
		`{"hop":{"peer":2,"epoch":2,"rate":-1,"busy":1e308,"receiver":-1}}`,
		`{"lost":{"peer":2,"epoch":2,"why":"x","stall":true}}`,
		`{"lost":{"peer":4294967295,"epoch":0}}`,
		`{"bad":{"peer":0,"epoch":1}}`, `{"bad":{"peer":2,"epoch":1}}`,
		`{"broken":"` + "\u2028" + `"}`,
	} {
		f.Add([]byte(seed), []byte(seed))
	}
	id, err := trust.New()
	if err != nil {
		f.Fatal(err)
	}
	// The last is as large as a stream may be, and nothing of it is read.
	streams := []wire.Stream{wire.NewStream(0, wire.ManifestStream, 3<<20), wire.NewStream(1, wire.ContentsStream, 5<<20),
		wire.NewStream(2, wire.ImageStream, 1<<30)}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		h := &Head{Transfer: wire.TransferID{1}, Source: &memory{streams: streams}, Identity: id,
			Log: slog.New(slog.DiscardHandler), Tell: func(uint32, wire.LinkOrder) {}}
		h.Start()
		for i := range uint32(3) {
			h.Join(Member{ID: i + 1, Addr: fmt.Sprintf("10.0.0.%d:1", i), Holds: i == 0})
		}
		h.mu.Lock()
		h.lap, h.seq = 1, 20
		h.mu.Unlock()
		begun := time.Now()
		for round := range 4 {
			for id := range uint32(5) { // 0 is the head, 4 nobody
				var r wire.Report
				text := a
				if (round+int(id))%2 == 1 {
					text = b
				}
				if json.Unmarshal([]byte(`{"link":`+string(text)+`}`), &r) != nil || r.Link == nil {
					continue
				}
				r.Link.Transfer = h.Transfer
				h.Report(id, *r.Link)
			}
		}
		h.mu.Lock()
		h.cutStalled()
		h.cutIdle()
		var sets [][]wire.Range
		for _, m := range h.members {
			checkRanges(t, m.missing, streams)
			sets = append(sets, m.missing)
			if m.lap > h.lap {
				t.Fatalf("node %d has ended lap %d of %d", m.ID, m.lap, h.lap)
			}
			if m.complete {
				t.Fatalf("node %d is complete, and nothing was sent", m.ID)
			}
		}
		checkRanges(t, union(streams, sets...), streams)
		h.mu.Unlock()
		h.Progress()
		h.outcomes(nil)
		if d := time.Since(begun); d > 5*time.Second {
			t.Fatalf("%d bytes took %s", len(a)+len(b), d)
		}
	})
}

// checkRanges: in order, inside the streams, nothing twice.
func checkRanges(t *testing.T, rs []wire.Range, streams []wire.Stream) {
	t.Helper()
	for i, r := range rs {
		s := streams[r.Stream]
		if r.From >= r.To || r.To > s.Pieces {
			t.Fatalf("%+v, of stream %+v", r, s)
		}
		if i > 0 && (rs[i-1].Stream > r.Stream || rs[i-1].Stream == r.Stream && rs[i-1].To > r.From) {
			t.Fatalf("%+v comes after %+v", r, rs[i-1])
		}
	}
}

// A body may be anything, too: what opens has the length and the hash that its
// header says.
func FuzzOpen(f *testing.F) {
	pool := &buffers{}
	s, err := newSealer(CompressAuto, pool)
	if err != nil {
		f.Fatal(err)
	}
	for _, data := range [][]byte{[]byte("x"), make([]byte, 5000), []byte(strings.Repeat("abc", 999))} {
		sealedFrame := sealed(s, data)
		f.Add(append([]byte{}, sealedFrame.buf...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := wire.ParseHeader(b)
		if err != nil || h.Kind != wire.PieceFrame || int(h.Stored) > len(b)-wire.HeaderSize || h.True > 1<<20 {
			return
		}
		fr := pool.frame(h)
		defer fr.drop()
		copy(fr.body(), b[wire.HeaderSize:])
		o, err := newOpener()
		if err != nil {
			t.Fatal(err)
		}
		defer o.close()
		data, err := o.open(fr, make([]byte, h.True))
		if err == nil && len(data) != int(h.True) {
			t.Fatalf("%d bytes, the header says %d", len(data), h.True)
		}
	})
}
