package join

import (
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// inOwnNetwork runs the test once more in a network namespace of its own, with
// a network of its own, and tells whether this is that run.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	if os.Getenv("JOIN_TEST_OWN_NETWORK") == "" {
		c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
		c.Env = append(os.Environ(), "JOIN_TEST_OWN_NETWORK=1")
		c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return false
	}
	for _, args := range []string{"link set lo up", "link add net0 type bridge", "addr add 10.97.0.1/24 brd + dev net0", "link set net0 up"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	return true
}

// serve is a golden node that registers nobody now.
func serve(t *testing.T, id *trust.Identity) (port int) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "nothing for this machine yet", http.StatusServiceUnavailable)
	}))
	ln, err := net.Listen("tcp", "10.97.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.Listener.Close()
	s.Listener, s.TLS, s.Config.ErrorLog = ln, trust.ServerConfig(id), log.New(io.Discard, "", 0)
	s.StartTLS()
	t.Cleanup(s.Close)
	return ln.Addr().(*net.TCPAddr).Port
}

// Of those who answer a broadcast a node takes the golden node that has the key
// it knows; then one that can't be spoken to. Where all are foreign it looks
// again, as where nobody is.
func TestBroadcast(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	ours, other := newIdentity(t), newIdentity(t)
	dead, err := net.Listen("tcp", "10.97.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone, here, foreign := dead.Addr().(*net.TCPAddr).Port, serve(t, ours), serve(t, other)
	dead.Close()
	pc, err := net.ListenPacket("udp4", fmt.Sprintf(":%d", wire.ControlPort))
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	answers := make(chan []int, 1)
	go func() { // ends with pc
		for b := make([]byte, 1024); ; {
			_, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			select {
			case list := <-answers:
				for _, p := range list {
					pc.WriteTo(wire.FindReply("s", p), from)
				}
			default:
			}
		}
	}()
	for _, c := range []struct {
		answers []int
		want    int // 0: none
		text    string
	}{
		{[]int{gone, foreign, here}, here, ""},
		{[]int{foreign, here, gone}, here, ""},
		{[]int{foreign, gone}, gone, ""},
		{[]int{foreign}, 0, "another golden node"},
		{nil, 0, "to a broadcast"},
	} {
		answers <- slices.Clone(c.answers)
		cfg := Config{Session: "s", Pin: ours.Pin, MAC: "52:54:00:77:00:01", Log: slog.New(slog.DiscardHandler)}
		server, err := Find(t.Context(), cfg)
		switch {
		case c.want != 0 && (err != nil || server != fmt.Sprintf("10.97.0.1:%d", c.want)):
			t.Errorf("of %v: %s, %v, want port %d", c.answers, server, err, c.want)
		case c.want == 0 && (!errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), c.text)):
			t.Errorf("of %v: %s, %v, want %q", c.answers, server, err, c.text)
		}
	}
	// Golden that has nothing for us is as good as none; one that was named and
	// isn't ours is an error of who named it.
	_, err = Register(t.Context(), Config{Server: fmt.Sprintf("10.97.0.1:%d", here), Pin: ours.Pin, Log: slog.New(slog.DiscardHandler)})
	if !errors.Is(err, ErrNoServer) || !strings.Contains(err.Error(), "nothing for this machine yet") {
		t.Errorf("refused for now: %v", err)
	}
	_, err = Register(t.Context(), Config{Server: fmt.Sprintf("10.97.0.1:%d", foreign), Pin: ours.Pin, Log: slog.New(slog.DiscardHandler)})
	if !errors.As(err, new(*trust.ForeignKeyError)) || errors.Is(err, ErrNoServer) {
		t.Errorf("foreign: %v", err)
	}
}

func newIdentity(t *testing.T) *trust.Identity {
	t.Helper()
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}
