package golden

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// ferry carries one source to nodes: one transfer after the other, for as
// long as there is somebody to carry. Who comes while one runs, joins it.
//
//	board ─▶ waiting ─▶ sail: a chain.Head ─▶ complete, or failed, or lost
//	board ──────────────────▲ (late)
//
// What is not otherwise guarded is under the deployment's lock.
type ferry struct {
	d      *deployment
	name   string // the phase, for people
	src    chain.Source
	digest string

	waiting []*Node
	head    *chain.Head // of the transfer that runs; nil: none does
	last    *chain.Head // the latest one, for figures
	err     error       // golden's own trouble
	sailed  int

	mu     sync.Mutex // a leaf: held by Tell, which is called with the head's lock held
	aboard map[uint32]*Node
}

// member is how the chain knows a node.
func (n *Node) member() chain.Member {
	made := n.Ready()
	return chain.Member{ID: n.ID, Addr: n.Addr, Pin: n.Pin, Queue: n.Queue, Holds: n.Holds || made != nil && made.Kept}
}

// board takes a node along.
func (f *ferry) board(n *Node) {
	n.boarded = true
	if f.head == nil {
		f.waiting = append(f.waiting, n)
		return
	}
	f.d.Log.Info("node joins late", "node", n.Number, "phase", f.name, "holds", n.Holds)
	f.join(f.head, n)
}

func (f *ferry) join(h *chain.Head, n *Node) {
	f.mu.Lock()
	f.aboard[n.ID] = n
	f.mu.Unlock()
	h.Join(n.member())
	if n.left() {
		h.Leave(n.ID, errors.New("left before the transfer began"))
	}
}

// is tells whether a node takes part in the transfer that runs.
func (f *ferry) is(n *Node) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.aboard[n.ID] == n
}

func (f *ferry) leave(n *Node, why error) {
	f.waiting = slices.DeleteFunc(f.waiting, func(o *Node) bool { return o == n })
	if f.head != nil && f.is(n) {
		f.head.Leave(n.ID, why)
	}
}

// cause is why the chain has cut a node out, or nil.
func (f *ferry) cause(n *Node) error {
	if f.head == nil || !f.is(n) {
		return nil
	}
	return f.head.Cause(n.ID)
}

// retire lets a node go that has everything, though others have not.
func (f *ferry) retire(n *Node) {
	if f.head != nil && f.is(n) {
		f.head.Retire(n.ID)
	}
}

func (f *ferry) report(n *Node, r wire.LinkReport) {
	if f.head != nil && f.is(n) {
		f.head.Report(n.ID, r)
	}
}

// sail begins a transfer if nodes wait and none runs.
func (f *ferry) sail(ctx context.Context) {
	if f.head != nil || len(f.waiting) == 0 || f.err != nil {
		return
	}
	d := f.d
	h := &chain.Head{
		Source: f.src, Digest: f.digest, Identity: d.Identity, Plain: d.Plain, Compress: d.Compress, Share: d.Share, Quiet: d.Quiet, Log: d.Log,
		Tell: func(id uint32, o wire.LinkOrder) {
			f.mu.Lock()
			n := f.aboard[id]
			f.mu.Unlock()
			if n != nil {
				n.Tell(wire.Order{Link: &o})
			}
		},
	}
	rand.Read(h.Transfer[:])
	h.Start()
	f.mu.Lock()
	f.aboard = map[uint32]*Node{}
	f.mu.Unlock()
	f.head, f.last = h, h
	f.sailed++
	d.server.flow(+1)
	nodes := f.waiting
	f.waiting = nil
	slices.SortFunc(nodes, func(a, b *Node) int { return a.Number - b.Number })
	for _, n := range nodes {
		f.join(h, n)
	}
	d.tasks.Go(func() { // ends with the transfer, or with ctx
		out, err := h.Run(ctx)
		d.server.flow(-1)
		d.mu.Lock()
		defer d.mu.Unlock()
		f.land(out, err)
		d.poke()
	})
}

// land takes in how a transfer came out.
func (f *ferry) land(out map[uint32]chain.Outcome, err error) {
	f.head = nil
	if err != nil && !errors.Is(err, chain.ErrNobody) {
		f.err = fmt.Errorf("%s: %w", f.name, err)
	}
	f.mu.Lock()
	aboard := f.aboard
	f.aboard = nil
	f.mu.Unlock()
	for id, n := range aboard {
		if f.d.current(n.Number) != n || n.State() == status.Failed {
			continue // it is somebody else by now, or its cause is known
		}
		o, known := out[id]
		switch {
		case !known && f.err == nil: // it came when the transfer was just over
			f.waiting = append(f.waiting, n)
		case errors.Is(o.Err, chain.ErrNotComplete):
			f.d.fail(n, notLost, f.name, o.Err.Error())
		case o.Complete || n.State() == status.Done || n.State() == status.Released:
		case o.Err != nil:
			f.d.fail(n, cutHow(n), f.name, o.Err.Error())
		}
	}
}

// cutHow guesses how a node was lost that the chain cut out.
func cutHow(n *Node) lostHow {
	if quiet, _ := n.silent(); quiet > 2*pingEvery {
		return silent
	}
	return crashed
}

// busy tells whether a transfer runs or is about to.
func (f *ferry) busy() bool { return f != nil && (f.head != nil || len(f.waiting) > 0) }
