package golden

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s := r.URL.Query().Get("session"); s != d.Session {
			http.Error(w, fmt.Sprintf("no session %q here; this one is called %q", s, d.Session), http.StatusNotFound)
			return
		}
		mux.ServeHTTP(w, r)
	})
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
	_, err := a.ask(ctx, http.MethodPost, goPath)
	return err
}

// Status asks how far it is.
func (a Admin) Status(ctx context.Context) (Status, error) {
	var s Status
	b, err := a.ask(ctx, http.MethodGet, statusPath)
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	return s, err
}

func (a Admin) ask(ctx context.Context, method, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "https://"+a.Control+path+"?session="+url.QueryEscape(a.Session), nil)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", a.Control, err)
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: trust.ClientConfig(a.Identity, a.Identity.Pin), DisableKeepAlives: true}}
	resp, err := c.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the golden node of session %s: %w", a.Session, err)
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
