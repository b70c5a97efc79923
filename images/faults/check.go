package faults

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// report is what golden says of a run.
type report struct {
	Nodes []reportNode
	Torn  []string
}

type reportNode struct {
	Number                       int
	Address, State, Stage, Error string
	Bytes                        int64
}

const released = "released"

// lastWord is how long a node's program may live on after golden has ended.
const lastWord = 15 * time.Second

// end waits for golden and judges.
func (r *Run) end(ctx context.Context) *Result {
	res := &Result{Scenario: r.Scenario, begun: r.Begun}
	g := r.Golden()
	limit := time.Until(r.Begun.Add(2*r.wire() + 2*time.Minute))
	exit, ok := g.Wait(limit)
	if !ok {
		r.Break("golden does not end")
		g.Signal(syscall.SIGQUIT) // its goroutines tell where it hangs
		g.Wait(2 * time.Second)
	}
	res.Exit, res.Whole = exit, time.Since(r.Begun)
	r.farewell(ctx)
	if ok {
		r.judge(res)
	}
	for _, f := range r.Faults {
		if f.Verify != nil {
			f.Verify(r)
		}
	}
	res.Breaks, res.Done = r.breaks, r.done
	res.Log = r.logs()
	return res
}

// farewell waits for the nodes' programs.
func (r *Run) farewell(ctx context.Context) {
	until := time.Now().Add(lastWord)
	for _, n := range r.Nodes {
		if n.prog == nil {
			continue
		}
		n.Signal(syscall.SIGCONT)
		if n.Left || n.Want == Fails {
			continue
		}
		if _, ok := n.prog.Wait(time.Until(until)); !ok {
			r.Break("%s: its program does not end", n)
		}
	}
}

func (r *Run) judge(res *Result) {
	rep, err := r.report()
	if r.NoStart {
		return
	}
	if err != nil {
		r.Break("golden's report: %v", err)
		return
	}
	if r.Torn {
		r.judgeTorn(res, rep)
		return
	}
	failed := 0
	for _, x := range rep.Nodes {
		switch x.State {
		case released:
			res.Released++
		default:
			failed++
			if x.Error == "" && res.Exit != 130 {
				r.Break("node %d at %s is %s, and the report has no cause", x.Number, x.Address, x.State)
			}
		}
	}
	for _, n := range r.Nodes {
		r.judgeNode(n, rep)
		if n.Want == Finishes && !n.Late && !n.Slow && !n.full.IsZero() {
			res.Sending = max(res.Sending, n.full.Sub(r.Begun))
		}
	}
	switch {
	case r.Exit >= 0 && res.Exit != r.Exit:
		r.Break("golden's exit status is %d, want %d", res.Exit, r.Exit)
	case r.Exit < 0 && failed == 0 && res.Exit != 0, r.Exit < 0 && failed > 0 && res.Exit != 1:
		r.Break("golden's exit status is %d, and %d of %d nodes failed", res.Exit, failed, len(rep.Nodes))
	}
}

func (r *Run) report() (report, error) {
	var rep report
	b, err := os.ReadFile(filepath.Join(r.Dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	return rep, err
}

// judgeNode holds what golden says of a node, and what the node says itself,
// against what is on its disk.
func (r *Run) judgeNode(n *Node, rep report) {
	var lines []reportNode
	for _, x := range rep.Nodes {
		if slices.Contains(n.Addrs, x.Address) {
			lines = append(lines, x)
		}
	}
	done, causes := false, []string{}
	for _, x := range lines {
		done = done || x.State == released
		causes = append(causes, x.Stage+": "+x.Error)
	}
	right, err := r.holdsSource(n)
	if err != nil {
		r.Break("%s: %v", n, err)
	}
	said := n.prog != nil && n.prog.Ended() && n.prog.cmd.ProcessState.ExitCode() == 0
	switch {
	case done && !right:
		r.Break("%s is reported done and has other bytes", n)
	case said && !right:
		r.Break("%s says that all is there and has other bytes", n)
	}
	switch {
	case n.Want == Finishes && !done:
		r.Break("%s must finish and did not: %q", n, causes)
	case n.Want == Finishes && !said && !n.Left:
		r.Break("%s is reported done, its program disagrees", n)
	case n.Want == Fails && done:
		r.Break("%s must fail and is reported done", n)
	case n.Want == Fails && n.Cause != "" && !strings.Contains(strings.Join(causes, "\n"), n.Cause):
		r.Break("%s must be reported failed with %q, the report has %q", n, n.Cause, causes)
	}
	if len(lines) > 1 {
		r.Break("%s stands %d times in the report", n, len(lines))
	}
}

// judgeTorn: golden could not read all of its source. It says so, its exit
// status does, every node has been told, and all have the same.
func (r *Run) judgeTorn(res *Result, rep report) {
	if res.Exit != 1 || len(rep.Torn) == 0 {
		r.Break("golden could not read all: exit status %d, want 1; torn: %q", res.Exit, rep.Torn)
	}
	var first [sha256.Size]byte
	for i, n := range r.Nodes {
		sum, err := hashFile(n.Out)
		if i == 0 {
			first = sum
		}
		if err != nil || sum != first {
			r.Break("%s has other bytes than the first node (%v)", n, err)
		}
		if status, ok := n.prog.Wait(lastWord); !ok || status != 1 {
			r.Break("%s: ended %v, exit status %d; it must know that golden's source is torn", n, ok, status)
		}
	}
	res.Released = len(rep.Nodes)
}

// holdsSource compares a node's copy with the source.
func (r *Run) holdsSource(n *Node) (bool, error) {
	st, err := os.Stat(n.Out)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the copy: %w", err)
	}
	if st.Mode().IsRegular() && st.Size() != r.Bytes {
		return false, nil
	}
	sum, err := hashFile(n.Out)
	if err != nil {
		return false, nil // a disk that was broken on purpose
	}
	return sum == r.sum.sum, nil
}
