package faults

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// Node is a host that receives.
type Node struct {
	Index int // by address
	Addrs []string
	Space *Space
	Out   string   // where its copy goes
	Args  []string // besides the usual
	Group string   // of processes: a folder of the block I/O controller
	Late  bool     // is started by a fault
	Slow  bool     // its time doesn't count
	Left  bool     // it can't hear golden: how its program ends is not judged
	Want  Want
	Cause string // what its failure must be reported with

	dir   string
	taken bool
	prog  *Program
	full  time.Time // all its bytes were written
}

func (n *Node) String() string { return fmt.Sprintf("node .%d", n.Index+11) }

// Signal sends a signal to the node's program.
func (n *Node) Signal(s syscall.Signal) { n.prog.Signal(s) }

var here = regexp.MustCompile(`node is here node=(\d+) addr=([0-9.]+):`)

// Chain gives the nodes as they stand in the chain when it begins: in the
// order of the numbers that golden gave.
func (r *Run) Chain() []*Node {
	number := map[string]int{}
	r.Golden().Out.each(func(_ time.Time, text string) {
		if m := here.FindStringSubmatch(text); m != nil {
			number[m[2]], _ = strconv.Atoi(m[1])
		}
	})
	var out []*Node
	for _, n := range r.Nodes {
		if number[nodeAddr(n.Index)] > 0 {
			out = append(out, n)
		}
	}
	slices.SortFunc(out, func(a, b *Node) int { return number[nodeAddr(a.Index)] - number[nodeAddr(b.Index)] })
	return out
}

// Take picks count neighbours that nothing was done to, from the chain's
// place from (negative: from its end); anywhere, by the seed, with Anywhere.
// The node before them and after them stay free for others.
func (r *Run) Take(from, count int, want Want) []*Node {
	chain := r.Chain()
	r.mu.Lock()
	defer r.mu.Unlock()
	free := func(at int) bool {
		for i := at; i < at+count; i++ {
			if i < 0 || i >= len(chain) || chain[i].taken {
				return false
			}
		}
		return true
	}
	if from < 0 && from != Anywhere {
		from += len(chain) - count + 1
	}
	if from == Anywhere {
		rnd := r.rand(100 + len(r.done))
		places := rnd.Perm(len(chain))
		from = -1
		for _, p := range places {
			if free(p) {
				from = p
				break
			}
		}
	}
	if !free(from) {
		return nil
	}
	out := chain[from : from+count]
	for _, n := range out {
		n.taken, n.Want = true, want
	}
	return out
}

// Anywhere lets chance pick the place.
const Anywhere = -1 << 20

// watchDisks notes when each node's copy has all its bytes: a new file has as
// many blocks as were written.
func (r *Run) watchDisks(ctx context.Context) {
	t := time.NewTicker(20 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		for _, n := range r.Nodes {
			var st syscall.Stat_t
			if !n.full.IsZero() || syscall.Stat(n.Out, &st) != nil || st.Blocks*512 < r.Bytes {
				continue
			}
			r.mu.Lock()
			n.full = time.Now()
			r.mu.Unlock()
		}
	}
}

// blank takes away what an earlier try left, as a machine that boots again
// would begin with an empty disk.
func (n *Node) blank() { os.Remove(n.Out) }
