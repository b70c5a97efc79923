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
	ask := func(to, session string, silent bool) []string {
		t.Helper()
		pc, err := net.ListenPacket("udp4", ":0")
		if err != nil {
			t.Fatal(err)
		}
		defer pc.Close()
		var got []string
		b := make([]byte, 1500)
		for tries := 0; tries < 3 || len(got) == 0 && !silent && tries < 20; tries++ {
			if _, err := pc.WriteTo(wire.FindRequest(session), &net.UDPAddr{IP: net.ParseIP(to), Port: wire.ControlPort}); err != nil {
				t.Fatal(err)
			}
			for pc.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); ; {
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
