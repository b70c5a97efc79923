package figures

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	row := func(what, peer string, n int, ours, theirs float64) Figure {
		return Figure{Part: "b", What: what, Peer: peer, Receivers: n, Ours: ours}.By(theirs)
	}
	share := "b: share of iperf3's rate on a slow link, 1 to 16 receivers"
	times := "b: time(16) / time(1)"
	for name, c := range map[string]struct {
		figures     []Figure
		quick       bool
		share, time string
	}{
		"none":        {nil, false, Unknown, Unknown},
		"met":         {[]Figure{row(Transfer, Iperf3, 1, 99, 100), row(Time, One, 16, 10.4, 10)}, false, Met, Met},
		"worst first": {[]Figure{row(Transfer, Iperf3, 1, 90, 100), row(Transfer, Iperf3, 4, 99, 100)}, false, Missed, Unknown},
		"worst last":  {[]Figure{row(Transfer, Iperf3, 1, 99, 100), row(Transfer, Iperf3, 4, 90, 100)}, false, Missed, Unknown},
		"too long":    {[]Figure{row(Time, One, 4, 20, 10), row(Time, One, 16, 10.6, 10)}, false, Unknown, Missed},
		"only 4":      {[]Figure{row(Time, One, 4, 20, 10)}, false, Unknown, Unknown},
		"quick":       {[]Figure{row(Transfer, Iperf3, 1, 1, 100)}, true, Informal, Unknown},
	} {
		r := Report{Figures: c.figures, Quick: c.quick}
		r.Judge()
		got := map[string]string{}
		missed := 0
		for _, v := range r.Targets {
			got[v.Promise] = v.State
			if v.State == Missed {
				missed++
			}
		}
		if got[share] != c.share || got[times] != c.time || r.Missed() != missed {
			t.Errorf("%s: share %q, want %q; time %q, want %q; %d missed", name, got[share], c.share, got[times], c.time, r.Missed())
		}
	}
}

func TestCheck(t *testing.T) {
	good := Figure{Part: "a", What: "x", Peer: "y", Ours: 1}.By(2)
	if err := (&Report{Figures: []Figure{good}}).Check(); err != nil || good.Ratio != 0.5 {
		t.Errorf("a good figure: ratio %v, %v", good.Ratio, err)
	}
	for _, bad := range []Figure{{Ours: 1}, Figure{Ours: 1}.By(0), Figure{Ours: 0}.By(1), Figure{Ours: -1}.By(1)} {
		if (&Report{Figures: []Figure{good, bad}}).Check() == nil {
			t.Errorf("%+v passes", bad)
		}
	}
}

func TestPrintAndSave(t *testing.T) {
	r := Report{Figures: []Figure{
		Figure{Part: "a", What: Transfer, Receivers: 4, Peer: Udpcast, Unit: "MB/s each", Ours: 204.2}.By(55.56),
		Figure{Part: "d", What: SmallFiles, TLS: true, Link: "200mbit", Peer: Tar, Ours: 3}.By(2),
	}}
	r.Note("remark %d", 1)
	r.Judge()
	var out bytes.Buffer
	if err := r.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"204 ", "55.6", "3.675", "200mbit", "1.500", "met", "not measured", "note: remark 1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
	if err := r.Save(filepath.Join(t.TempDir(), "new", "x.json")); err != nil {
		t.Error(err)
	}
}
