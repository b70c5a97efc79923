package trust

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestLoadOrCreateKeepsTheKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	a, err := LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := LoadOrCreate(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a.Pin != b.Pin {
		t.Fatalf("second load has pin %s, want %s", b.Pin, a.Pin)
	}
	p, err := ReadPin(filepath.Join(dir, PinFile))
	if err != nil || p != a.Pin {
		t.Fatalf("pin file has %s (%v), want %s", p, err, a.Pin)
	}
	st, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("key file mode is %v (%v), want 0600", st.Mode(), err)
	}
}

func TestReadPinSaysWhatToDo(t *testing.T) {
	_, err := ReadPin(filepath.Join(t.TempDir(), PinFile))
	if !errors.Is(err, ErrNoKey) {
		t.Fatalf("got %v, want ErrNoKey", err)
	}
}

func TestPinnedHandshake(t *testing.T) {
	golden, _ := New()
	node, _ := New()
	other, _ := New()
	if err := handshake(t, golden, node, golden.Pin); err != nil {
		t.Fatalf("right pin refused: %v", err)
	}
	var foreign *ForeignKeyError
	if err := handshake(t, golden, node, other.Pin); !errors.As(err, &foreign) {
		t.Fatalf("wrong pin: got %v, want a ForeignKeyError", err)
	}
}

func handshake(t *testing.T, server, client *Identity, want Pin) error {
	t.Helper()
	a, b := net.Pipe()
	deadline := time.Now().Add(time.Second)
	a.SetDeadline(deadline)
	b.SetDeadline(deadline)
	srv := tls.Server(a, ServerConfig(server))
	done := make(chan error, 1)
	go func() { done <- srv.Handshake(); a.Close() }()
	cl := tls.Client(b, ClientConfig(client, want))
	err := cl.Handshake()
	b.Close()
	serr := <-done
	if err == nil && serr == nil {
		got, perr := PeerPin(srv.ConnectionState())
		if perr != nil || got != client.Pin {
			t.Fatalf("server sees %s (%v), want the node's %s", got, perr, client.Pin)
		}
	}
	return err
}

func FuzzParsePin(f *testing.F) {
	f.Add("sha256:00")
	f.Add(Pin{1, 2, 3}.String())
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePin(s)
		if err != nil {
			return
		}
		if q, err := ParsePin(p.String()); err != nil || q != p {
			t.Fatalf("%q parsed to %s, which parses to %s (%v)", s, p, q, err)
		}
	})
}

// Who starts at the same time has the same key and the same token.
func TestManyMakeOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	type made struct {
		pin   Pin
		token string
		err   error
	}
	all := make(chan made)
	for range 16 {
		go func() {
			id, err := LoadOrCreate(dir)
			if err != nil {
				all <- made{err: err}
				return
			}
			token, err := LoadOrCreateToken(dir)
			all <- made{id.Pin, token, err}
		}()
	}
	first := <-all
	for range 15 {
		if m := <-all; m.err != nil || m != first {
			t.Errorf("%+v, and another %+v", m, first)
		}
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}
