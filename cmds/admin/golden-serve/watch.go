package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"slices"
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
		fmt.Fprintf(w, "%s: lap %d, %.1f MB/s;%s\n", s.Phase, s.Lap, rate, howFar(s))
	}
}

// maxNamed nodes are told of one by one; of more, how far they are together.
const maxNamed = 8

// howFar says how much of the transfer the nodes have that take part in it.
func howFar(s golden.Status) string {
	nodes := slices.DeleteFunc(slices.Clone(s.Nodes), func(n golden.NodeStatus) bool { return n.State == status.Failed })
	var b strings.Builder
	if len(nodes) <= maxNamed {
		for _, n := range nodes {
			fmt.Fprintf(&b, " node %d %d %%", n.Number, n.Stored*100/s.Bytes)
		}
		return b.String()
	}
	slices.SortStableFunc(nodes, func(a, b golden.NodeStatus) int { return cmp.Compare(a.Stored, b.Stored) })
	whole := 0
	for _, n := range nodes {
		if n.Stored >= s.Bytes {
			whole++
		}
	}
	fmt.Fprintf(&b, " of %d nodes %d have all, the middle one %d %%, node %d the least: %d %%", len(nodes), whole,
		nodes[len(nodes)/2].Stored*100/s.Bytes, nodes[0].Number, nodes[0].Stored*100/s.Bytes)
	return b.String()
}

// newWatch shows progress, and is where the log goes meanwhile.
func newWatch(w io.Writer, verbose bool) (watch func(golden.Status), log *slog.Logger, stop func()) {
	return plainWatch(w), newLog(w, verbose), func() {}
}
