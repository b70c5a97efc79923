package golden

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/nodelog"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Config is what Send and Clone have in common.
type Config struct {
	Session  string
	Token    string
	Nodes    int           // how many machines to wait for
	Wait     time.Duration // for them; 0: until the context ends
	Min      int           // start with so many after Wait; 0: all of Nodes
	Addr     netip.Addr    // golden's own address, which nodes are told; zero: all
	More     []netip.Addr  // golden's addresses in further networks
	Control  int           // port; 0: wire.ControlPort
	Plain    bool          // data without TLS
	Compress chain.Compression
	Share    float64
	Quiet    time.Duration // a node silent for so long in a transfer is gone
	Identity *trust.Identity
	Log      *slog.Logger
	Watch    func(Status) // told of progress, twice a second
	Fanout   int          // of the tree of an exec; 0: DefaultFanout
	Logs     Logs         // what nodes say is kept here
	Book     *Book        // what is known of this session from before; nil: nothing, and nothing is kept
}

// deployment is one run of Send or Clone: the nodes, what they say, what is
// carried to them, and what each is to do next (flow.go).
type deployment struct {
	Config
	server *Server
	begun  time.Time
	tasks  sync.WaitGroup // transfers, and the question to the administrator
	wake   chan struct{}  // something has changed
	over   atomic.Bool    // it has ended, and others of this golden may not have

	// what is to be done; set before anything runs
	logs   *nodelog.Keeper
	hub    *hub           // shared with others; nil: in a test without servers
	clone  *CloneConfig   // nil: only send
	guests *guests        // nil: no machine runs in its memory what is sent
	states *roster.Roster // of a clone
	stage2 *ferry         // of a clone
	tree   *ferry

	mu       sync.Mutex
	nodes    []*Node                      // by arrival; one a machine
	came     map[int]map[string]time.Time // a machine's number, and when it registered in a stage
	times    map[int]int                  // how often a machine has come back
	bad      map[int]int                  // wrong pieces that came from a node
	phase    string
	started  bool
	now      bool         // the administrator says go
	closing  bool         // nobody is let in any more
	touched  bool         // disks may have been written
	free     map[int]bool // nodes that the administrator lets go; by number
	freeAll  bool
	kept     keeper
	asking   bool // the administrator
	unsound  bool // it isn't known yet whether all that the clones get is as it was saved
	err      error
	treeOpen bool      // those who are ready go aboard
	half     time.Time // since when half of the nodes have been ready
	released time.Time // when the last node was let go
	flap     time.Time // until then lost nodes may come back
	back     time.Time // when the first node of a resumed session was back
}

func newDeployment(c Config) *deployment {
	d := &deployment{Config: c, begun: time.Now(), wake: make(chan struct{}, 1),
		came: map[int]map[string]time.Time{}, times: map[int]int{}, bad: map[int]int{}, free: map[int]bool{}}
	if d.Control == 0 {
		d.Control = wire.ControlPort
	}
	if d.Book == nil {
		d.Book = &Book{}
	}
	var run [8]byte
	rand.Read(run[:])
	d.server = &Server{
		Session: c.Session, Token: c.Token, Quiet: cmp.Or(c.Quiet, chain.DefaultQuiet), Log: c.Log, Golden: hex.EncodeToString(run[:]),
		Admit: d.admit, Arrived: d.arrived, Reported: d.reported, Gone: d.gone,
	}
	d.server.Verbs, d.server.Signer, d.server.Fanout = d.verbs(), c.Identity, c.Fanout
	d.server.Console = d.said
	d.server.know(d.Book.numbers())
	return d
}

// addrs are golden's addresses, or none for all that there are.
func (d *deployment) addrs() []netip.Addr {
	if !d.Addr.IsValid() {
		return nil
	}
	return append([]netip.Addr{d.Addr}, d.More...)
}

// poke has the flow look at the nodes again.
func (d *deployment) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run carries the deployment out, and what goes with it. The servers outlive
// an interrupt, so that the nodes hear of it: base is theirs.
func (d *deployment) run(ctx, base context.Context) error {
	base, cancel := context.WithCancel(base)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { d.server.watch(base) })
	wg.Go(func() { d.pulse(base) })
	wg.Go(func() { d.keepBook(base) })
	err := d.flow(ctx)
	d.farewell()
	d.over.Store(true)
	cancel()
	wg.Wait()
	d.closeLogs()
	if d.states != nil {
		if err := d.states.Close(); err != nil {
			d.Log.Warn("the states of the machines are not kept", "err", err)
		}
	}
	d.Book.remove() // this session has ended; one that was killed is resumed by what it left
	return err
}

// farewell tells whoever still listens that there is nothing more to come,
// and gives that a moment to get there.
func (d *deployment) farewell() {
	d.mu.Lock()
	d.closing = true
	told := 0
	for _, n := range d.nodes {
		if n.State() != status.Released && !n.left() {
			n.Tell(wire.Order{Stop: "golden has ended the session"})
			told++
		}
	}
	d.mu.Unlock()
	if told > 0 {
		time.Sleep(pingEvery)
	}
}

// current is the latest registration of a machine, or nil.
func (d *deployment) current(number int) *Node {
	for _, n := range d.nodes {
		if n.Number == number {
			return n
		}
	}
	return nil
}

// arrived: a machine has registered, for the first time, in a new stage, or
// again.
func (d *deployment) arrived(n, old *Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.poke()
	if d.hub != nil {
		d.hub.entered(d, n.Pin)
	}
	if d.clone != nil && d.clone.Wants != nil {
		d.clone.Wants.Arrived(n.Register)
	}
	n.arrived = time.Now()
	d.nodes = append(slices.DeleteFunc(d.nodes, func(o *Node) bool { return o.Number == n.Number }), n)
	if d.came[n.Number] == nil {
		d.came[n.Number] = map[string]time.Time{}
	}
	d.came[n.Number][n.Stage] = n.arrived
	if old != nil && (old.anew || reruns(n.Stage, old)) {
		old = nil // the administrator's word, or its memory is empty: it begins anew
	}
	again := old != nil && (old.Stage == n.Stage || !old.live())
	n.rejoined = old != nil && old.rejoined || again && old.boarded
	if again {
		d.times[n.Number]++
	}
	if old != nil && old.lostHow() == silent && !d.flap.IsZero() {
		d.flap = time.Now().Add(flapRest)
	}
	if d.back.IsZero() && d.Book.known(n) {
		d.back = n.arrived
	}
	n.setState(map[string]status.State{wire.Stage1: status.Stage1, wire.Stage2: status.Stage2}[n.Stage])
	if d.states != nil {
		d.states.Registered(n.MAC, n.Number, d.clone.nameOf(n.MAC, n.Number), n.UUID, host(n.Addr))
	}
	d.takeUp(n)
	d.Log.Info("node is here", "node", n.Number, "addr", n.Addr, "mac", n.MAC, "stage", n.Stage, "again", again || n.Resume != nil)
	d.note(n, slog.LevelInfo, fmt.Sprintf("node %d is here in %s, address %s, network card %s", n.Number, printable(n.Stage), host(n.Addr), n.MAC))
}

// takeUp lets a node go on where it was when it lost golden.
func (d *deployment) takeUp(n *Node) {
	r := n.Resume
	if r == nil || n.Stage == wire.Stage1 {
		return
	}
	same := r.Source == d.tree.digest
	if n.Stage == wire.Stage2 && (r.Ready != nil || r.State == string(status.Preparing)) {
		n.planned = true
		d.touched = true
		n.setState(status.Preparing)
	}
	n.mu.Lock()
	n.ready = r.Ready
	if same {
		n.done = r.Done
	}
	n.mu.Unlock()
	switch {
	case same && r.Done != nil:
		n.setState(status.Done)
		n.boarded = true
	case same && r.State == string(status.Fixing):
		n.setState(status.Fixing)
		n.boarded = true
	case r.Ready != nil:
		n.setState(status.Ready)
	}
}

func (d *deployment) reported(n *Node, r wire.Report) {
	r.Lines = r.Lines[:min(len(r.Lines), maxLines)]
	for _, line := range r.Lines {
		d.Log.Info(line, "node", n.Number)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.poke()
	if r.Fault != nil {
		d.Log.Error("node failed", "node", n.Number, "stage", r.Fault.Stage, "cause", r.Fault.Cause)
	}
	d.noteReport(n, r)
	d.seen(n)
	for _, f := range d.ferries() {
		if r.Link != nil {
			f.report(n, *r.Link)
		}
		if r.Fault != nil {
			f.leave(n, fmt.Errorf("%s: %s", r.Fault.Stage, r.Fault.Cause))
		}
	}
	if cut := d.tree.cause(n); r.Done != nil && errors.Is(cut, chain.ErrNotComplete) {
		d.fail(n, notLost, string(n.State()), cut.Error())
	}
	if r.Link != nil && r.Link.Bad != nil {
		from := int(r.Link.Bad.Peer)
		if from == 0 {
			from = n.Number // the hop is bad, and golden is right
		}
		d.bad[from]++
	}
}

func (d *deployment) ferries() []*ferry {
	if d.stage2 == nil {
		return []*ferry{d.tree}
	}
	return []*ferry{d.stage2, d.tree}
}

// gone: a machine fell silent, closed its connections, or registered again.
func (d *deployment) gone(n *Node, why error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.poke()
	cause := why
	for _, f := range d.ferries() {
		if cut := f.cause(n); cut != nil {
			cause = cut // it closes because it was cut out
		}
		f.leave(n, why)
	}
	s := n.State()
	if d.current(n.Number) != n || errors.Is(why, errAgain) || s == status.Done || s == status.Released || s == status.Failed {
		return
	}
	if n.Stage == wire.Stage1 && s == status.Stepping && n.wholeFor(time.Now()) > 0 {
		return // on its way to stage 2; the wait for that has its own end
	}
	how := crashed
	if errors.Is(why, errSilent) {
		how = silent
	}
	d.fail(n, how, string(s), cause.Error())
}

// fail ends a node's part, unless it comes back.
func (d *deployment) fail(n *Node, how lostHow, stage, cause string) {
	if stage == "" {
		stage = "waiting"
	}
	what := "node is gone"
	if how == notLost {
		what = "node failed"
	}
	d.Log.Error(what, "node", n.Number, "stage", stage, "cause", cause)
	d.note(n, slog.LevelError, fmt.Sprintf("%s: %s: %s", what, stage, cause))
	d.logs.End(d.who(n))
	n.fail(how, stage, cause)
	d.seen(n)
}

func (d *deployment) setPhase(p string) {
	if p == "" || d.phase == p {
		return
	}
	d.phase = p
	d.Log.Info("phase: " + p)
}
