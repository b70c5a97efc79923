package golden

import (
	"slices"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Node is a machine that has registered. A machine that goes from stage 1 to
// stage 2, or that comes back, becomes another Node with the same Number.
type Node struct {
	ID     uint32 // in the chain: the Number
	Number int    // the machine's place among all that ever came
	Addr   string // host:port, where it takes frames
	Pin    trust.Pin
	wire.Register

	// state that belongs to the deployment, under its lock
	arrived  time.Time
	planned  bool // was told its plan
	boarded  bool // was given to the ferry of its stage
	rejoined bool // was in the session before, and was lost
	counted  bool // as a crash of its machine
	anew     bool // its machine was armed again since
	toErase  int  // marks of the keeper
	toLetGo  int

	mu      sync.Mutex
	changed chan struct{} // closed and renewed whenever there are orders
	orders  []wire.Order
	seen    time.Time
	heeded  int // reports of it that golden is about
	streams int // long-lived requests that are open
	dropped time.Time
	gone    bool
	state   status.State
	since   map[status.State]time.Time
	fault   *wire.Fault
	ready   *wire.DiskResult
	done    *wire.Done
	lost    lostHow
	whole   time.Time // when it had all pieces of the transfer that it is in
	stored  int64     // bytes of it
}

// lostHow is how a node that failed was lost.
type lostHow int

const (
	notLost lostHow = iota // it is there, or has told of its failure itself
	crashed                // its connections closed, or it didn't come back
	silent                 // nothing is heard: hung, or its cable is out
)

func newNode(r wire.Register) *Node {
	return &Node{Register: r, changed: make(chan struct{}), seen: time.Now(), since: map[status.State]time.Time{}}
}

// Tell gives the node an order, when it next listens.
func (n *Node) Tell(o wire.Order) {
	n.mu.Lock()
	defer n.mu.Unlock()
	o.Seq = len(n.orders) + 1
	n.orders = append(n.orders, o)
	close(n.changed)
	n.changed = make(chan struct{})
}

// after lists the orders behind seq, and what to wait for when there are none.
func (n *Node) after(seq int) ([]wire.Order, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if seq < 0 || seq > len(n.orders) {
		seq = len(n.orders)
	}
	return n.orders[seq:len(n.orders):len(n.orders)], n.changed
}

// course is the order of the states. A report that was on its way when golden
// went on must not bring a node back.
var course = []status.State{
	"", status.Stage1, status.Stepping, status.Stage2, status.Preparing, status.Ready, status.Receiving,
	status.Fixing, status.Done, status.Released, status.Failed,
}

func (n *Node) setState(s status.State) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == status.Released || slices.Index(course, s) <= slices.Index(course, n.state) {
		return
	}
	n.state = s
	n.since[s] = time.Now()
}

// in is for how long the node has been in its state.
func (n *Node) in(now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if t, ok := n.since[n.state]; ok {
		return now.Sub(t)
	}
	return 0
}

// State is how far the node is.
func (n *Node) State() status.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.state
}

// Fault is why the node failed, or nil.
func (n *Node) Fault() *wire.Fault {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.fault
}

func (n *Node) fail(how lostHow, stage, cause string) {
	n.setState(status.Failed)
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.state == status.Failed && n.fault == nil {
		n.fault, n.lost = &wire.Fault{Stage: stage, Cause: cause}, how
	}
}

// live tells whether the node is still to become something, or has.
func (n *Node) live() bool { return n.State() != status.Failed }

func (n *Node) left() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gone
}

func (n *Node) lostHow() lostHow {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lost
}

// take keeps what a report says of the node itself.
func (n *Node) take(r wire.Report) {
	if r.State != "" {
		n.setState(status.State(r.State))
	}
	if r.Fault != nil {
		n.fail(notLost, r.Fault.Stage, r.Fault.Cause)
	}
	if r.Done != nil {
		n.setState(status.Done)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.seen = time.Now()
	if r.Ready != nil {
		n.ready = r.Ready
	}
	if r.Done != nil {
		n.done = r.Done
	}
	if r.Link != nil {
		n.stored = max(n.stored, r.Link.Stored)
		if r.Link.Complete && n.whole.IsZero() {
			n.whole = time.Now()
		}
	}
}

// wholeFor is for how long the node has had all pieces; 0: it has not.
func (n *Node) wholeFor(now time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.whole.IsZero() {
		return 0
	}
	return now.Sub(n.whole)
}

// heed counts the reports that golden is about.
func (n *Node) heed(d int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.heeded += d
	n.seen = time.Now()
}

// stream counts the node's open requests; the time when the last one closed
// is kept, for a node whose process ended is gone at once.
func (n *Node) stream(d int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams += d
	n.seen = time.Now()
	if n.streams == 0 {
		n.dropped = time.Now()
	}
}

// silent is for how long nothing was heard; closed, for how long not even a
// connection has been open.
func (n *Node) silent() (silent, closed time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.streams == 0 && !n.dropped.IsZero() {
		closed = time.Since(n.dropped)
	}
	if n.heeded > 0 {
		return 0, closed
	}
	return time.Since(n.seen), closed
}

// seconds is how long the node was in a state, as far as it has got.
func (n *Node) seconds(from status.State, to ...status.State) float64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.since[from]
	if !ok {
		return 0
	}
	for _, t := range to {
		if b, ok := n.since[t]; ok {
			return b.Sub(a).Seconds()
		}
	}
	return time.Since(a).Seconds()
}
