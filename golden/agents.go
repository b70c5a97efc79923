package golden

import (
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// DefaultFanout is how many nodes golden, or a node, tells of an exec itself.
// By 32, two rounds reach 1056 nodes and three all that golden takes (4096);
// and a node that dies on the way leaves a thirty-second of them to be told
// by golden.
const DefaultFanout = 32

// agents are the nodes of a session that run programs for the administrator:
// those in stage 2, whatever else they are about. The zero value has none.
type agents struct {
	mu      sync.Mutex
	here    map[int]*agent    // by the node's number
	parted  map[int]time.Time // when the last one of a node went
	changed chan struct{}     // closed and renewed when one comes
	execs   map[uint64]*execution
	serial  uint64
}

// agent is the process on one node that golden can reach.
type agent struct {
	node   *Node
	pin    trust.Pin
	nonce  string
	addr   string               // where other nodes reach it; empty: nowhere
	orders chan wire.AgentOrder // a few: who doesn't take them is gone
	gone   chan struct{}
	once   sync.Once
}

func (a *agent) leave() { a.once.Do(func() { close(a.gone) }) }

// tell gives an order, unless the agent takes none.
func (a *agent) tell(o wire.AgentOrder) bool {
	select {
	case <-a.gone:
		return false
	default:
	}
	select {
	case a.orders <- o:
		return true
	default:
		return false
	}
}

// holder is the node with the key of a request, also one that has failed: its
// shell is still there. A receiver is somebody else's machine, and runs
// nothing for golden.
func (s *Server) holder(r *http.Request) (*Node, trust.Pin) {
	pin, err := trust.PeerPin(*r.TLS)
	s.mu.Lock()
	n := s.nodes[pin]
	s.mu.Unlock()
	if err != nil || n == nil || n.Stage == wire.Receive {
		return nil, pin
	}
	return n, pin
}

func (s *Server) fanout() int {
	if s.Fanout > 0 {
		return s.Fanout
	}
	return DefaultFanout
}

// agent takes an agent in, and gives it orders for as long as it is there.
func (s *Server) agent(w http.ResponseWriter, r *http.Request) {
	n, pin := s.holder(r)
	if n == nil {
		http.Error(w, "register first", http.StatusUnauthorized)
		return
	}
	var hello wire.AgentHello
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<10)).Decode(&hello)
	from, aerr := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || aerr != nil || hello.Nonce == "" || len(hello.Nonce) > wire.MaxName || hello.Port < 0 || hello.Port > 65535 {
		http.Error(w, "this is no agent's hello", http.StatusBadRequest)
		return
	}
	a := &agent{node: n, pin: pin, nonce: hello.Nonce, orders: make(chan wire.AgentOrder, 64), gone: make(chan struct{})}
	if hello.Port > 0 {
		a.addr = net.JoinHostPort(from.Addr().Unmap().String(), strconv.Itoa(hello.Port))
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	c := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	say := func(o wire.AgentOrder) bool {
		c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		return enc.Encode(o) == nil && c.Flush() == nil
	}
	// Golden talks to the first itself, however many there are: who can't be
	// below another node has no port open.
	listen := n.Number > s.fanout()
	if !say(wire.AgentOrder{Welcome: &wire.AgentWelcome{Golden: s.Golden, Number: n.Number, Listen: listen}}) {
		return
	}
	if !listen || hello.Port > 0 {
		s.agents.enter(a)
		defer s.agents.part(a)
	}
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		o := wire.AgentOrder{Ping: true}
		select {
		case <-r.Context().Done():
			return
		case <-a.gone:
			return
		case o = <-a.orders:
		case <-t.C:
			if now, _ := s.holder(r); now == nil {
				return // its machine has come with another key
			}
		}
		if !say(o) {
			return
		}
	}
}

func (x *agents) enter(a *agent) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.here == nil {
		x.here = map[int]*agent{}
	}
	if old := x.here[a.node.Number]; old != nil {
		old.leave()
	}
	x.here[a.node.Number] = a
	if x.changed != nil {
		close(x.changed)
	}
	x.changed = make(chan struct{})
}

func (x *agents) part(a *agent) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a.leave()
	if x.here[a.node.Number] == a {
		delete(x.here, a.node.Number)
		if x.parted == nil {
			x.parted = map[int]time.Time{}
		}
		x.parted[a.node.Number] = time.Now()
	}
}

// agentBack is how long an agent whose connection broke may take to be back. It
// tries every 20 s at the latest, for up to 15 s.
const agentBack = time.Minute

// lately tells whether a node's agent is here, or may be back.
func (x *agents) lately(number int) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	at, was := x.parted[number]
	return x.here[number] != nil || was && time.Since(at) < agentBack
}

// of is a node's agent, or nil and what to wait for.
func (x *agents) of(number int) (*agent, <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.changed == nil {
		x.changed = make(chan struct{})
	}
	return x.here[number], x.changed
}

// answers takes in what an agent says of an exec.
func (s *Server) answers(w http.ResponseWriter, r *http.Request) {
	n, _ := s.holder(r)
	serial, err := strconv.ParseUint(r.URL.Query().Get("exec"), 10, 64)
	s.agents.mu.Lock()
	e := s.agents.execs[serial]
	s.agents.mu.Unlock()
	if n == nil || err != nil || e == nil {
		http.Error(w, "nobody asks for that", http.StatusGone)
		return
	}
	if err := e.hear(n.Number, w, r); err != nil {
		http.Error(w, err.Error(), http.StatusGone)
	}
}

// console takes in lines of a node's console.
func (s *Server) console(w http.ResponseWriter, r *http.Request) {
	n, _ := s.holder(r)
	if n == nil {
		http.Error(w, "register first", http.StatusUnauthorized)
		return
	}
	var c wire.ConsoleLines
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, wire.MaxMessage)).Decode(&c)
	if err != nil {
		http.Error(w, "this is no console's", http.StatusBadRequest)
		return
	}
	c.Lines = c.Lines[:min(len(c.Lines), wire.MaxConsole)]
	each(c.Lines)
	if s.Console != nil {
		s.Console(n, c.Lines)
	}
}
