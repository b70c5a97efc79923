package golden

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// hub is what the deployments of one golden-serve share: the control port, the
// answers to broadcasts, and the boot servers (claims.go). Mostly there is one
// deployment; a machine belongs to one of several at most.
//
//	control    register, by the session that it names ─┐
//	           orders and reports, by the node's key ──┼─▶ deployment room1
//	           the administrator's verbs, by session ──┤     book, roster, report
//	broadcast  by the session's name ──────────────────┼─▶ deployment room2
//	boot       by the machine's network card ──────────┘     book, roster, report
type hub struct {
	// config, by the first deployment
	identity *trust.Identity
	log      *slog.Logger
	addrs    []netip.Addr
	port     int
	run      string // names this golden-serve to others

	all   []*deployment
	ended func(i int, err error) // told once of each that has ended, at once if it can be; nil: nobody

	mu    sync.Mutex
	owner map[trust.Pin]*deployment // where the holder of a key has registered last
}

func newHub(all []*deployment) *hub {
	first := all[0]
	h := &hub{identity: first.Identity, log: first.Log, addrs: first.addrs(), port: first.Control, run: first.server.Golden,
		all: all, owner: map[trust.Pin]*deployment{}}
	for _, d := range all {
		d.hub = h
	}
	return h
}

// serve runs the control server, the boot servers where there are any, and
// what goes with them, around the deployments. It returns what became of each.
func (h *hub) serve(ctx context.Context, boot func(context.Context) error) []error {
	ends := make([]error, len(h.all))
	fail := func(err error) []error {
		for i, d := range h.all {
			ends[i] = errors.Join(err, d.abandon())
			h.end(i, ends[i])
		}
		return ends
	}
	ln, err := listenAll(h.addrs, h.port)
	if err != nil {
		return fail(inUse(err, h.port))
	}
	port := ln.Addr().(*net.TCPAddr).Port
	finder, err := h.openFinder(port)
	if err != nil {
		ln.Close()
		return fail(err)
	}
	// The servers outlive an interrupt, so that the nodes hear of it.
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	g, base := errgroup.WithContext(base)
	work, stop := context.WithCancel(base)
	defer stop()
	defer context.AfterFunc(ctx, stop)()
	for _, d := range h.all {
		d.Book.open(ln.Addr().String())
		d.logs = d.openLogs()
	}
	g.Go(func() error { return h.control(base, ln) })
	g.Go(func() error { finder.serve(base); return nil })
	if boot != nil {
		g.Go(func() error { return h.bootAlone(base, boot) })
	}
	g.Go(func() error {
		defer cancel()
		var wg sync.WaitGroup
		for i, d := range h.all {
			wg.Go(func() {
				ends[i] = d.run(work, base)
				if ends[i] == nil {
					ends[i] = ctx.Err()
				}
				if !errors.Is(ends[i], context.Canceled) {
					h.end(i, ends[i])
				}
			})
		}
		wg.Wait()
		return nil
	})
	err = g.Wait()
	for i := range ends {
		switch {
		case !errors.Is(ends[i], context.Canceled):
			continue
		case err != nil && !errors.Is(err, context.Canceled):
			ends[i] = err // a server of all has failed
		case ctx.Err() != nil:
			ends[i] = ctx.Err()
		}
		h.end(i, ends[i])
	}
	return ends
}

func (h *hub) end(i int, err error) {
	if h.ended != nil {
		h.ended(i, err)
	}
}

// abandon ends a deployment that never began.
func (d *deployment) abandon() error {
	if d.states == nil {
		return nil
	}
	return d.states.Close()
}

func inUse(err error, port int) error {
	return fmt.Errorf("%w: is another golden-serve running? (--port takes another than %d; golden-serve sessions runs several in one)", err, port)
}

// control serves the control port until the context ends.
func (h *hub) control(ctx context.Context, ln net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+wire.RegisterPath, h.register)
	mux.HandleFunc("GET "+wire.OrdersPath, h.ofNode((*Server).orders))
	mux.HandleFunc("POST "+wire.ReportsPath, h.ofNode((*Server).reports))
	mux.HandleFunc("POST "+wire.AgentPath, h.ofNode((*Server).agent))
	mux.HandleFunc("POST "+wire.AnswersPath, h.ofNode((*Server).answers))
	mux.HandleFunc("POST "+wire.ConsolePath, h.ofNode((*Server).console))
	mux.HandleFunc("/v1/golden/", h.verbs)
	s := &http.Server{
		Handler: mux, TLSConfig: trust.ServerConfig(h.identity),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog:    slog.NewLogLogger(h.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	err := s.Serve(tls.NewListener(ln, s.TLSConfig))
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve control on %s: %w", ln.Addr(), err)
}

// named finds the deployment of a session, or says in words that there is none.
func (h *hub) named(session string) (*deployment, error) {
	var names []string
	for _, d := range h.all {
		if d.Session == session {
			return d, nil
		}
		names = append(names, fmt.Sprintf("%q", d.Session))
	}
	if len(names) == 1 {
		return nil, fmt.Errorf("no session %q here; this one is called %s", session, names[0])
	}
	return nil, fmt.Errorf("no session %q here; these are called %s", session, strings.Join(names, ", "))
}

// register takes a node to the session that it names, and to no other.
func (h *hub) register(w http.ResponseWriter, r *http.Request) {
	var reg wire.Register
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegister)).Decode(&reg)
	var d *deployment
	if err == nil {
		d, err = h.named(reg.Session)
	}
	if err != nil {
		h.log.Warn("refused a node", "from", r.RemoteAddr, "stage", printable(reg.Stage), "err", err)
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	d.server.register(w, r, reg)
}

// entered takes note of who registered in a session. What its key had in
// another one ends.
func (h *hub) entered(d *deployment, pin trust.Pin) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.owner[pin] = d
}

// ofNode has the session answer in which the holder of a key is.
func (h *hub) ofNode(answer func(*Server, http.ResponseWriter, *http.Request)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		pin, err := trust.PeerPin(*r.TLS)
		h.mu.Lock()
		d := h.owner[pin]
		h.mu.Unlock()
		if err != nil || d == nil {
			http.Error(w, "register first", http.StatusUnauthorized)
			return
		}
		answer(d.server, w, r)
	}
}

// verbs are the administrator's: golden's own key opens them.
func (h *hub) verbs(w http.ResponseWriter, r *http.Request) {
	if pin, err := trust.PeerPin(*r.TLS); err != nil || pin != h.identity.Pin {
		http.Error(w, "not with this key", http.StatusForbidden)
		return
	}
	d, err := h.named(r.URL.Query().Get("session"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	d.server.Verbs.ServeHTTP(w, r)
}

// Job is a deployment among others: one of the two.
type Job struct {
	Clone *CloneConfig
	Run   *RunConfig // boots no machines here
}

func (j Job) open() (*deployment, error) {
	if j.Clone != nil {
		return newClone(*j.Clone)
	}
	return newRun(*j.Run)
}

// Outcome is how a deployment came out.
type Outcome struct {
	Result
	Err error
}

// alone carries out one deployment.
func alone(ctx context.Context, j Job) (r Result, err error) {
	none := Several(ctx, nil, []Job{j}, func(_ int, o Outcome) { r, err = o.Result, o.Err })
	return r, errors.Join(none, err)
}

// Several carries out deployments side by side, on one control port and by the
// same boot servers: those of the first clone. All have the same address, port
// and identity, and no two the same session, nor the same machine. The end of
// one is no other's; ended is told of each, maybe at the same time. An error
// means that none has begun. What they share logs to log, or where the first
// does.
func Several(ctx context.Context, log *slog.Logger, jobs []Job, ended func(i int, o Outcome)) error {
	var all []*deployment
	fail := func(err error) error {
		for _, d := range all {
			err = errors.Join(err, d.abandon())
		}
		return err
	}
	for _, j := range jobs {
		d, err := j.open()
		if err != nil {
			return fail(err)
		}
		all = append(all, d)
	}
	if err := disjoint(all); err != nil {
		return fail(err)
	}
	h := newHub(all)
	if log != nil {
		h.log = log
	}
	h.ended = func(i int, err error) { ended(i, Outcome{Result: all[i].labelled(), Err: err}) }
	boot, err := h.boot()
	if err != nil {
		return fail(err)
	}
	defer boot.Close()
	var serveBoot func(context.Context) error
	if len(boot) > 0 {
		serveBoot = boot.Serve
	}
	for _, d := range all {
		if len(boot) == 0 && d.clone != nil {
			d.clone.Linger = 0 // no network boot is ours to answer
		}
	}
	h.serve(ctx, serveBoot)
	return nil
}

// labelled is the result, with what the nodes have become.
func (d *deployment) labelled() Result {
	r := d.result()
	for i := range r.Nodes {
		if d.clone != nil {
			d.clone.label(&r.Nodes[i])
		} else {
			d.label(&r.Nodes[i])
		}
	}
	return r
}
