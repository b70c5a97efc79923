package fixup

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// A report that is told golden is whole where it is of a usual size, and
// bounded where it isn't; what isn't named is counted.
func TestDoneIsBounded(t *testing.T) {
	for _, tt := range []struct{ files, length, named int }{{3, 20, 3}, {wire.MaxFixFiles + 5, 20, wire.MaxFixFiles}, {wire.MaxFixFiles, 4000, -1}} {
		var r Report
		s := StepReport{Name: "x", Warnings: []string{strings.Repeat("w", 1<<20)}}
		for range tt.files {
			s.touch(strings.Repeat("p", tt.length), "why")
		}
		r.Steps = append(r.Steps, s)
		r.Leftovers = []string{"l"}
		d := r.Done()
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		named := len(d.Steps[0].Files)
		if named+d.MoreFiles != tt.files || tt.named >= 0 && named != tt.named || len(b) > maxDone || named == 0 {
			t.Errorf("%+v: %d named, %d more, %d bytes", tt, named, d.MoreFiles, len(b))
		}
	}
}

func TestCards(t *testing.T) {
	for _, mac := range Cards("/sys") {
		if !isMAC(mac) {
			t.Errorf("card %q", mac)
		}
	}
	if got := Cards(t.TempDir()); len(got) > 0 {
		t.Errorf("cards %q of no machine", got)
	}
}
