package golden

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// How long nodes may take, and how long others wait for them.
const (
	maxStep    = 10 * time.Minute // from stage 1 into stage 2
	maxPrepare = 30 * time.Minute // partition, format, mount
	maxConfirm = 30 * time.Minute // from the last piece to the last word

	maxResume  = 15 * time.Second // for the rest of a resumed session, once one is back
	straggle   = time.Minute      // for who isn't in stage 2 yet, before the question is put
	laggards   = 30 * time.Second // for who isn't ready, when half of the nodes are
	nobodyWait = 5 * time.Second  // for who isn't done, before who is done is let go
	flapWait   = time.Minute      // for anybody to come back, when all have fallen silent at once
	flapRest   = 10 * time.Second // for the others, once one is back
)

// flow carries the deployment out. It looks at every node whenever something
// has changed, and has each do what is next for it; nothing is remembered
// but what the nodes are, so a node may come, go and come back at any time.
//
//	clone: stage 1 ▶ (stage 2 ferry) ▶ stage 2 ▶ confirmed ▶ preparing ▶ ready
//	         ▶ (tree ferry) ▶ receiving ▶ fixing ▶ done ▶ released
//	send:  here ▶ (tree ferry) ▶ receiving ▶ done ▶ released
//	run:   here ▶ is told who it is ▶ (tree ferry) ▶ receiving ▶ done ▶ released
func (d *deployment) flow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer d.tasks.Wait()
	defer cancel()
	t := time.NewTicker(pingEvery / 4)
	defer t.Stop()
	d.mu.Lock()
	d.setPhase("waiting for nodes")
	d.verify(ctx)
	d.mu.Unlock()
	for {
		d.mu.Lock()
		over, err := d.step(ctx, time.Now())
		d.mu.Unlock()
		if err != nil {
			return err
		}
		if over {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-d.wake:
		case <-t.C:
		}
	}
	time.Sleep(pingEvery) // for the last releases to get there
	if d.clone != nil {
		d.linger(ctx)
	}
	return nil
}

// step looks once at every node.
func (d *deployment) step(ctx context.Context, now time.Time) (over bool, err error) {
	if !d.started {
		if d.err != nil {
			return false, d.err
		}
		if d.started, err = d.gathered(now); err != nil || !d.started {
			return false, err
		}
		d.Book.begun()
	}
	for _, n := range d.nodes {
		if n.live() {
			d.advance(n, now)
		}
	}
	d.ask(now)
	d.openTree(now)
	for _, f := range d.ferries() {
		f.sail(ctx)
		if f.err != nil {
			return false, f.err
		}
	}
	d.letGo(now)
	d.setPhase(d.phaseNow())
	if d.err != nil {
		return false, d.err
	}
	if !d.settled(now) {
		return false, nil
	}
	d.closing = true
	return true, nil
}

// ErrTooFew is a deployment that never had enough nodes; nothing was touched.
var ErrTooFew = errors.New("too few nodes came")

// gathered tells whether enough nodes are here to start.
func (d *deployment) gathered(now time.Time) (bool, error) {
	here, back := 0, 0
	for _, n := range d.nodes {
		if n.live() {
			here++
			if d.Book.known(n) {
				back++
			}
		}
	}
	switch want := d.Book.expected(); {
	case here >= d.Nodes, d.now && here > 0:
		return true, nil
	case want > 0 && (back >= want || !d.back.IsZero() && now.Sub(d.back) > maxResume):
		return true, nil // of a session that had begun
	case d.Wait <= 0 || now.Sub(d.begun) < d.Wait:
		return false, nil
	case d.Min > 0 && here >= d.Min:
		return true, nil
	}
	return false, fmt.Errorf("%w: %d of %d within %s", ErrTooFew, here, d.Nodes, d.Wait)
}

// advance has a node do what is next for it.
func (d *deployment) advance(n *Node, now time.Time) {
	switch s := n.State(); {
	case n.Stage == wire.Stage1 && !n.boarded:
		n.setState(status.Stepping)
		d.first().board(n)
	case n.Stage == wire.Stage1 && d.clone.Fetch:
		if n.wholeFor(now) > 0 {
			n.setState(status.Done)
		}
	case n.Stage == wire.Stage2 && !n.planned && d.unfit(n):
	case n.Stage == wire.Stage1 && n.wholeFor(now) > maxStep:
		d.fail(n, crashed, string(s), fmt.Sprintf("did not come back in stage 2 within %s", maxStep))
	case n.Stage == wire.Stage2 && !n.planned && d.Book.confirmed(n):
		if !d.unsound && d.kept.has(d, &n.toErase) {
			d.prepare(n)
		}
	case s == status.Preparing && n.in(now) > maxPrepare:
		d.fail(n, notLost, string(s), fmt.Sprintf("took longer than %s", maxPrepare))
	case n.Stage == wire.RunRAM && !n.boarded:
		if d.tell(n) {
			n.setState(status.Receiving)
			d.tree.board(n)
		}
	case s == status.Ready && d.treeOpen && !n.boarded, n.Stage == wire.Receive && !n.boarded:
		n.setState(status.Receiving)
		d.tree.board(n)
	case n.Stage != wire.Stage1 && s != status.Done && s != status.Released && (n.wholeFor(now) > d.confirmTime() || s == status.Fixing && n.in(now) > d.confirmTime()):
		d.fail(n, notLost, string(s), fmt.Sprintf("took longer than %s from its last piece to its last word", d.confirmTime()))
	}
}

// first is the ferry for machines in stage 1.
func (d *deployment) first() *ferry {
	if d.stage2 == nil {
		return d.tree
	}
	return d.stage2
}

// unfit sends a node away that can't take what it would get.
func (d *deployment) unfit(n *Node) bool {
	if d.clone.Fits == nil {
		return false
	}
	err := d.clone.Fits(n)
	if err != nil {
		d.fail(n, notLost, "checking sizes", err.Error())
		n.Tell(wire.Order{Stop: err.Error()})
	}
	return err != nil
}

// prepare has a node make its disks.
func (d *deployment) prepare(n *Node) {
	d.touched = true
	n.planned = true
	n.setState(status.Preparing)
	own := d.clone.Plan
	own.Identity = d.clone.identity(n.MAC, n.Number)
	n.Tell(wire.Order{Plan: &own})
}

// ask shows the administrator whose disks will be erased, when all who are on
// their way are there, or have had time enough. Who comes later is asked for
// by itself.
func (d *deployment) ask(now time.Time) {
	if d.clone == nil || d.asking {
		return
	}
	var list []*Node
	coming, waited := false, false
	for _, n := range d.nodes {
		switch {
		case !n.live():
		case n.Stage == wire.Stage1:
			coming = true
		case !n.planned && !d.Book.confirmed(n):
			list = append(list, n)
			waited = waited || now.Sub(n.arrived) > straggle
		}
	}
	if len(list) == 0 || coming && !waited {
		return
	}
	d.asking = true
	// It reads from a terminal, and so may outlast the session: it then ends
	// with the process.
	go func() {
		err := d.clone.Confirm(list)
		d.mu.Lock()
		defer d.mu.Unlock()
		d.answered(list, err)
		d.poke()
	}()
}

func (d *deployment) answered(list []*Node, err error) {
	d.asking = false
	switch {
	case err == nil:
		d.Book.confirm(list)
	case !d.touched:
		d.err = err
	default:
		for _, n := range list {
			d.fail(n, notLost, string(n.State()), err.Error())
			n.Tell(wire.Order{Stop: err.Error()})
		}
	}
}

// openTree lets those go aboard who are ready: when all are, or when half of
// them have waited for the others; these come late then.
func (d *deployment) openTree(now time.Time) {
	if d.clone == nil || d.treeOpen {
		return
	}
	ready, all := 0, 0
	for _, n := range d.nodes {
		if n.live() {
			all++
			if n.Ready() != nil {
				ready++
			}
		}
	}
	if ready == 0 || 2*ready < all {
		d.half = time.Time{}
		return
	}
	if d.half.IsZero() {
		d.half = now
	}
	if ready < all && now.Sub(d.half) < laggards {
		return
	}
	d.treeOpen = true
	d.poke()
}

// letGo releases who is done: when all are, or when others take longer. Who
// has stage 2 goes on alike.
func (d *deployment) letGo(now time.Time) {
	all := true
	for _, n := range d.nodes {
		s := n.State()
		all = all && (!n.live() || s == status.Done || s == status.Released)
		if n.Stage == wire.Stage1 && n.wholeFor(now) > nobodyWait {
			d.first().retire(n)
		}
	}
	for _, n := range slices.SortedFunc(slices.Values(d.nodes), func(a, b *Node) int { return a.Number - b.Number }) {
		if n.State() != status.Done || d.held(n) || !d.freed(n) && !(all && !d.tree.busy()) && n.in(now) < nobodyWait {
			continue
		}
		if !d.freed(n) && now.Sub(d.released) < d.delay() {
			continue
		}
		d.seen(n)
		if !d.kept.has(d, &n.toLetGo) {
			continue
		}
		d.released = now
		d.tree.retire(n)
		n.Tell(wire.Order{Release: &wire.Release{Reboot: d.clone != nil, Torn: tornText(d.tree.torn())}})
		n.setState(status.Released)
		d.note(n, slog.LevelInfo, "state: "+string(status.Released))
		d.seen(n)
	}
}

func (d *deployment) delay() time.Duration {
	if d.clone == nil {
		return 0
	}
	return d.clone.Delay
}

// settled tells whether every node has come out one way or the other. When
// all have fallen silent at once it is more likely the network: they may be
// back.
func (d *deployment) settled(now time.Time) bool {
	if d.asking || d.keeps() || d.guests.stay() || d.states != nil && d.states.Awaited() > 0 {
		return false
	}
	quiet, well := 0, 0
	for _, n := range d.nodes {
		switch s := n.State(); {
		case s == status.Released:
			well++
		case n.live():
			return false
		case n.lostHow() == silent:
			quiet++
		}
	}
	for _, f := range d.ferries() {
		if f.busy() {
			return false
		}
	}
	if quiet > 0 && well == 0 && d.flap.IsZero() {
		d.flap = now.Add(flapWait)
		d.Log.Warn("no node is heard any more: waiting for them to come back", "for", flapWait)
	}
	return quiet == 0 || now.After(d.flap)
}

// phaseNow is what most nodes are about, in words.
func (d *deployment) phaseNow() string {
	state := map[status.State]int{}
	undone := 0
	for _, n := range d.nodes {
		if n.live() {
			state[n.State()]++
			if s := n.State(); s != status.Done && s != status.Released {
				undone++
			}
		}
	}
	switch {
	case d.tree.busy():
		return d.tree.name
	case d.stage2.busy():
		return d.stage2.name
	case undone == 0 && d.started && d.states != nil && d.states.Awaited() > 0:
		return "waiting for machines that were armed"
	case undone == 0 && d.started && d.guests.stay():
		return "all run; who boots again is served"
	case undone == 0 && d.clone != nil && d.clone.Hold && !d.freeAll:
		return "nodes are held (golden-serve release)"
	case undone == 0:
		return ""
	case d.clone == nil:
		return "receivers finish"
	case state[status.Stepping] > 0 && state[status.Stage2] == 0:
		return "waiting for stage 2"
	case d.unsound && state[status.Stage2] > 0 && !d.asking:
		return "nodes wait until the image has been compared with its hashes"
	case state[status.Preparing] > 0:
		return "nodes prepare their disks"
	case state[status.Fixing]+state[status.Receiving] > 0:
		return "nodes become machines of their own"
	}
	return ""
}
