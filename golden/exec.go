package golden

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Times of an exec.
const (
	attachWait = 20 * time.Second // from an order to the first word of its answer
	agentWait  = 5 * time.Second  // for an agent whose connection broke
	answerQuit = 10 * time.Second // an agent from which nothing comes is gone
	execGrace  = time.Minute      // beyond the program's own limit
	endGrace   = 2 * time.Second  // for the ends of the answers, once every node has ended
	execTries  = 3
)

// ExecEvent is what golden tells the administrator of an exec.
type ExecEvent struct {
	Number int            `json:"number,omitempty"`
	Node   string         `json:"node,omitempty"` // its name
	Out    []byte         `json:"out,omitempty"`
	Err    bool           `json:"stderr,omitempty"` // Out is of its standard error
	Exit   *wire.ExecExit `json:"exit,omitempty"`
	Lost   string         `json:"lost,omitempty"` // the node doesn't answer, or some of what it said is missing
	Last   bool           `json:"last,omitempty"` // with Exit and Lost: nothing more comes of the node
	Nodes  int            `json:"nodes,omitempty"`
}

// execution is one program on many nodes.
//
//	golden ─order─▶ tree ─▶ … ─▶ node      answers come back the same way
//	   └────order─────────────▶ node       and by this one when one between died
type execution struct {
	s      *Server
	serial uint64
	argv   []string
	limit  time.Duration
	ctx    context.Context
	emit   func(ExecEvent) error // one at a time
	name   func(number int) string
	direct bool // no tree
	tasks  sync.WaitGroup
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	targets  map[int]*target
	attempts map[int]*attempt // by the node that answers golden
	left     int              // of targets
	over     chan struct{}    // closed when none is
	ending   bool             // exec waits for its tasks: none begins any more
	closed   bool             // exec has returned: emit is no more
}

// target is a node that is to run the program.
type target struct {
	pin     trust.Pin
	nonce   string // of the agent that was told: another one knows nothing
	next    uint64 // frame
	adopted bool   // golden asks it itself
	done    bool
}

// attempt is an order on its way, and its answer.
type attempt struct {
	tree  []wire.ExecNode
	in    map[int]bool
	came  chan struct{}
	ended chan error
	once  sync.Once
}

// exec runs a program on nodes, and returns when all have ended, are lost, or
// ctx has; then the programs are ended.
func (s *Server) exec(ctx context.Context, e *execution, list []*agent) error {
	ctx, cancel := context.WithTimeout(ctx, e.limit+execGrace)
	defer cancel()
	e.s, e.over = s, make(chan struct{})
	e.ctx, e.cancel = context.WithCancelCause(ctx)
	defer e.cancel(nil)
	e.targets, e.attempts, e.left = map[int]*target{}, map[int]*attempt{}, len(list)
	for _, a := range list {
		e.targets[a.node.Number] = &target{pin: a.pin, nonce: a.nonce, next: 1}
	}
	x := &s.agents
	x.mu.Lock()
	if x.execs == nil {
		x.execs = map[uint64]*execution{}
	}
	x.serial++
	e.serial = x.serial
	x.execs[e.serial] = e
	x.mu.Unlock()
	defer func() {
		x.mu.Lock()
		delete(x.execs, e.serial)
		x.mu.Unlock()
		e.settle()
	}()
	fanout := s.fanout()
	if e.direct {
		fanout = len(list)
	}
	for _, tree := range plant(list, fanout) {
		e.tasks.Go(func() { e.send(tree) })
	}
	select {
	case <-e.over:
		quick := time.AfterFunc(endGrace, func() { e.cancel(nil) })
		defer quick.Stop()
		e.tasks.Wait()
		return nil
	case <-e.ctx.Done():
	}
	for _, a := range list {
		if now, _ := x.of(a.node.Number); now != nil {
			now.tell(wire.AgentOrder{Cancel: e.serial})
		}
	}
	return context.Cause(e.ctx)
}

// settle ends what goes on, and names who has not ended. Whoever still hears an
// agent, for as long as answerQuit, says nothing after that: where emit writes
// to is gone then.
func (e *execution) settle() {
	e.cancel(nil)
	e.mu.Lock()
	e.ending = true
	e.mu.Unlock()
	e.tasks.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, number := range slices.Sorted(maps.Keys(e.targets)) {
		if t := e.targets[number]; !t.done {
			e.say(ExecEvent{Number: number, Lost: "it has not ended in time", Last: true})
			e.finish(t)
		}
	}
	e.closed = true
}

// send has the first node of a tree tell the others; golden asks those itself
// from whom nothing came.
func (e *execution) send(tree []wire.ExecNode) {
	err := e.carry(tree, 0)
	for _, n := range tree {
		e.adopt(n.Number, err)
	}
}

// carry brings an order to one agent and waits until its answer has ended.
func (e *execution) carry(tree []wire.ExecNode, from uint64) error {
	first := tree[0]
	a, err := e.waitFor(first)
	if err != nil {
		return err
	}
	order, err := wire.SignExec(e.s.Signer, wire.ExecOrder{
		Golden: e.s.Golden, Serial: e.serial, Argv: e.argv, Limit: int(max(e.limit, time.Second) / time.Second), Nodes: tree,
	})
	if err != nil {
		return err
	}
	order.From = from
	t := &attempt{tree: tree, in: map[int]bool{}, came: make(chan struct{}), ended: make(chan error, 1)}
	for _, n := range tree {
		t.in[n.Number] = true
	}
	e.mu.Lock()
	e.attempts[first.Number] = t
	e.mu.Unlock()
	if !a.tell(wire.AgentOrder{Exec: &order}) {
		return errors.New("its agent takes no orders")
	}
	wait := time.NewTimer(attachWait)
	defer wait.Stop()
	select {
	case <-e.ctx.Done():
		return e.ctx.Err()
	case <-a.gone:
		return errors.New("its connection to golden broke")
	case <-wait.C:
		return errNoAnswer
	case <-t.came:
	}
	select {
	case <-e.ctx.Done():
		return e.ctx.Err()
	case err := <-t.ended:
		return err
	}
}

// waitFor finds the agent of a node; it may be about to come back.
func (e *execution) waitFor(n wire.ExecNode) (*agent, error) {
	wait := time.NewTimer(agentWait)
	defer wait.Stop()
	for {
		a, changed := e.s.agents.of(n.Number)
		switch {
		case a != nil && a.nonce == n.Nonce && a.pin == n.Pin:
			return a, nil
		case a != nil:
			return nil, fmt.Errorf("%w: it was started anew", errNoAgent)
		}
		select {
		case <-e.ctx.Done():
			return nil, e.ctx.Err()
		case <-wait.C:
			return nil, fmt.Errorf("%w for %s", errNoAgent, agentWait)
		case <-changed:
		}
	}
}

// adopt has golden ask a node itself, that another one was to ask, unless it
// has ended.
func (e *execution) adopt(number int, why error) {
	e.mu.Lock()
	defer e.mu.Unlock() // no task begins once exec waits for their end
	t := e.targets[number]
	if t == nil || t.done || t.adopted || e.ending || e.ctx.Err() != nil {
		return
	}
	t.adopted = true
	e.s.Log.Debug("asking a node itself", "node", number, "exec", e.serial, "why", why)
	e.tasks.Go(func() { // ends with the exec
		n := wire.ExecNode{Number: number, Above: -1, Pin: t.pin, Nonce: t.nonce}
		for range execTries {
			e.mu.Lock()
			from, done := t.next, t.done
			e.mu.Unlock()
			if done || e.ctx.Err() != nil {
				return
			}
			err := e.carry([]wire.ExecNode{n}, from)
			if err != nil {
				why = err
			}
			if errors.Is(err, errNoAnswer) || errors.Is(err, errNoAgent) {
				break
			}
		}
		e.lose(number, why)
	})
}

// Why a node isn't asked again.
var (
	errNoAnswer = fmt.Errorf("no answer within %s", attachWait)
	errNoAgent  = errors.New("no connection to its agent")
)

// lose gives a node up.
func (e *execution) lose(number int, why error) {
	if why == nil {
		why = errors.New("its answer ended early")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	t := e.targets[number]
	if t.done || e.ctx.Err() != nil {
		return
	}
	e.say(ExecEvent{Number: number, Lost: printable(why.Error()), Last: true})
	e.finish(t)
}

// finish has the lock held, and so has say.
func (e *execution) finish(t *target) {
	t.done = true
	if e.left--; e.left == 0 {
		close(e.over)
	}
}

// say waits for the administrator: nodes wait with golden, up to their limit.
func (e *execution) say(v ExecEvent) {
	if e.closed {
		return
	}
	v.Node = e.name(v.Number)
	if err := e.emit(v); err != nil {
		e.cancel(err)
	}
}

// hear takes in an agent's answer.
func (e *execution) hear(number int, w http.ResponseWriter, r *http.Request) (err error) {
	e.mu.Lock()
	t := e.attempts[number]
	e.mu.Unlock()
	if t == nil {
		return errors.New("nobody asks for that")
	}
	first := false
	t.once.Do(func() { first = true; close(t.came) })
	if !first {
		return errors.New("that was answered already")
	}
	defer func() { t.ended <- err }()
	c := http.NewResponseController(w)
	in := bufio.NewScanner(r.Body)
	in.Buffer(make([]byte, 4<<10), wire.MaxExecFrame)
	for e.ctx.Err() == nil {
		// Only while golden reads: the administrator may have made it wait.
		if err := c.SetReadDeadline(time.Now().Add(answerQuit)); err != nil {
			return fmt.Errorf("set a deadline: %w", err)
		}
		if !in.Scan() {
			if err := in.Err(); err != nil {
				return fmt.Errorf("its answer broke off: %w", err)
			}
			return errors.New("its answer broke off")
		}
		var f wire.ExecFrame
		if err := json.Unmarshal(in.Bytes(), &f); err != nil {
			return fmt.Errorf("its answer: %w", err)
		}
		if f.End {
			c.SetReadDeadline(time.Time{})
			return nil
		}
		if f.Node != 0 && !t.in[f.Node] {
			return fmt.Errorf("it speaks for node %d, which isn't below it", f.Node)
		}
		e.take(t, f)
	}
	return e.ctx.Err()
}

// take takes in a frame. One that has come by another way is dropped.
func (e *execution) take(t *attempt, f wire.ExecFrame) {
	if f.Lost != "" {
		for _, number := range below(t.tree, f.Node) {
			e.adopt(number, errors.New(printable(f.Lost)))
		}
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	n := e.targets[f.Node]
	if e.closed || n == nil || n.done || f.Seq < n.next {
		return
	}
	if f.Seq > n.next {
		e.say(ExecEvent{Number: f.Node, Lost: "some of its output is missing: a node on the way was lost"})
	}
	n.next = f.Seq + 1
	if len(f.Out) > 0 {
		e.say(ExecEvent{Number: f.Node, Out: f.Out, Err: f.Err})
	}
	if f.Exit != nil {
		f.Exit.Signal, f.Exit.Error = printable(f.Exit.Signal), printable(f.Exit.Error)
		e.say(ExecEvent{Number: f.Node, Exit: f.Exit, Last: true})
		e.finish(n)
	}
}
