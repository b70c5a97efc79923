package golden

import (
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

func TestWhatNodesSayIsPlain(t *testing.T) {
	r := wire.Report{Lines: []string{"a\x1b[2Jb\nnode 1: done", strings.Repeat("x", 1<<20), "gr\u00fc\u00df"},
		Fault: &wire.Fault{Stage: "x\r", Cause: "\u202e"}, Done: &wire.Done{Notes: []string{"\x07"}}}
	plain(&r)
	if r.Lines[0] != "a [2Jb node 1: done" || len(r.Lines[1]) != maxLine || r.Lines[2] != "gr\u00fc\u00df" {
		t.Errorf("%.80q", r.Lines)
	}
	if r.Fault.Stage != "x " || r.Fault.Cause != " " || r.Done.Notes[0] != " " {
		t.Errorf("%+v %+v", r.Fault, r.Done)
	}
}
