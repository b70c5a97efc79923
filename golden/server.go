package golden

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Times of the control connection.
const (
	pingEvery   = time.Second
	closedGrace = 1500 * time.Millisecond // between a node's connections
	phaseQuiet  = time.Minute             // the same while there is no transfer
)

// maxNodes bounds who may register; the manuals' server took 300.
const maxNodes = 4096

// Server is the control server: it knows the nodes, and carries what is said.
type Server struct {
	// config
	Session  string
	Token    string
	Open     bool // a node without any token may register too
	Identity *trust.Identity
	Quiet    time.Duration // default chain.DefaultQuiet
	Log      *slog.Logger
	Admit    func(wire.Register) error // may refuse a node, in words for its console
	Arrived  func(*Node)
	Reported func(*Node, wire.Report)
	Gone     func(*Node, error)

	// state
	mu      sync.Mutex
	nodes   map[trust.Pin]*Node
	numbers map[string]int // by MAC, or by pin
	flowing bool           // a transfer runs: silence is a fault
}

// Serve answers on an address until the context ends.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if s.Quiet == 0 {
		s.Quiet = chain.DefaultQuiet
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.RegisterPath, s.register)
	mux.HandleFunc("GET "+wire.OrdersPath, s.orders)
	mux.HandleFunc("POST "+wire.ReportsPath, s.reports)
	h := &http.Server{
		Handler: mux, TLSConfig: trust.ServerConfig(s.Identity),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { h.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	watch, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() { s.watch(watch) })
	err := h.Serve(tls.NewListener(ln, h.TLSConfig))
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve control on %s: %w", ln.Addr(), err)
}

// SetFlowing says whether a transfer runs.
func (s *Server) SetFlowing(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.flowing = on
}

func (s *Server) register(w http.ResponseWriter, r *http.Request) {
	var reg wire.Register
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, wire.MaxMessage)).Decode(&reg)
	if err == nil {
		err = s.admit(reg)
	}
	var n *Node
	if err == nil {
		n, err = s.enter(reg, r)
	}
	if err != nil {
		s.Log.Warn("refused a node", "from", r.RemoteAddr, "stage", reg.Stage, "err", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	json.NewEncoder(w).Encode(wire.Registered{Node: n.ID, Number: n.Number})
	s.Arrived(n)
}

func (s *Server) admit(reg wire.Register) error {
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
	}
	return s.Admit(reg)
}

// enter makes a Node of who registers. The same key again is the same machine
// in its next stage, or back after a pause.
func (s *Server) enter(reg wire.Register, r *http.Request) (*Node, error) {
	pin, err := trust.PeerPin(*r.TLS)
	if err != nil {
		return nil, err
	}
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return nil, fmt.Errorf("parse address %q: %w", r.RemoteAddr, err)
	}
	n := newNode(reg)
	n.Pin = pin
	n.Addr = netip.AddrPortFrom(from.Addr().Unmap(), uint16(reg.DataPort)).String()
	s.mu.Lock()
	old := s.nodes[pin]
	if s.nodes == nil {
		s.nodes, s.numbers = map[trust.Pin]*Node{}, map[string]int{}
	}
	if old == nil && len(s.nodes) >= maxNodes {
		s.mu.Unlock()
		return nil, fmt.Errorf("there are %d nodes already", maxNodes)
	}
	n.Number = s.number(reg, pin)
	n.ID = uint32(n.Number)
	s.nodes[pin] = n
	s.mu.Unlock()
	if old != nil {
		s.lose(old, errors.New("registered again"))
	}
	return n, nil
}

// number is a machine's number among all that came, by its network card
// where it has told of one.
func (s *Server) number(reg wire.Register, pin trust.Pin) int {
	key := reg.MAC
	if key == "" {
		key = pin.String()
	}
	if s.numbers[key] == 0 {
		s.numbers[key] = len(s.numbers) + 1
	}
	return s.numbers[key]
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
		n.take(rep)
		s.Reported(n, rep)
	}
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
		if s.flowing {
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
				s.lose(n, fmt.Errorf("silent for %.1f s", silent.Seconds()))
			}
		}
	}
}

// lose tells once that a node is gone.
func (s *Server) lose(n *Node, why error) {
	n.mu.Lock()
	was := n.gone
	n.gone = true
	n.mu.Unlock()
	if !was {
		s.Gone(n, why)
	}
}

// Find answers nodes that broadcast for this session, until the context ends.
func (s *Server) Find(ctx context.Context, pc net.PacketConn, controlPort int) {
	stop := context.AfterFunc(ctx, func() { pc.Close() })
	defer stop()
	b := make([]byte, 1024)
	for {
		n, from, err := pc.ReadFrom(b)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(pingEvery / 10)
			continue
		}
		if name, ok := wire.ParseFind(b[:n]); ok && name == s.Session {
			pc.WriteTo(wire.FindReply(name, controlPort), from)
		}
	}
}
