package golden

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Times of the control connection.
const (
	pingEvery   = time.Second
	closedGrace = 1500 * time.Millisecond // between a node's connections
	phaseQuiet  = time.Minute             // the same while there is no transfer
)

// maxRegister bounds what a node says of itself, in bytes: it is kept.
const maxRegister = 1 << 20

// maxNodes bounds who may register; the manuals' server took 300.
const maxNodes = 4096

// Server is the control server of a session: it knows the nodes, and carries
// what is said. The port is the hub's.
type Server struct {
	// config
	Session string
	Token   string
	Open    bool // a node without any token may register too
	Quiet   time.Duration
	Log     *slog.Logger
	Golden  string // this run's name
	// Admit may refuse a node, in words for its console. old is the same
	// machine's earlier registration, or nil.
	Admit    func(r wire.Register, old *Node) error
	Arrived  func(n, old *Node)
	Reported func(*Node, wire.Report)
	Gone     func(*Node, error)
	Verbs    http.Handler          // for who has golden's own key; nil: none
	Signer   *trust.Identity       // of the orders of an exec: golden
	Fanout   int                   // of its tree; 0: DefaultFanout
	Console  func(*Node, []string) // told of what is on a node's console

	// state
	entering sync.Mutex // one registration at a time: who is here twice is seen by it
	mu       sync.Mutex
	nodes    map[trust.Pin]*Node
	numbers  map[string]int // by machine
	latest   map[int]*Node  // by number
	agents   agents
	flowing  int // so many transfers run: silence is a fault
}

// alive is how long ago a machine must have been heard of to be alive: it
// says something every second.
const alive = 4 * pingEvery

// errAgain is why a node is gone whose machine has registered again.
var errAgain = errors.New("registered again")

// errSilent is wrapped in why a node is gone that is not heard any more.
var errSilent = errors.New("silent")

// flow counts the transfers that run.
func (s *Server) flow(by int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flowing += by
}

// know sets the numbers of machines that an earlier run of golden had given.
func (s *Server) know(numbers map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.numbers = numbers
}

func (s *Server) register(w http.ResponseWriter, r *http.Request, reg wire.Register) {
	err := s.check(reg)
	var n *Node
	if err == nil {
		n, err = s.enter(reg, r)
	}
	if err != nil {
		code := http.StatusForbidden
		level := slog.LevelWarn
		switch {
		case errors.Is(err, errTwice):
			code = http.StatusConflict
		case errors.Is(err, errLater): // it asks every few seconds
			code, level = http.StatusServiceUnavailable, slog.LevelDebug
		}
		s.Log.Log(r.Context(), level, "refused a node", "from", r.RemoteAddr, "stage", reg.Stage, "err", err)
		http.Error(w, err.Error(), code)
		return
	}
	json.NewEncoder(w).Encode(wire.Registered{Node: n.ID, Number: n.Number, Golden: s.Golden})
}

func (s *Server) check(reg wire.Register) error {
	switch {
	case reg.Version != wire.Version:
		return fmt.Errorf("node speaks protocol version %d, golden %d: make the image anew", reg.Version, wire.Version)
	case reg.Session != s.Session:
		return fmt.Errorf("no session %q here; this one is called %q", reg.Session, s.Session)
	case reg.Token != s.Token && !(s.Open && reg.Token == ""):
		return errors.New("the join token is not this session's")
	case len(reg.Hostname) > wire.MaxName || len(reg.MAC) > wire.MaxName || len(reg.UUID) > wire.MaxName:
		return errors.New("a name is too long")
	case reg.DataPort <= 0 || reg.DataPort > 65535:
		return fmt.Errorf("data port %d is none", reg.DataPort)
	case reg.Card != "" && !isCard(reg.Card):
		return fmt.Errorf("network card %.20q: want a name of at most %d letters, digits and ._-", reg.Card, maxCard)
	case reg.NodeID < 0 || reg.NodeID > maxNodeID:
		return fmt.Errorf("node_id %d: want 1 to %d", reg.NodeID, maxNodeID)
	}
	return nil
}

// What a machine says of itself, and others are told in files: maxCard is a
// network card's name (IFNAMSIZ of linux/if.h with its zero).
const (
	maxCard   = 15
	maxNodeID = 1 << 20
)

func isCard(s string) bool {
	return len(s) <= maxCard && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._-", r)
	})
}

// errTwice refuses a machine that is here already, and lives. It may try
// again: one that was reset is found to be silent in a few seconds.
var errTwice = errors.New("this machine is here already")

// errLater is wrapped where a machine is to look again: the next golden-serve
// may have what it needs.
var errLater = errors.New("nothing for this machine yet")

// enter makes a Node of who registers. The same key, or the same network
// card, is the same machine in its next stage, or back after a pause.
func (s *Server) enter(reg wire.Register, r *http.Request) (*Node, error) {
	pin, err := trust.PeerPin(*r.TLS)
	if err != nil {
		return nil, err
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, fmt.Errorf("parse address %q: %w", r.RemoteAddr, err)
	}
	reg.Hostname, reg.MAC, reg.UUID = printable(reg.Hostname), printable(reg.MAC), printable(reg.UUID)
	reg.From = from.Addr().Unmap()
	n := newNode(reg)
	n.Pin = pin
	n.Addr = netip.AddrPortFrom(from.Addr().Unmap(), uint16(reg.DataPort)).String()
	s.entering.Lock()
	defer s.entering.Unlock()
	old, err := s.find(reg, pin)
	if err != nil {
		return nil, err
	}
	if err := s.Admit(reg, old); err != nil {
		return nil, err
	}
	s.mu.Lock()
	n.Number = s.number(machineKey(reg, pin))
	n.ID = uint32(n.Number)
	if old != nil {
		delete(s.nodes, old.Pin)
	}
	s.nodes[pin], s.latest[n.Number] = n, n
	s.mu.Unlock()
	if old != nil {
		s.lose(old, errAgain)
	}
	s.Arrived(n, old)
	return n, nil
}

// find looks for the machine's earlier registration.
func (s *Server) find(reg wire.Register, pin trust.Pin) (*Node, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.nodes == nil {
		s.nodes, s.latest = map[trust.Pin]*Node{}, map[int]*Node{}
	}
	if s.numbers == nil {
		s.numbers = map[string]int{}
	}
	old := s.latest[s.numbers[machineKey(reg, pin)]]
	if old == nil {
		if len(s.nodes) >= maxNodes {
			return nil, fmt.Errorf("there are %d nodes already", maxNodes)
		}
		return nil, nil
	}
	if quiet, closed := old.silent(); old.Pin != pin && !old.left() && quiet < alive && closed == 0 {
		s.Log.Warn("a machine is here twice, or its network card's address is", "node", old.Number, "first", old.Addr, "mac", reg.MAC)
		return nil, fmt.Errorf("%w: it is node %d, at %s", errTwice, old.Number, old.Addr)
	}
	return old, nil
}

// machineKey is by what golden knows a machine again: its network card; for a
// receiver also what it writes, for a host may run several. One that can't
// tell is known by its key.
func machineKey(reg wire.Register, pin trust.Pin) string {
	switch {
	case reg.MAC == "":
		return pin.String()
	case reg.Stage == wire.Receive:
		return reg.MAC + " " + reg.UUID
	}
	return reg.MAC
}

// number is a machine's number among all that came.
func (s *Server) number(key string) int {
	s.numbers[key] = s.next(key)
	return s.numbers[key]
}

// next is the number that a machine has, or would get.
func (s *Server) next(key string) int {
	if n := s.numbers[key]; n != 0 {
		return n
	}
	last := 0 // there may be gaps: an earlier run's numbers stay
	for _, n := range s.numbers {
		last = max(last, n)
	}
	return last + 1
}

// who finds the node that makes a request.
func (s *Server) who(w http.ResponseWriter, r *http.Request) *Node {
	pin, err := trust.PeerPin(*r.TLS)
	s.mu.Lock()
	n := s.nodes[pin]
	s.mu.Unlock()
	if err != nil || n == nil {
		http.Error(w, "register first", http.StatusUnauthorized)
		return nil
	}
	if from, err := netip.ParseAddrPort(r.RemoteAddr); n.left() || err != nil || from.Addr().Unmap().String() != host(n.Addr) {
		http.Error(w, "golden has given this node up, or it has moved: register again", http.StatusGone)
		return nil
	}
	return n
}

// orders writes orders as they come, and pings between them.
func (s *Server) orders(w http.ResponseWriter, r *http.Request) {
	n := s.who(w, r)
	if n == nil {
		return
	}
	seq, _ := strconv.Atoi(r.URL.Query().Get("after"))
	n.stream(+1)
	defer n.stream(-1)
	w.Header().Set("Content-Type", "application/x-ndjson")
	c := http.NewResponseController(w)
	enc := json.NewEncoder(w)
	t := time.NewTicker(pingEvery)
	defer t.Stop()
	for {
		if n.left() {
			return // it asks again, and is told to register
		}
		list, more := n.after(seq)
		if len(list) == 0 {
			list = []wire.Order{{Ping: true}}
		}
		c.SetWriteDeadline(time.Now().Add(30 * time.Second))
		for _, o := range list {
			seq = max(seq, o.Seq)
			if enc.Encode(o) != nil {
				return
			}
		}
		if c.Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-more:
		case <-t.C:
		}
	}
}

// reports reads what the node says, line by line, for as long as it lives.
func (s *Server) reports(w http.ResponseWriter, r *http.Request) {
	n := s.who(w, r)
	if n == nil {
		return
	}
	n.stream(+1)
	defer n.stream(-1)
	in := bufio.NewScanner(r.Body)
	in.Buffer(make([]byte, 64<<10), wire.MaxMessage)
	for in.Scan() {
		var rep wire.Report
		if err := json.Unmarshal(in.Bytes(), &rep); err != nil {
			http.Error(w, "report: "+err.Error(), http.StatusBadRequest)
			return
		}
		if n.left() {
			http.Error(w, "golden has given this node up: register again", http.StatusGone)
			return
		}
		plain(&rep)
		s.heed(n, rep)
	}
}

// heed deals with a report. The node isn't silent meanwhile: golden is slow.
func (s *Server) heed(n *Node, rep wire.Report) {
	n.heed(+1)
	defer n.heed(-1)
	n.take(rep)
	s.Reported(n, rep)
}

// watch finds nodes that fell silent.
func (s *Server) watch(ctx context.Context) {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		s.mu.Lock()
		quiet := phaseQuiet
		if s.flowing > 0 {
			quiet = s.Quiet
		}
		nodes := make([]*Node, 0, len(s.nodes))
		for _, n := range s.nodes {
			nodes = append(nodes, n)
		}
		s.mu.Unlock()
		for _, n := range nodes {
			switch silent, closed := n.silent(); {
			case closed > closedGrace:
				s.lose(n, errors.New("closed its connections: its process ended, or the machine did"))
			case silent > quiet:
				s.lose(n, fmt.Errorf("%w for %.1f s", errSilent, silent.Seconds()))
			}
		}
	}
}

// lose tells once that a node is gone.
func (s *Server) lose(n *Node, why error) {
	n.mu.Lock()
	was := n.gone
	n.gone = true
	if !was {
		close(n.changed) // its long request ends
		n.changed = make(chan struct{})
	}
	n.mu.Unlock()
	if !was {
		s.Gone(n, why)
	}
}
