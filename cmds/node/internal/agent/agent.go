// Package agent runs programs on a node in stage 2, as the administrator says:
// golden-serve exec. It is a process of its own, so that it is there while the
// machine is being cloned, when that has failed and a shell is kept, and while
// a clone waits for its release. It obeys golden's key and nothing else, and
// clones nothing.
//
//	golden ══▶ agent ══▶ agent        signed orders, down a tree
//	       ◀══   │   ◀══   │          output and exit status, up
//	          program   program
//
// An order that came by another node is obeyed if golden has signed it, for
// this process, and if that node is the one above it in the order's tree.
package agent

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// Times of an agent.
const (
	beatEvery   = time.Second      // something is said up and down so often
	quietUp     = 10 * time.Second // golden, or the node above, is gone when nothing is heard for so long
	quietDown   = 8 * time.Second  // and a node below
	dialLimit   = 5 * time.Second
	helloLimit  = 10 * time.Second
	retryFirst  = time.Second // after the connection to golden ended; twice that each time, up to
	retryLast   = 20 * time.Second
	deafAfter   = time.Minute     // an answer that golden may take no more is given up: it is not heard for so long
	orphanAfter = time.Minute     // a program for which nobody asks is ended
	keepAfter   = 2 * time.Minute // what a program said is kept, once it has ended
)

// Bounds.
const (
	maxRuns  = 32  // programs that run at once
	maxKept  = 128 // and that have ended, and are remembered
	maxPeers = 8   // connections from other nodes at once
)

// Config says who this node is and whom it obeys.
type Config struct {
	Server   string // golden's control server, host:port
	Golden   trust.Pin
	Identity *trust.Identity // by which golden knows this node
	Log      *slog.Logger
}

// Agent is one process.
type Agent struct {
	Config
	nonce  string
	client *http.Client

	mu     sync.Mutex
	golden string    // the run of golden that has welcomed us
	heard  time.Time // when golden last said something
	number int
	ln     net.Listener // nil: no other node can reach us
	runs   map[uint64]*run
	floor  uint64 // an order up to this serial is old, unless it is in runs
	tasks  sync.WaitGroup
}

// New makes an agent.
func New(c Config) *Agent {
	var b [16]byte
	rand.Read(b[:])
	dial := &net.Dialer{Timeout: dialLimit, KeepAlive: 2 * time.Second}
	return &Agent{Config: c, nonce: hex.EncodeToString(b[:]), runs: map[uint64]*run{}, client: &http.Client{Transport: &http.Transport{
		TLSClientConfig: trust.ClientConfig(c.Identity, c.Golden), DialContext: dial.DialContext,
		TLSHandshakeTimeout: helloLimit, MaxIdleConnsPerHost: 2,
	}}}
}

// Run serves golden until the context ends: it is there for as long as the
// machine is in stage 2, also when golden is not.
func (a *Agent) Run(ctx context.Context) {
	defer a.tasks.Wait()
	defer a.closePort()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wait := retryFirst
	for ctx.Err() == nil {
		welcome, err := a.hear(ctx)
		switch {
		case errors.Is(err, errListen):
			wait = 0
		case welcome:
			wait = retryFirst
		}
		if err != nil && ctx.Err() == nil {
			a.Log.Debug("golden is not heard", "err", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(max(2*wait, retryFirst), retryLast)
	}
}

// errListen has the agent say hello again, with a port.
var errListen = errors.New("golden wants a port")

// hear follows golden's orders until the connection ends, and says whether
// golden had taken us in.
func (a *Agent) hear(ctx context.Context) (welcome bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.AfterFunc(helloLimit, cancel)
	defer quiet.Stop()
	body, err := json.Marshal(wire.AgentHello{Nonce: a.nonce, Port: a.port()})
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url(wire.AgentPath), bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, fmt.Errorf("golden answers %s", resp.Status)
	}
	in := bufio.NewScanner(resp.Body)
	in.Buffer(make([]byte, 4<<10), 2*wire.MaxExecOrder)
	for in.Scan() {
		quiet.Reset(quietUp)
		a.hears()
		var o wire.AgentOrder
		if err := json.Unmarshal(in.Bytes(), &o); err != nil {
			return welcome, fmt.Errorf("order: %w", err)
		}
		if o.Welcome != nil {
			welcome = true
			if err := a.welcomed(ctx, *o.Welcome); err != nil {
				return welcome, err
			}
		}
		a.obey(o)
	}
	if err := in.Err(); err != nil {
		return welcome, err
	}
	return welcome, io.EOF
}

func (a *Agent) hears() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.heard = time.Now()
}

// untilDeaf ends when golden is not heard any more, or ctx does.
func (a *Agent) untilDeaf(ctx context.Context) error {
	return everyBeat(ctx, func() error {
		a.mu.Lock()
		defer a.mu.Unlock()
		if time.Since(a.heard) > deafAfter {
			return errDeaf
		}
		return nil
	})
}

var errDeaf = fmt.Errorf("golden is not heard for %s", deafAfter)

func (a *Agent) url(path string) string { return "https://" + a.Server + path }

// welcomed takes note of who golden is. Orders of another golden are void.
func (a *Agent) welcomed(_ context.Context, w wire.AgentWelcome) error {
	a.mu.Lock()
	if a.golden != w.Golden {
		a.golden, a.floor = w.Golden, 0
		for serial, r := range a.runs {
			r.stop(errCancelled)
			r.leave()
			delete(a.runs, serial)
		}
	}
	a.number = w.Number
	listening := a.ln != nil
	a.mu.Unlock()
	if !w.Listen || listening {
		return nil
	}
	if err := a.openPort(); err != nil {
		a.Log.Warn("no other node can pass orders to this one", "err", err)
		return nil // golden tells us itself
	}
	return errListen
}

// obey carries out an order that golden gives itself.
func (a *Agent) obey(o wire.AgentOrder) {
	if o.Cancel != 0 {
		a.cancelRun(o.Cancel)
	}
	if o.Exec == nil {
		return
	}
	order, me, err := a.open(*o.Exec)
	if err == nil && order.Nodes[me].Above != -1 {
		err = errors.New("golden brings an order that another node is to bring")
	}
	if err != nil {
		a.Log.Warn("an order is refused", "err", err)
		return
	}
	a.tasks.Go(func() { // ends with the exec, or with golden's connection
		if err := a.answerGolden(order, me, *o.Exec); err != nil {
			a.Log.Debug("answer golden", "exec", order.Serial, "err", err)
		}
	})
}

// open checks that an order is golden's, of now, and for this process, and
// finds our place in it.
func (a *Agent) open(s wire.SignedExec) (wire.ExecOrder, int, error) {
	o, err := s.Open(a.Golden)
	if err != nil {
		return o, 0, err
	}
	a.mu.Lock()
	golden := a.golden
	a.mu.Unlock()
	if o.Golden != golden {
		return o, 0, errors.New("exec order: of another run of golden")
	}
	for i, n := range o.Nodes {
		if n.Pin == a.Identity.Pin && n.Nonce == a.nonce {
			return o, i, nil
		}
	}
	return o, 0, errors.New("exec order: not for this process")
}

// answerGolden posts what comes of an order.
func (a *Agent) answerGolden(o wire.ExecOrder, me int, s wire.SignedExec) error {
	r, err := a.take(o)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(r.asked)
	defer cancel(nil)
	body, w := io.Pipe()
	stop := context.AfterFunc(ctx, func() { w.CloseWithError(context.Cause(ctx)) })
	defer stop()
	var post sync.WaitGroup
	post.Go(func() {
		err := a.post(ctx, fmt.Sprintf("%s?exec=%d", wire.AnswersPath, o.Serial), body)
		body.CloseWithError(err)
		if err != nil {
			cancel(err)
		}
	})
	err = a.answer(ctx, cancel, r, o, me, s, w)
	w.CloseWithError(err)
	post.Wait()
	return err
}

// post sends what can be read from body, for as long as that lasts. Golden may
// leave it waiting, when the administrator reads slowly: no deadline fits that,
// but golden is heard meanwhile, by the other connection.
func (a *Agent) post(ctx context.Context, path string, body io.Reader) error {
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	defer watch.Wait()
	defer cancel()
	watch.Go(func() { // ends with the post
		if err := a.untilDeaf(ctx); err != nil {
			a.Log.Warn("an answer is given up", "err", err)
			cancel()
		}
	})
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url(path), body)
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("golden answers %s", resp.Status)
	}
	return nil
}

func (a *Agent) port() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ln == nil {
		return 0
	}
	return a.ln.Addr().(*net.TCPAddr).Port
}

func (a *Agent) openPort() error {
	ln, err := net.Listen("tcp", ":0")
	if err != nil {
		return fmt.Errorf("open a port for other nodes: %w", err)
	}
	ln = tls.NewListener(ln, trust.ServerConfig(a.Identity))
	a.mu.Lock()
	a.ln = ln
	a.mu.Unlock()
	a.tasks.Go(func() { a.accept(ln) }) // ends when the port is closed
	return nil
}

func (a *Agent) closePort() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ln != nil {
		a.ln.Close()
	}
	for _, r := range a.runs {
		r.stop(errCancelled)
	}
}
