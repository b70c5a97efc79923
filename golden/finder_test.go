package golden

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// Who looks for a session is answered in golden's network and not in another
// that its machine has; by each golden of a machine for its own sessions; and
// from the address that golden has in that network.
func TestFinder(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	for _, args := range []string{"link add other0 type bridge", "addr add 10.98.0.1/24 brd + dev other0", "link set other0 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for port, session := range map[int]string{1001: "one", 1002: "two"} {
		d := &deployment{Config: Config{Session: session}}
		h := &hub{all: []*deployment{d}, addrs: []netip.Addr{netip.MustParseAddr(labAddr)}, log: slog.New(slog.DiscardHandler)}
		f, err := h.openFinder(port)
		if err != nil {
			t.Fatal(err)
		}
		go f.serve(ctx) // ends with ctx
	}
	// heard asks until there is an answer of that session.
	heard := func(pc net.PacketConn, session string, end time.Time) {
		t.Helper()
		b := make([]byte, 1500)
		for name := ""; name != session; {
			question(t, pc, "10.99.0.255", session)
			for pc.SetReadDeadline(time.Now().Add(time.Second)); name != session; {
				n, _, err := pc.ReadFrom(b)
				if err != nil {
					break
				}
				name, _, _ = wire.ParseHere(b[:n])
			}
			if time.Now().After(end) {
				t.Fatalf("nobody answers who looks for session %s", session)
			}
		}
	}
	ask := func(to, session string, silent bool) (got []string) {
		t.Helper()
		pc := udpSocket(t)
		b := make([]byte, 1500)
		end := time.Now().Add(2 * time.Minute)
		for round := 0; round < 3 || len(got) == 0 && !silent && time.Now().Before(end); round++ {
			question(t, pc, to, session)
			// Each golden answers one after the other: who has answered this
			// has answered that, or never will.
			later := udpSocket(t)
			heard(later, "one", end)
			heard(later, "two", end)
			for pc.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); ; {
				n, from, err := pc.ReadFrom(b)
				if err != nil {
					break
				}
				name, port, ok := wire.ParseHere(b[:n])
				if text := fmt.Sprint(from.(*net.UDPAddr).IP, " ", name, " ", port, " ", ok); len(got) == 0 || got[0] != text {
					got = append(got, text)
				}
			}
		}
		return got
	}
	for _, c := range []struct{ to, session, want string }{
		{"10.99.0.255", "one", "[10.99.0.1 one 1001 true]"},
		{"10.99.0.255", "two", "[10.99.0.1 two 1002 true]"},
		{"10.99.0.255", "none", "[]"},
		{"10.98.0.255", "one", "[]"},
	} {
		if got := fmt.Sprint(ask(c.to, c.session, c.want == "[]")); got != c.want {
			t.Errorf("%s, asked by %s: %s, want %s", c.session, c.to, got, c.want)
		}
	}
}

func udpSocket(t *testing.T) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	return pc
}

// question asks by broadcast who has a session.
func question(t *testing.T, pc net.PacketConn, to, session string) {
	t.Helper()
	if _, err := pc.WriteTo(wire.FindRequest(session), &net.UDPAddr{IP: net.ParseIP(to), Port: wire.ControlPort}); err != nil {
		t.Fatal(err)
	}
}
