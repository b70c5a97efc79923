package golden

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// execPatience is for what happens at once unless it never does.
const execPatience = time.Minute

// execLab is an exec on one node, with a server between: its agent has been
// told, and is played by the test.
type execLab struct {
	t      *testing.T
	e      *execution
	s      *Server
	agent  *agent
	server *httptest.Server
	ended  chan error // exec's
	late   atomic.Int32
	stop   context.CancelFunc
}

func newExecLab(t *testing.T, limit time.Duration) *execLab {
	t.Helper()
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	l := &execLab{t: t, ended: make(chan error, 1)}
	l.s = &Server{Golden: "run", Signer: id, Log: slog.New(slog.DiscardHandler)}
	l.agent = &agent{node: &Node{Number: 1}, nonce: "n", orders: make(chan wire.AgentOrder, 64), gone: make(chan struct{})}
	l.s.agents.enter(l.agent)
	l.e = &execution{argv: []string{"true"}, limit: time.Hour, name: func(int) string { return "node1" }}
	mux := http.NewServeMux()
	mux.HandleFunc("/exec", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), limit)
		defer cancel()
		var returned atomic.Bool
		defer returned.Store(true)
		enc := json.NewEncoder(w)
		l.e.emit = func(v ExecEvent) error {
			if returned.Load() {
				l.late.Add(1)
				return errors.New("too late")
			}
			if err := enc.Encode(v); err != nil {
				return err
			}
			return http.NewResponseController(w).Flush()
		}
		l.ended <- l.s.exec(ctx, l.e, []*agent{l.agent})
	})
	mux.HandleFunc("/answers", func(w http.ResponseWriter, r *http.Request) {
		if err := l.e.hear(1, w, r); err != nil {
			http.Error(w, err.Error(), http.StatusGone)
		}
	})
	l.server = httptest.NewServer(mux)
	t.Cleanup(l.server.Close)
	return l
}

// ask is the administrator.
func (l *execLab) ask() io.ReadCloser {
	l.t.Helper()
	ctx, cancel := context.WithCancel(l.t.Context())
	l.stop = cancel
	l.t.Cleanup(cancel)
	came := make(chan *http.Response, 1)
	go func() {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, l.server.URL+"/exec", nil)
		if err != nil {
			l.t.Error(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			resp = &http.Response{Body: http.NoBody}
		}
		came <- resp
	}()
	select {
	case o := <-l.agent.orders:
		if o.Exec == nil {
			l.t.Fatalf("the agent is told %+v", o)
		}
	case <-time.After(execPatience):
		l.t.Fatal("the agent is told nothing")
	}
	r, w := io.Pipe()
	go func() { // ends with the answer
		resp := <-came
		_, err := io.Copy(w, resp.Body)
		w.CloseWithError(err)
		resp.Body.Close()
	}()
	return r
}

// answer opens the agent's answer.
func (l *execLab) answer() func(wire.ExecFrame) {
	l.t.Helper()
	r, w := io.Pipe()
	l.t.Cleanup(func() { w.Close() })
	go func() { // ends with w
		resp, err := http.Post(l.server.URL+"/answers", "application/x-ndjson", r)
		r.CloseWithError(io.ErrClosedPipe)
		if err == nil {
			resp.Body.Close()
		}
	}()
	enc := json.NewEncoder(w)
	return func(f wire.ExecFrame) {
		if err := enc.Encode(f); err != nil && !errors.Is(err, io.ErrClosedPipe) {
			l.t.Errorf("answer: %v", err)
		}
	}
}

func (l *execLab) event(in *bufio.Scanner) ExecEvent {
	l.t.Helper()
	var v ExecEvent
	if !in.Scan() {
		l.t.Fatalf("no event: %v", in.Err())
	}
	if err := json.Unmarshal(in.Bytes(), &v); err != nil {
		l.t.Fatal(err)
	}
	return v
}

func (l *execLab) over() error {
	l.t.Helper()
	select {
	case err := <-l.ended:
		return err
	case <-time.After(execPatience):
		l.t.Fatal("exec goes on")
		return nil
	}
}

// The administrator goes (^C) in the midst of an answer: what comes of it
// afterwards is not written to the administrator's connection, which is
// another's by then.
func TestExecInterrupted(t *testing.T) {
	l := newExecLab(t, time.Hour)
	r := l.ask()
	say := l.answer()
	say(wire.ExecFrame{Node: 1, Seq: 1, Out: []byte("x")})
	if v := l.event(bufio.NewScanner(r)); string(v.Out) != "x" {
		t.Fatalf("%+v", v)
	}
	l.stop()
	if l.over() == nil {
		t.Error("exec has ended well")
	}
	// A handler that had read this before the end takes it in after.
	l.e.take(&attempt{}, wire.ExecFrame{Node: 1, Seq: 2, Out: []byte("y")})
	for seq := range uint64(20) {
		say(wire.ExecFrame{Node: 1, Seq: 3 + seq, Out: []byte("z")})
	}
	l.e.lose(1, nil)
	if n := l.late.Load(); n > 0 {
		t.Errorf("%d events after the end", n)
	}
	select {
	case o := <-l.agent.orders:
		if o.Cancel != l.e.serial {
			t.Errorf("the agent is told %+v", o)
		}
	default:
		t.Error("the program isn't ended")
	}
}

// A node that has said nothing when the time is over is named.
func TestExecNamesWhoIsSilent(t *testing.T) {
	l := newExecLab(t, time.Second)
	in := bufio.NewScanner(l.ask())
	if v := l.event(in); v.Node != "node1" || v.Lost == "" || !v.Last {
		t.Errorf("%+v", v)
	}
	if err := l.over(); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// Every node has ended, but an answer goes on: exec doesn't.
func TestExecEndsWithItsNodes(t *testing.T) {
	l := newExecLab(t, time.Hour)
	in := bufio.NewScanner(l.ask())
	say := l.answer()
	say(wire.ExecFrame{Node: 1, Seq: 1, Exit: &wire.ExecExit{}})
	if v := l.event(in); v.Exit == nil || !v.Last {
		t.Errorf("%+v", v)
	}
	stop := make(chan struct{})
	defer close(stop)
	go func() { // ends with the test
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Second):
				say(wire.ExecFrame{})
			}
		}
	}()
	if err := l.over(); err != nil {
		t.Error(err)
	}
}
