package golden

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
)

// The administrator's verbs: golden's own key opens them.
const (
	goPath     = "/v1/golden/go"     // POST: start with the nodes that are there
	statusPath = "/v1/golden/status" // GET: how far it is
	nodesPath  = "/v1/golden/nodes"  // GET: the list of machines
	armPath    = "/v1/golden/arm"    // POST machines: arm these
	disarmPath = "/v1/golden/disarm" // POST machines: disarm these, or all
)

// verbs answers the administrator.
func (d *deployment) verbs() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+goPath, func(w http.ResponseWriter, r *http.Request) {
		if err := d.start(); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("GET "+statusPath, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(d.status())
	})
	mux.HandleFunc("POST "+execPath, d.execVerb)
	mux.HandleFunc("POST "+releasePath, d.releaseVerb)
	mux.HandleFunc("GET "+nodesPath, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(d.list())
	})
	mux.HandleFunc("POST "+armPath, d.ofClone(d.onMachines(func(q machines) error {
		if q.All {
			return errors.New("arm whom? addresses are wanted")
		}
		return d.arm(q.MACs)
	})))
	mux.HandleFunc("POST "+disarmPath, d.ofClone(d.onMachines(func(q machines) error { return d.disarm(q.MACs, q.All) })))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := r.URL.Query().Get("session"); s != d.Session {
			http.Error(w, fmt.Sprintf("no session %q here; this one is called %q", s, d.Session), http.StatusNotFound)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// ofClone is a verb that only a clone has.
func (d *deployment) ofClone(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if d.states == nil {
			why := "this session boots no machines; it arms none"
			if d.guests != nil && d.guests.Boot != nil {
				why = "this session arms no machines: --macs or --nodes-file of golden-serve run name those that run it, else the first N that boot do; each as often as it boots"
			}
			http.Error(w, why, http.StatusConflict)
			return
		}
		h(w, r)
	}
}

// machines is whom a verb is for: those that are named, or all. Nobody is not
// all.
type machines struct {
	MACs []string `json:"macs,omitempty"`
	All  bool     `json:"all,omitempty"`
}

// onMachines carries a verb out that names machines, and answers with the list.
func (d *deployment) onMachines(do func(machines) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var q machines
		in := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegister))
		in.DisallowUnknownFields()
		err := in.Decode(&q)
		if err == nil && q.All != (len(q.MACs) == 0) {
			err = errors.New("name them, or say that all are meant")
		}
		if err != nil {
			http.Error(w, "machines: "+err.Error(), http.StatusBadRequest)
			return
		}
		if err := do(q); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
			return
		}
		json.NewEncoder(w).Encode(d.list())
	}
}

// start is the verb go.
func (d *deployment) start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	here := 0
	for _, n := range d.nodes {
		if n.live() {
			here++
		}
	}
	switch {
	case d.started:
		return errors.New("it has started already")
	case here == 0:
		return errors.New("no node is here")
	}
	d.now = true
	d.Log.Info("starting with the nodes that are here, as the administrator says", "nodes", here)
	d.poke()
	return nil
}

// Admin speaks to a golden-serve that runs.
type Admin struct {
	Control  string // host:port
	Session  string
	Identity *trust.Identity
}

// Go has it start with the nodes that are there.
func (a Admin) Go(ctx context.Context) error {
	_, err := a.ask(ctx, http.MethodPost, goPath, nil)
	return err
}

// Status asks how far it is.
func (a Admin) Status(ctx context.Context) (Status, error) {
	var s Status
	b, err := a.ask(ctx, http.MethodGet, statusPath, nil)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

// Nodes asks for the list of machines.
func (a Admin) Nodes(ctx context.Context) (Nodes, error) {
	return a.list(ctx, http.MethodGet, nodesPath, nil)
}

// Arm arms machines, all of these or none.
func (a Admin) Arm(ctx context.Context, macs []string) (Nodes, error) {
	return a.tell(ctx, armPath, machines{MACs: macs})
}

// Disarm disarms machines, all of these or none.
func (a Admin) Disarm(ctx context.Context, macs []string) (Nodes, error) {
	return a.tell(ctx, disarmPath, machines{MACs: macs})
}

// DisarmAll disarms all machines whose disks aren't being written, and has none
// armed by coming any more.
func (a Admin) DisarmAll(ctx context.Context) (Nodes, error) {
	return a.tell(ctx, disarmPath, machines{All: true})
}

func (a Admin) tell(ctx context.Context, path string, q machines) (Nodes, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return Nodes{}, fmt.Errorf("encode the machines: %w", err)
	}
	return a.list(ctx, http.MethodPost, path, body)
}

func (a Admin) list(ctx context.Context, method, path string, body []byte) (Nodes, error) {
	var n Nodes
	b, err := a.ask(ctx, method, path, body)
	if err == nil {
		err = json.Unmarshal(b, &n)
	}
	return n, err
}

// ErrNotRunning is wrapped in what an Admin says when nobody answers.
var ErrNotRunning = errors.New("no golden-serve answers")

// How long golden has to be reached, and to answer: its disk may be busy.
const (
	askReach  = 10 * time.Second
	askAnswer = time.Minute
)

func (a Admin) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, askAnswer)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+a.Control+path+"?session="+url.QueryEscape(a.Session), bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.Control, err)
	}
	c := http.Client{Transport: &http.Transport{DialContext: (&net.Dialer{Timeout: askReach}).DialContext,
		TLSClientConfig: trust.ClientConfig(a.Identity, a.Identity.Pin), DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("ask the golden node of session %s: %w", a.Session, err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask the golden node of session %s: %w: %w", a.Session, ErrNotRunning, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBook))
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.Control, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("golden node %s: %s", a.Control, strings.TrimSpace(string(b)))
	}
	return b, nil
}
