package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Shape is what two runs must have in common for their times to be compared.
type Shape struct {
	Nodes int
	Bytes int64
	Mbit  int // of every link, both ways
	Plain bool
}

func (s Shape) wire() time.Duration {
	return time.Duration(float64(s.Bytes) * 8 / float64(s.Mbit) / 1e6 * float64(time.Second))
}

// Fault is one thing that goes wrong.
type Fault struct {
	Name    string
	Promise time.Duration // how much longer the others may take

	// From and To are the part of the transfer in which it happens; a random
	// moment, by the seed.
	From, To float64

	Plain   bool                                    // it needs to see the bytes
	Nodes   int                                     // it needs so many at least
	Bytes   int64                                   // it needs so much to be sent
	Alone   bool                                    // it can't be judged beside others
	Prepare func(r *Run) error                      // before anything starts
	Inject  func(ctx context.Context, r *Run) error // at its moment
	Verify  func(r *Run)                            // what must be besides the invariants: r.Break tells
}

// Scenario is a run with faults.
type Scenario struct {
	Shape
	Seed   uint64
	Faults []Fault
}

// Want is how a node may come out.
type Want int

// What may become of a node.
const (
	Finishes Want = iota // it must
	Either               // it may, with the right bytes, or fail
	Fails                // it must not be reported done
)

func (w Want) String() string { return [...]string{"finishes", "either", "fails"}[w] }

// Result is how a run came out.
type Result struct {
	Scenario
	Sending  time.Duration // from golden's first byte to the last byte of the slowest node that nothing was done to
	Whole    time.Duration // until golden ended
	Added    time.Duration // Sending beyond that of a run without faults
	Promise  time.Duration
	Released int
	Exit     int // golden's
	Done     []string
	Breaks   []string // of the invariants
	Log      string   // of all programs

	begun time.Time
}

func (r *Result) String() string {
	verdict := "ok"
	if len(r.Breaks) > 0 {
		verdict = fmt.Sprintf("BROKEN %q", r.Breaks)
	}
	names := ""
	for i, f := range r.Faults {
		if i > 0 {
			names += " + "
		}
		names += f.Name
	}
	return fmt.Sprintf("%-34s nodes %2d seed %-6d released %2d exit %3d sending %5.1f s added %+5.1f s (promised %4.1f s) whole %5.1f s  %s",
		names, r.Nodes, r.Seed, r.Released, r.Exit, r.Sending.Seconds(), r.Added.Seconds(), r.Promise.Seconds(), r.Whole.Seconds(), verdict)
}

// source of chance for a scenario's n-th fault; -1 is the run itself.
func (s Scenario) rand(n int) *rand.Rand { return rand.New(rand.NewPCG(s.Seed, uint64(n+1))) }
