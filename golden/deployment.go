package golden

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kamethod/kamethod/golden/chain"
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
	Control  int           // port; 0: wire.ControlPort
	Plain    bool          // data without TLS
	Compress chain.Compression
	Share    float64
	Quiet    time.Duration // a node silent for so long in a transfer is gone
	Identity *trust.Identity
	Log      *slog.Logger
	Watch    func(Status) // told of progress, twice a second
}

// maxConfirm is how long a node may take from its last piece to its last word.
const maxConfirm = 30 * time.Minute

// deployment is the part of Send and Clone that is the same: the nodes, what
// they say, and the transfer that runs.
type deployment struct {
	Config
	server *Server
	begun  time.Time

	mu      sync.Mutex
	cond    *sync.Cond
	nodes   []*Node                      // by arrival; one a machine
	came    map[int]map[string]time.Time // a machine's number, and when it registered in a stage
	head    *chain.Head
	phase   string
	touched bool                      // disks may have been written
	seen    func(*Node, status.State) // told of each node's state; nil: nobody is
}

func newDeployment(c Config) *deployment {
	d := &deployment{Config: c, begun: time.Now(), came: map[int]map[string]time.Time{}}
	if d.Control == 0 {
		d.Control = wire.ControlPort
	}
	d.cond = sync.NewCond(&d.mu)
	d.server = &Server{
		Session: c.Session, Token: c.Token, Identity: c.Identity, Quiet: c.Quiet, Log: c.Log,
		Arrived: d.arrived, Reported: d.reported, Gone: d.gone,
		Admit: func(wire.Register) error { return nil },
	}
	return d
}

// serve runs the control server, the boot servers where there are any, and
// what goes with them, around f.
func (d *deployment) serve(ctx context.Context, boot, f func(context.Context) error) error {
	host := ""
	if d.Addr.IsValid() {
		host = d.Addr.String()
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(d.Control)))
	if err != nil {
		return inUse(err, d.Control)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	pc, err := net.ListenPacket("udp", fmt.Sprintf(":%d", port))
	if err != nil {
		ln.Close()
		return inUse(err, port)
	}
	// The servers outlive an interrupt, so that the nodes hear of it.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, base := errgroup.WithContext(base)
	work, stop := context.WithCancel(base)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	g.Go(func() error { return d.server.Serve(base, ln) })
	g.Go(func() error { d.server.Find(base, pc, port); return nil })
	g.Go(func() error { d.pulse(base); return nil })
	if boot != nil {
		g.Go(func() error { return boot(base) })
	}
	g.Go(func() error {
		defer cancel()
		defer d.farewell()
		return f(work)
	})
	err = g.Wait()
	if err == nil || errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

func inUse(err error, port int) error {
	return fmt.Errorf("%w: is another golden-serve running? (--port takes another than %d)", err, port)
}

// farewell tells whoever still listens that there is nothing more to come,
// and gives that a moment to get there.
func (d *deployment) farewell() {
	d.mu.Lock()
	told := 0
	for _, n := range d.nodes {
		if s := n.State(); s != status.Released && !n.left() {
			n.Tell(wire.Order{Stop: "golden has ended the session"})
			told++
		}
	}
	d.mu.Unlock()
	if told > 0 {
		time.Sleep(pingEvery)
	}
}

func (n *Node) left() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.gone
}

// arrived: a machine has registered, for the first time or in a new stage.
func (d *deployment) arrived(n *Node) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.nodes = slices.DeleteFunc(d.nodes, func(o *Node) bool { return o.Number == n.Number })
	d.nodes = append(d.nodes, n)
	if d.came[n.Number] == nil {
		d.came[n.Number] = map[string]time.Time{}
	}
	d.came[n.Number][n.Stage] = time.Now()
	n.setState(map[string]status.State{wire.Stage1: status.Stage1, wire.Stage2: status.Stage2}[n.Stage])
	d.Log.Info("node is here", "node", n.Number, "addr", n.Addr, "mac", n.MAC, "stage", n.Stage)
	d.cond.Broadcast()
}

func (d *deployment) reported(n *Node, r wire.Report) {
	for _, line := range r.Lines {
		d.Log.Info(line, "node", n.Number)
	}
	if r.Fault != nil {
		d.Log.Error("node failed", "node", n.Number, "stage", r.Fault.Stage, "cause", r.Fault.Cause)
	}
	d.tellSeen(n)
	d.mu.Lock()
	head := d.head
	d.cond.Broadcast()
	d.mu.Unlock()
	if head == nil {
		return
	}
	if r.Link != nil {
		head.Report(n.ID, *r.Link)
	}
	if r.Fault != nil {
		head.Leave(n.ID, fmt.Errorf("%s: %s", r.Fault.Stage, r.Fault.Cause))
	}
}

func (d *deployment) tellSeen(n *Node) {
	if d.seen != nil {
		d.seen(n, n.State())
	}
}

// gone: a machine fell silent or closed its connections.
func (d *deployment) gone(n *Node, why error) {
	d.mu.Lock()
	head := d.head
	current := slices.Contains(d.nodes, n)
	d.cond.Broadcast()
	d.mu.Unlock()
	if head != nil {
		head.Leave(n.ID, why)
	}
	s := n.State()
	if !current || s == status.Done || s == status.Released || s == status.Failed {
		return
	}
	if n.Stage == wire.Stage1 && s == status.Stepping {
		return // on its way to stage 2; the wait for that has its own end
	}
	n.fail(string(s), why.Error())
	d.tellSeen(n)
	d.Log.Error("node is gone", "node", n.Number, "stage", s, "cause", why)
}

// await waits until ok holds, which is asked with the lock held.
func (d *deployment) await(ctx context.Context, limit time.Duration, ok func() bool) error {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, d.cond.Broadcast)
	defer stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	for !ok() {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.cond.Wait()
	}
	return nil
}

// in lists the nodes of a stage that live.
func (d *deployment) in(stage string) []*Node {
	var out []*Node
	for _, n := range d.nodes {
		if n.Stage == stage && n.State() != status.Failed && !n.left() {
			out = append(out, n)
		}
	}
	return out
}

// ErrTooFew is a deployment that never had enough nodes; nothing was touched.
var ErrTooFew = errors.New("too few nodes came")

// gather waits for enough nodes of a stage.
func (d *deployment) gather(ctx context.Context, stage string) ([]*Node, error) {
	d.setPhase("waiting for nodes")
	var list []*Node
	err := d.await(ctx, d.Wait, func() bool {
		list = d.in(stage)
		return len(list) >= d.Nodes
	})
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return list, err
	}
	if d.Min > 0 && len(list) >= d.Min {
		return list, nil
	}
	return nil, fmt.Errorf("%w: %d of %d within %s", ErrTooFew, len(list), d.Nodes, d.Wait)
}

// transfer sends a source to nodes. A node that did not get it has failed.
func (d *deployment) transfer(ctx context.Context, phase string, src chain.Source, nodes []*Node) error {
	byID := map[uint32]*Node{}
	h := &chain.Head{
		Source: src, Identity: d.Identity, Plain: d.Plain, Compress: d.Compress, Share: d.Share, Quiet: d.Quiet, Log: d.Log,
		Tell: func(id uint32, o wire.LinkOrder) { byID[id].Tell(wire.Order{Link: &o}) },
	}
	rand.Read(h.Transfer[:])
	h.Start()
	d.setPhase(phase)
	d.mu.Lock()
	d.head = h
	d.mu.Unlock()
	d.server.SetFlowing(true)
	slices.SortFunc(nodes, func(a, b *Node) int { return a.Number - b.Number })
	for _, n := range nodes {
		byID[n.ID] = n
	}
	for _, n := range nodes {
		h.Join(chain.Member{ID: n.ID, Addr: n.Addr, Pin: n.Pin, Queue: n.Queue})
		if n.left() {
			h.Leave(n.ID, errors.New("left before the transfer began"))
		}
	}
	out, err := h.Run(ctx)
	d.server.SetFlowing(false)
	for id, o := range out {
		if !o.Complete {
			byID[id].fail(phase, o.Err.Error())
			d.tellSeen(byID[id])
		}
	}
	if errors.Is(err, chain.ErrNobody) {
		err = nil // every node has its cause
	}
	return err
}

// confirm waits until every node that lives has said that it is done.
func (d *deployment) confirm(ctx context.Context, stage string) error {
	return d.await(ctx, maxConfirm, func() bool {
		for _, n := range d.in(stage) {
			n.mu.Lock()
			done := n.done != nil
			n.mu.Unlock()
			if !done {
				return false
			}
		}
		return true
	})
}

func (d *deployment) setPhase(p string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.phase = p
	d.Log.Info("phase: " + p)
}
