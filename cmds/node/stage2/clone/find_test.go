package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

func TestPatience(t *testing.T) {
	ka, file := "10.77.0.1:30765", []string{"10.77.0.9", ""}
	for _, tt := range []struct {
		name   string
		state  handover.State
		tries  int
		each   time.Duration
		again  bool
		words  string
		places []string
	}{
		{"ka, ka", handover.State{Method: "ka", Server: ka, Replication: wire.KaMethod}, 10, 0, false, "valid KA server", []string{ka}},
		{"http, ka", handover.State{Method: "http", Places: file, Replication: wire.KaMethod}, 5, 0, true, "valid KA server", file},
		{
			"nfs, dolly", handover.State{Method: "nfs", Places: file, Replication: wire.DollyMethod, DollyTimeout: 300 * time.Second},
			3, 300 * time.Second, true, "valid Dolly server", file,
		},
		{
			"dolly, dolly+", handover.State{Method: "dolly", Server: ka, Replication: wire.DollyCMethod, DollyTimeout: 100 * time.Second},
			3, 100 * time.Second, true, "valid Dolly server", []string{ka, ""},
		},
		{
			"dolly, ka", handover.State{Method: "dolly", Server: ka, Replication: wire.KaMethod, DollyTimeout: 300 * time.Second},
			5, 300 * time.Second, true, "valid KA server", []string{ka, ""},
		},
		{"nothing said", handover.State{}, 5, 0, true, "valid KA server", []string{""}},
	} {
		p := patienceOf(&tt.state)
		if p.tries != tt.tries || p.each != tt.each || p.again != tt.again || !strings.Contains(p.none, tt.words) {
			t.Errorf("%s: %+v", tt.name, p)
		}
		if got := placesOf(&tt.state); !slices.Equal(got, tt.places) {
			t.Errorf("%s: looks in %q, want %q", tt.name, got, tt.places)
		}
	}
}

// Where nobody is, all places are tried each time, and init is told to boot
// again.
func TestFindNobody(t *testing.T) {
	var places []string
	for range 2 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, ln.Addr().String())
		ln.Close()
	}
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	c := join.Config{
		Session: "nobody", Pin: id.Pin, KeyFile: filepath.Join(t.TempDir(), "key"), Stage: wire.Stage2, MAC: "52:54:00:77:00:01",
		Log: slog.New(slog.DiscardHandler),
	}
	var said []string
	p := patienceOf(&handover.State{})
	p.pause = time.Millisecond
	_, err = p.find(t.Context(), c, places, func(line string) { said = append(said, line) })
	if !errors.Is(err, errNobody) || exitStatus(err) != exitNoServer {
		t.Errorf("got %v, exit status %d", err, exitStatus(err))
	}
	text := strings.Join(said, "\n")
	if n := strings.Count(text, "Can't reach a valid KA server"); n != 5 {
		t.Errorf("said it %d times:\n%s", n, text)
	}
	for _, want := range append(places, "try 5 of 5") {
		if !strings.Contains(text, want) {
			t.Errorf("never named %s:\n%s", want, text)
		}
	}
	p = patienceOf(&handover.State{Server: places[0]}) // golden, which stage 1 saw: a shell in the end
	p.pause = time.Millisecond
	if _, err = p.find(t.Context(), c, places[:1], func(string) {}); err == nil || exitStatus(err) != 1 {
		t.Errorf("got %v, exit status %d", err, exitStatus(err))
	}
	if got := exitStatus(fmt.Errorf("register: %w", errNobody)); got != exitNoServer {
		t.Errorf("exit status %d", got)
	}
}
