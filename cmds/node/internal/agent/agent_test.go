package agent

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

func identity(t *testing.T) *trust.Identity {
	t.Helper()
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// listening is an agent that golden has welcomed, with its port open.
func listening(t *testing.T, golden *trust.Identity) (a *Agent, addr string) {
	t.Helper()
	a = New(Config{Golden: golden.Pin, Identity: identity(t), Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err := a.welcomed(t.Context(), wire.AgentWelcome{Golden: "run1", Number: 40, Listen: true}); err != errListen {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.closePort(); a.tasks.Wait() })
	return a, fmt.Sprintf("127.0.0.1:%d", a.port())
}

// ask brings an order to an agent as the node with the key above, and reads
// what it says.
func ask(t *testing.T, addr string, above *trust.Identity, agent trust.Pin, s wire.SignedExec) (out string, exit *wire.ExecExit) {
	t.Helper()
	conn, err := tls.Dial("tcp", addr, trust.ClientConfig(above, agent))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	if err := json.NewEncoder(conn).Encode(wire.AgentOrder{Exec: &s}); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewScanner(conn)
	in.Buffer(nil, wire.MaxExecFrame)
	for in.Scan() {
		var f wire.ExecFrame
		if err := json.Unmarshal(in.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		out += string(f.Out)
		if f.Exit != nil {
			exit = f.Exit
		}
		if f.End {
			break
		}
	}
	return out, exit
}

// A node obeys golden's signature, for this process, of this run of golden,
// brought by the node that is above it; and an order once.
func TestObeysGoldenOnly(t *testing.T) {
	golden, stranger, above := identity(t), identity(t), identity(t)
	a, addr := listening(t, golden)
	ran := filepath.Join(t.TempDir(), "ran")
	order := func(serial uint64) wire.ExecOrder {
		return wire.ExecOrder{Golden: "run1", Serial: serial, Argv: []string{"sh", "-c", "echo x >>" + ran + "; echo here"}, Limit: 60, Nodes: []wire.ExecNode{
			{Number: 1, Above: -1, Pin: above.Pin, Nonce: "n"},
			{Number: 40, Above: 0, Pin: a.Identity.Pin, Nonce: a.nonce, Addr: addr},
		}}
	}
	sign := func(by *trust.Identity, o wire.ExecOrder) wire.SignedExec {
		s, err := wire.SignExec(by, o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	change := func(serial uint64, f func(*wire.ExecOrder)) wire.SignedExec {
		o := order(serial)
		f(&o)
		return sign(golden, o)
	}
	forged := sign(golden, order(7))
	forged.Order = []byte(strings.Replace(string(forged.Order), "echo here", "echo HERE", 1))
	for what, try := range map[string]struct {
		by    *trust.Identity
		order wire.SignedExec
	}{
		"an order of somebody else":         {above, sign(stranger, order(1))},
		"an order of the node above itself": {above, sign(above, order(2))},
		"golden's, brought by a stranger":   {stranger, sign(golden, order(3))},
		"of another run of golden":          {above, change(4, func(o *wire.ExecOrder) { o.Golden = "run0" })},
		"for another process":               {above, change(5, func(o *wire.ExecOrder) { o.Nodes[1].Nonce = "old" })},
		"golden is to bring it itself":      {above, change(6, func(o *wire.ExecOrder) { o.Nodes[1].Above = -1 })},
		"changed on the way":                {above, forged},
		"none":                              {above, wire.SignedExec{}},
	} {
		if out, exit := ask(t, addr, try.by, a.Identity.Pin, try.order); out != "" || exit != nil {
			t.Errorf("%s: obeyed: %q", what, out)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Fatal("a program has run")
	}
	for range 2 { // the same order again has the same answer
		out, exit := ask(t, addr, above, a.Identity.Pin, sign(golden, order(8)))
		if out != "here\n" || exit == nil || exit.Code != 0 {
			t.Errorf("golden's order: %q, %+v", out, exit)
		}
	}
	if b, err := os.ReadFile(ran); err != nil || string(b) != "x\n" {
		t.Errorf("it ran as often as %q says: %v", b, err)
	}
	a.cancelRun(9)
	if out, exit := ask(t, addr, above, a.Identity.Pin, sign(golden, order(9))); out != "" || exit == nil || exit.Error == "" {
		t.Errorf("an order that was cancelled before it came: %q, %+v", out, exit)
	}
}

// A peer that isn't a node, or says nothing sensible, gets nothing and harms
// nothing.
func TestStrangersAtThePort(t *testing.T) {
	golden := identity(t)
	a, addr := listening(t, golden)
	for _, text := range []string{"GET / HTTP/1.0\r\n\r\n", "", "\x00\x01\x02"} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, text)
		conn.Close()
	}
	for _, text := range []string{"{}\n", "x\n", `{"exec":{"order":"AAAA","key":"AAAA","sig":"AAAA"}}` + "\n", strings.Repeat("y", 5<<20) + "\n"} {
		conn, err := tls.Dial("tcp", addr, trust.ClientConfig(identity(t), a.Identity.Pin))
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(time.Minute))
		fmt.Fprint(conn, text) // it may hang up before it has read all
		if n, err := conn.Read(make([]byte, 100)); err == nil {
			t.Errorf("%.20q is answered with %d bytes", text, n)
		}
		conn.Close()
	}
}

// A program waits when nobody takes what it says, and is ended when nobody has
// asked for too long; what was said last can be had again.
func TestSpool(t *testing.T) {
	s := newSpool()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	n := 0
	for ; ; n++ {
		if s.put(ctx, wire.ExecFrame{Out: make([]byte, 1000)}) != nil {
			break
		}
	}
	if most := window/(1000+frameCost) + 1; n != most {
		t.Errorf("%d frames wait, want %d", n, most)
	}
	sent := uint64(0)
	for seq := uint64(1); ; {
		f, over, _ := s.next(seq)
		if f == nil {
			if over {
				t.Error("it is over")
			}
			break
		}
		s.did(*f)
		sent, seq = f.Seq, f.Seq+1
	}
	if sent != uint64(n) {
		t.Errorf("%d frames were sent of %d", sent, n)
	}
	for range 10 {
		if err := s.put(t.Context(), wire.ExecFrame{Out: make([]byte, 1000)}); err != nil {
			t.Fatal(err)
		}
	}
	if f, _, _ := s.next(uint64(n) - 200); f == nil || f.Seq != uint64(n)-200 {
		t.Error("what was sent last is gone")
	}
	if s.bytes > 2*window+2000 {
		t.Errorf("%d bytes are kept", s.bytes)
	}
}

func TestRecord(t *testing.T) {
	for text, want := range map[string]record{
		"15,1234,5000,-;kamethod stage 1: 3 modules loaded\n":              {facility: 1, level: 7, seq: 1234, text: "kamethod stage 1: 3 modules loaded"},
		"3,1,5000,-;I/O error, dev sda\n SUBSYSTEM=block\n DEVICE=b8:0\n":  {facility: 0, level: 3, seq: 1, text: "I/O error, dev sda"},
		"6,18446744073709551615,5000,c,extra;eth0: link up; 1000 Mbit/s\n": {facility: 0, level: 6, seq: 1<<64 - 1, text: "eth0: link up; 1000 Mbit/s"},
	} {
		if got, err := parseRecord([]byte(text)); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ";", "x,1,2;", "1,2;x", "-1,2,3,-;x", "1,-2,3,-;x"} {
		if got, err := parseRecord([]byte(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	if (record{facility: 0, level: 6}).shown() || !(record{facility: 0, level: 4}).shown() || !(record{facility: 1, level: 7}).shown() {
		t.Error("the wrong records are shown")
	}
}

// FuzzRecord reads what programs write into the kernel's log.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("15,1234,5000,-;text\n K=v\n"))
	f.Add([]byte(",,,;"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err == nil && (r.level < 0 || r.level > 7 || strings.Contains(r.text, "\n")) {
			t.Errorf("%+v", r)
		}
	})
}
