package main

import (
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

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
	var speed rate
	states := map[int]status.State{}
	return func(s golden.Status) {
		sayStates(w, states, s)
		if s.Bytes == 0 || time.Since(last) < watchEvery || s.Sent == before {
			return
		}
		last, before = time.Now(), s.Sent
		fmt.Fprintf(w, "%s: lap %d, %.1f MB/s;%s\n", s.Phase, s.Lap, speed.of(s), howFar(s))
	}
}

// sayStates prints the states that are new.
func sayStates(w io.Writer, said map[int]status.State, s golden.Status) {
	for _, n := range s.Nodes {
		if n.State != "" && said[n.Number] != n.State {
			said[n.Number] = n.State
			fmt.Fprintf(w, "node %d (%s): %s\n", n.Number, n.Name, n.State)
		}
	}
}

// rate is how fast golden sends, over some seconds.
type rate struct {
	at   time.Time
	sent int64
	mbs  float64
}

// of is the rate in MB/s.
func (r *rate) of(s golden.Status) float64 {
	now := time.Now()
	if s.Sent < r.sent || r.at.IsZero() {
		*r = rate{at: now, sent: s.Sent}
	} else if d := now.Sub(r.at); d >= watchEvery/2 {
		*r = rate{now, s.Sent, float64(s.Sent-r.sent) / d.Seconds() / 1e6}
	}
	return r.mbs
}

// maxNamed nodes are told of one by one; of more, how far they are together.
const maxNamed = 8

// howFar says how much of the transfer the nodes have that take part in it.
func howFar(s golden.Status) string {
	nodes, whole := takingPart(s)
	var b strings.Builder
	if len(nodes) <= maxNamed {
		for _, n := range byNumber(nodes) {
			fmt.Fprintf(&b, " node %d %d %%", n.Number, n.Stored*100/s.Bytes)
		}
		return b.String()
	}
	fmt.Fprintf(&b, " of %d nodes %d have all, the middle one %d %%, node %d the least: %d %%", len(nodes), whole,
		nodes[len(nodes)/2].Stored*100/s.Bytes, nodes[0].Number, nodes[0].Stored*100/s.Bytes)
	return b.String()
}

// takingPart are the nodes that have not failed, those first that lack most,
// and how many of them have all.
func takingPart(s golden.Status) (nodes []golden.NodeStatus, whole int) {
	for _, n := range s.Nodes {
		if n.State == status.Failed {
			continue
		}
		nodes = append(nodes, n)
		if n.Stored >= s.Bytes {
			whole++
		}
	}
	slices.SortStableFunc(nodes, func(a, b golden.NodeStatus) int { return cmp.Compare(a.Stored, b.Stored) })
	return nodes, whole
}

func byNumber(nodes []golden.NodeStatus) []golden.NodeStatus {
	return slices.SortedStableFunc(slices.Values(nodes), func(a, b golden.NodeStatus) int { return cmp.Compare(a.Number, b.Number) })
}

// view is where the administrator sees what goes on.
type view struct {
	watch  func(golden.Status)
	log    *slog.Logger
	screen *screen // nil: it is no terminal
}

// newView shows progress on standard error: bars on a terminal, lines
// elsewhere.
func newView(verbose bool) view {
	fd := int(os.Stderr.Fd())
	if _, height, err := term.GetSize(fd); err == nil && term.IsTerminal(fd) {
		s := newScreen(os.Stderr, height)
		return view{s.watch, newLog(s, verbose), s}
	}
	return plainView(os.Stderr, verbose)
}

// plainView shows it in lines.
func plainView(w io.Writer, verbose bool) view { return view{plainWatch(w), newLog(w, verbose), nil} }

// show has a clone seen here: its question is put where no bar is.
func (v view) show(c *golden.CloneConfig) {
	c.Watch, c.Log = v.watch, v.log
	if confirm := c.Confirm; v.screen != nil {
		c.Confirm = func(list []*golden.Node) error { return v.screen.ask(func() error { return confirm(list) }) }
	}
}

// stop ends the bars.
func (v view) stop() {
	if v.screen != nil {
		v.screen.stop()
	}
}
