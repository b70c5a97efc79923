package main

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/status"
)

// watchEvery is how often a line of progress is printed.
const watchEvery = 5 * time.Second

// plainWatch prints progress: a line for all nodes now and then, and whenever a
// node's state changes.
func plainWatch(w io.Writer) func(golden.Status) {
	var last time.Time
	var before int64
	states := map[int]status.State{}
	return func(s golden.Status) {
		for _, n := range s.Nodes {
			if n.State != "" && states[n.Number] != n.State {
				states[n.Number] = n.State
				fmt.Fprintf(w, "node %d (%s): %s\n", n.Number, n.Name, n.State)
			}
		}
		if s.Bytes == 0 || time.Since(last) < watchEvery || s.Sent == before {
			return
		}
		rate := 0.0
		if !last.IsZero() && s.Sent > before {
			rate = float64(s.Sent-before) / time.Since(last).Seconds() / 1e6
		}
		last, before = time.Now(), s.Sent
		var b strings.Builder
		fmt.Fprintf(&b, "%s: lap %d, %.1f MB/s;", s.Phase, s.Lap, rate)
		for _, n := range s.Nodes {
			fmt.Fprintf(&b, " node %d %d %%", n.Number, n.Stored*100/s.Bytes)
		}
		fmt.Fprintln(w, b.String())
	}
}

// newWatch shows progress, and is where the log goes meanwhile: bars on a
// terminal, lines elsewhere.
func newWatch(w io.Writer, verbose bool) (watch func(golden.Status), log *slog.Logger, stop func()) {
	return plainWatch(w), newLog(w, verbose), func() {}
}
