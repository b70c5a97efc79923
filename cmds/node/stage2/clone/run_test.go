package main

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// A plan of the other kind than the boot line's last word asks for is refused,
// and golden is told, before anything is done: golden may be an older one, which
// doesn't look at the word.
func TestOtherKind(t *testing.T) {
	for _, c := range []struct {
		word string
		plan wire.Plan
		want string
	}{
		{wire.KaMethod, wire.Plan{Copies: []wire.Copy{{From: "x", To: "/dev/none-such", Bytes: 1}}}, "boot it with dollymethod"},
		{wire.DollyMethod, wire.Plan{}, "boot it with kamethod"},
	} {
		id, err := trust.New()
		if err != nil {
			t.Fatal(err)
		}
		told := make(chan string, 1)
		mux := http.NewServeMux()
		mux.HandleFunc("POST "+wire.RegisterPath, func(w http.ResponseWriter, r *http.Request) {
			var reg wire.Register
			if err := json.NewDecoder(r.Body).Decode(&reg); err != nil || reg.Replication != c.word {
				t.Errorf("registered with the word %q, want %q (%v)", reg.Replication, c.word, err)
			}
			json.NewEncoder(w).Encode(wire.Registered{Node: 1, Number: 1, Golden: "g"})
		})
		mux.HandleFunc("GET "+wire.OrdersPath, func(w http.ResponseWriter, r *http.Request) {
			json.NewEncoder(w).Encode(wire.Order{Seq: 1, Plan: &c.plan})
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})
		mux.HandleFunc("POST "+wire.ReportsPath, func(_ http.ResponseWriter, r *http.Request) {
			for in := json.NewDecoder(r.Body); ; {
				var rep wire.Report
				if in.Decode(&rep) != nil {
					return
				}
				if rep.Fault != nil {
					select {
					case told <- rep.Fault.Cause:
					default:
					}
				}
			}
		})
		s := httptest.NewUnstartedServer(mux)
		s.TLS = trust.ServerConfig(id)
		s.StartTLS()
		t.Cleanup(s.Close)
		dir := t.TempDir()
		pin := filepath.Join(dir, "pin")
		state := handover.State{
			Server: s.Listener.Addr().String(), Session: "s", MAC: "52:54:00:77:00:01", Method: "ka", Replication: c.word,
			KeyFile: filepath.Join(dir, "key"), PinFile: pin,
		}
		file := filepath.Join(dir, "state.json")
		if err := errors.Join(os.WriteFile(pin, []byte(id.Pin.String()+"\n"), 0o600), state.Save(file)); err != nil {
			t.Fatal(err)
		}
		if err := run(t.Context(), file, dir, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.word, err)
		}
		select {
		case cause := <-told:
			if !strings.Contains(cause, c.want) {
				t.Errorf("%s: golden was told %q", c.word, cause)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s: golden was not told", c.word)
		}
	}
}
