package golden

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// The heartbeat: a node that keeps its connections and says nothing on them,
// as a process that hangs does, is gone after the quiet time, while one that
// beats stays. Only the heartbeat sees that: every connection stands, and
// there is nothing to send to it.
func TestSilentNodeIsGone(t *testing.T) {
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	type loss struct {
		host string
		why  error
	}
	gone := make(chan loss, 4)
	log := slog.New(slog.DiscardHandler)
	d := &deployment{Config: Config{Session: "s"}}
	h := &hub{identity: id, log: log, all: []*deployment{d}, owner: map[trust.Pin]*deployment{}}
	s := &Server{
		Session: "s", Token: "t", Quiet: 5 * time.Second, Log: log,
		Admit:   func(wire.Register, *Node) error { return nil },
		Arrived: func(n, _ *Node) { h.entered(d, n.Pin) }, Reported: func(*Node, wire.Report) {},
		Gone: func(n *Node, why error) { gone <- loss{n.Hostname, why} },
	}
	d.server = s
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- h.control(ctx, ln) }()
	go s.watch(ctx) // ends with ctx
	s.flow(+1)
	defer s.flow(-1)
	hung, beating := dialControl(t, ctx, id.Pin, ln.Addr().String(), "hung"), dialControl(t, ctx, id.Pin, ln.Addr().String(), "beating")
	begun := time.Now()
	beat := time.NewTicker(500 * time.Millisecond)
	defer beat.Stop()
	var longest time.Duration // between two beats, where this machine holds us up
	for last := begun; ; {
		select {
		case <-beat.C:
			longest, last = max(longest, time.Since(last)), time.Now()
			if _, err := io.WriteString(beating, "{}\n"); err != nil {
				t.Fatal(err)
			}
			if time.Since(begun) > 2*time.Minute {
				t.Fatal("a node that says nothing was not found")
			}
			continue
		case l := <-gone:
			if longest = max(longest, time.Since(last)); l.host == "beating" && longest > s.Quiet/2 {
				t.Skipf("this machine is too slow for it: %s passed between two beats", longest)
			}
			if l.host != "hung" || !errors.Is(l.why, errSilent) || time.Since(begun) < time.Second {
				t.Errorf("after %v node %s is gone: %v", time.Since(begun), l.host, l.why)
			}
		}
		break
	}
	hung.Close()
	beating.Close()
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// dialControl registers a node and keeps both its streams open; what is
// written goes out as reports.
func dialControl(t *testing.T, ctx context.Context, pin trust.Pin, addr, name string) io.WriteCloser {
	t.Helper()
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: trust.ClientConfig(id, pin)}}
	t.Cleanup(c.CloseIdleConnections)
	b, _ := json.Marshal(wire.Register{Version: wire.Version, Session: "s", Token: "t", Stage: wire.Receive, DataPort: 1, Hostname: name})
	resp, err := c.Post("https://"+addr+wire.RegisterPath, "application/json", bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		msg, _ := io.ReadAll(resp.Body)
		t.Fatalf("register: %s: %s", resp.Status, strings.TrimSpace(string(msg)))
	}
	resp.Body.Close()
	r, w := io.Pipe()
	for _, do := range []func() (*http.Request, error){
		func() (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+wire.OrdersPath+"?after=0", nil)
		},
		func() (*http.Request, error) {
			return http.NewRequestWithContext(ctx, http.MethodPost, "https://"+addr+wire.ReportsPath, r)
		},
	} {
		req, err := do()
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if resp, err := c.Do(req); err == nil {
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		}()
	}
	if _, err := io.WriteString(w, "{}\n"); err != nil {
		t.Fatal(err)
	}
	return w
}
