package images

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/trust"
)

// write makes a file in the room's folder.
func (r *room) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// One golden-serve with several sessions: each receiver has what its session
// sends, and one that names another session, or none, has nothing.
func TestSessionsOfOneGolden(t *testing.T) {
	r := newRoom(t, 4)
	one := randomFile(t, filepath.Join(r.dir, "one"), 20<<20)
	two := randomFile(t, filepath.Join(r.dir, "two"), 12<<20)
	r.write("f.yaml", "interface: br0\ndeployments:\n"+
		"  - {session: first, send: one, nodes: 2, report: first.json}\n"+
		"  - {session: second, send: two, nodes: 2, report: second.json}\n"+
		"  - {session: third, send: two, nodes: 1, wait: 1s}\n")
	g := r.start(r.name, r.golden, "golden-serve", "sessions", "f.yaml")
	g.expect(t, "second: ")
	g.expect(t, "too few nodes came")
	r.copyKeys()
	a := r.receive(0, "-s", "first", "--out", "copy0")
	b := r.receive(2, "-s", "second", "--out", "copy2", "-h", "10.78.0.1")
	for _, c := range []struct{ session, want string }{
		{"other", `no session "other" here; these are called "first", "second", "third"`},
		{"third", "the session is over"}, // its end is not that of the others
	} {
		p := r.receive(1, "-s", c.session, "-h", "10.78.0.1", "--out", "never")
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), c.want) {
			t.Errorf("session %s: want %q in\n%s", c.session, c.want, p.out)
		}
	}
	a.expect(t, "of session first")
	b.expect(t, "of session second")
	for _, s := range []string{"first", "second"} {
		p := r.start(r.name, r.golden, "golden-serve", "status", "-s", s)
		p.wantExit(t, 0)
		if !strings.Contains(p.out.String(), "session "+s+": waiting") || strings.Count(p.out.String(), "node ") != 1 {
			t.Errorf("status of %s:\n%s", s, p.out)
		}
	}
	r.start(r.name, r.golden, "golden-serve", "go", "-s", "first").wantExit(t, 0) // of it, and not of the other
	a.wantExit(t, 0)
	select {
	case <-b.done:
		t.Errorf("the second session has gone on, too:\n%s", b.out)
	default:
	}
	d := r.receive(3, "-s", "second", "--out", "copy3")
	b.wantExit(t, 0)
	d.wantExit(t, 0)
	for i, want := range map[int][32]byte{0: one, 2: two, 3: two} {
		if hashFile(t, filepath.Join(r.dir, fmt.Sprintf("copy%d", i))) != want {
			t.Errorf("receiver %d has other bytes", i)
		}
	}
	g.wantExit(t, 1) // the third
	for _, want := range []string{"first: all 1 nodes are done", "second: all 2 nodes are done", "third: too few nodes came", "session third: too few nodes"} {
		if !strings.Contains(g.out.String(), want) {
			t.Errorf("want %q in\n%s", want, g.out)
		}
	}
	for name, want := range map[string]int{"first": 1, "second": 2} {
		text, err := os.ReadFile(filepath.Join(r.dir, name+".json"))
		if err != nil || strings.Count(string(text), `"released"`) != want || !strings.Contains(string(text), `"session": "`+name) {
			t.Errorf("report of %s: %v\n%s", name, err, text)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "never")); err == nil {
		t.Error("a refused receiver has written something")
	}
	if l, _ := filepath.Glob(filepath.Join(r.dir, "state/sessions/*")); len(l) > 0 {
		t.Errorf("left behind: %q", l)
	}
}

// An interrupt reaches the receivers of all sessions.
func TestSessionsInterrupted(t *testing.T) {
	r := newRoom(t, 2)
	r.write("x", "x")
	r.write("f.yaml", "deployments:\n  - {session: a, send: x, nodes: 2}\n  - {session: b, send: x, nodes: 2}\n")
	g := r.start(r.name, r.golden, "golden-serve", "sessions", "f.yaml")
	g.expect(t, "b: ")
	g.expect(t, "waiting for nodes")
	r.copyKeys()
	a, b := r.receive(0, "-s", "a", "--out", "a"), r.receive(1, "-s", "b", "--out", "b")
	a.expect(t, "of session a")
	b.expect(t, "of session b")
	g.cmd.Process.Signal(syscall.SIGINT)
	g.wantExit(t, 130)
	for _, p := range []*program{a, b} {
		<-p.done
		if !strings.Contains(p.out.String(), "golden has ended the session") {
			t.Errorf("a receiver was told nothing:\n%s", p.out)
		}
	}
}

// What is wrong with the file is found before anybody is waited for.
func TestSessionsRefusals(t *testing.T) {
	r := newRoom(t, 0)
	r.write("x", "x")
	r.write("macs", "52:54:00:00:00:01\n")
	const head = "images: i\ndeployments:\n"
	for text, want := range map[string]string{
		head + "  - {session: a, send: x}\n":                                                 "session a: how many machines? give -n N",
		head + "  - {session: a, send: nowhere, nodes: 1}\n":                                 "f.yaml: session a: stat nowhere",
		head + "  - session: a\n    send: x\n    nodes: many\n":                              `f.yaml:5: "nodes": `,
		head + "  - session: a\n    root: /x\n    hostnam: x\n":                              `f.yaml:5: "hostnam": no such option of golden-serve clone`,
		head + "  - session: a\n    send: x\n    root: /\n":                                  `f.yaml:5: "root": no such option of golden-serve send`,
		head + "  - session: a\n    dhcp: full\n":                                            `f.yaml:4: "dhcp": is for all sessions`,
		head + "  - session: a\n    yes: maybe\n":                                            `f.yaml:4: "yes": `,
		head + "  - session: a\n    hostname: [a, b]\n":                                      `f.yaml:4: "hostname": 2 values: want one`,
		"yes: true\n" + head + "  - session: a\n":                                            `f.yaml:1: "yes": is no option of all sessions`,
		head + "  - {session: a, nodes: 1}\n  - {session: b, macs: [52:54:00:00:00:01]}\n":   "session a names no machines",
		head + "  - {session: a, macs: macs}\n  - {session: b, macs: [52:54:00:00:00:01]}\n": "machine 52:54:00:00:00:01 is of two sessions: a and b",
		head + "  - {session: a, macs: nowhere}\n":                                           "open nowhere",
	} {
		r.write("f.yaml", text)
		p := r.start(r.name, r.golden, "golden-serve", "sessions", "f.yaml")
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("%s\nwant %q in:\n%s", text, want, p.out)
		}
	}
	r.write("f.yaml", head+"  - {session: a, macs: macs, root: /, yes: true}\n  - {session: b, send: x, nodes: 3}\n")
	p := r.start(r.name, r.golden, "golden-serve", "sessions", "--check", "f.yaml")
	p.wantExit(t, 0)
	if !strings.Contains(p.out.String(), "2 sessions, nothing is wrong") {
		t.Error(p.out)
	}
}

// neighbour is a second golden node, on the room's first host.
func (r *room) neighbour() (etc string) { return filepath.Join(r.dir, "second-etc") }

// keysOf has a receiver know one golden node by its key, and have a token that
// may be another's.
func (r *room) keysOf(name, pin, token string) string {
	r.t.Helper()
	dir := filepath.Join(r.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		r.t.Fatal(err)
	}
	for file, from := range map[string]string{trust.PinFile: pin, trust.TokenFile: token} {
		b, err := os.ReadFile(filepath.Join(from, file))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, file), b, 0o600)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	return dir
}

// Two golden nodes on one network. Whoever gets the name, the key or the token
// of one right and another wrong lands nowhere; and two sessions of one name
// are told apart by the key.
func TestSessionsOfTwoGoldens(t *testing.T) {
	r := newRoom(t, 3)
	red := randomFile(t, filepath.Join(r.dir, "red"), 16<<20)
	blue := randomFile(t, filepath.Join(r.dir, "blue"), 16<<20)
	serve := func(ns, etc string, args ...string) *program {
		p := r.start(ns, etc, "golden-serve", args...)
		p.expect(t, "waiting for nodes")
		return p
	}
	g1 := serve(r.name, r.golden, "send", "-n", "1", "-v", "-s", "red", "red")
	g2 := serve(r.hosts[0], r.neighbour(), "send", "-n", "1", "-s", "blue", "blue")
	own1, own2 := r.keysOf("own1", r.golden, r.golden), r.keysOf("own2", r.neighbour(), r.neighbour())
	mixed := r.keysOf("mixed", r.golden, r.neighbour()) // the first's key, the second's token
	const at1, at2 = "10.78.0.1", "10.78.0.11"
	for _, c := range []struct {
		what, etc string
		args      []string
		want      string
	}{
		{"the other's session, found by nobody with this name", own1, []string{"-s", "green", "--wait", "1s"}, "no golden node answers"},
		{"the same at the other's address", own1, []string{"-s", "blue", "-h", at2}, "foreign key"},
		{"the same at the own one's address", own1, []string{"-s", "blue", "-h", at1}, `no session "blue" here; this one is called "red"`},
		{"own session at the other's address", own1, []string{"-s", "red", "-h", at2}, "foreign key"},
		{"own session and key, the other's token", mixed, []string{"-s", "red"}, "the join token is not this session's"},
		{"the other's session and token, own key", mixed, []string{"-s", "blue", "-h", at2}, "foreign key"},
		{"all of the other's, at the own one's address", own2, []string{"-s", "blue", "-h", at1}, "foreign key"},
	} {
		p := r.start(r.hosts[2], c.etc, "karecv", append(c.args, "--out", "never")...)
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), c.want) {
			t.Errorf("%s: want %q in:\n%s", c.what, c.want, p.out)
		}
	}
	// Found by broadcast only, it goes on looking for one with the right key.
	p := r.start(r.hosts[2], own1, "karecv", "-s", "blue", "--wait", "50s", "--out", "never")
	p.expect(t, "foreign key")
	p.cmd.Process.Signal(syscall.SIGINT)
	if p.wait(t) == 0 {
		t.Errorf("own key and token, the other's session:\n%s", p.out)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "never")); err == nil {
		t.Error("one that lands nowhere has written something")
	}
	each := func(s1, s2, out string) {
		t.Helper()
		a := r.start(r.hosts[1], own1, "karecv", "-s", s1, "--out", out+"1")
		b := r.start(r.hosts[2], own2, "karecv", "-s", s2, "--out", out+"2")
		a.wantExit(t, 0)
		b.wantExit(t, 0)
		g1.wantExit(t, 0)
		g2.wantExit(t, 0)
		if hashFile(t, filepath.Join(r.dir, out+"1")) != red || hashFile(t, filepath.Join(r.dir, out+"2")) != blue {
			t.Errorf("sessions %s and %s: other bytes", s1, s2)
		}
	}
	each("red", "blue", "names")
	if out := g1.out.String(); !strings.Contains(out, "Session name matches addr=10.78.0.12:") || !strings.Contains(out, "looks for another session addr=10.78.0.13:") {
		t.Errorf("-v doesn't tell who looks for which session:\n%s", out)
	}
	g1 = serve(r.name, r.golden, "send", "-n", "1", "-s", "same", "red")
	g2 = serve(r.hosts[0], r.neighbour(), "send", "-n", "1", "-s", "same", "blue")
	each("same", "same", "keys")
}

// Two golden-serve on one host: the second has a port of its own, and is found
// by broadcast all the same.
func TestSessionsOnOneHost(t *testing.T) {
	r := newRoom(t, 2)
	red := randomFile(t, filepath.Join(r.dir, "red"), 16<<20)
	blue := randomFile(t, filepath.Join(r.dir, "blue"), 16<<20)
	g1 := r.serve("send", "-n", "1", "-s", "red", "red")
	clash := r.start(r.name, r.golden, "golden-serve", "send", "-n", "1", "-s", "blue", "blue")
	clash.wantExit(t, 2)
	if !strings.Contains(clash.out.String(), "--port takes another") || !strings.Contains(clash.out.String(), "golden-serve sessions") {
		t.Errorf("the clash is told so:\n%s", clash.out)
	}
	g2 := r.serve("send", "-n", "1", "-s", "blue", "--port", "30766", "blue")
	r.start(r.name, r.golden, "golden-serve", "status", "-s", "blue").wantExit(t, 0)
	b := r.receive(1, "-s", "blue", "--out", "b")
	b.wantExit(t, 0)
	g2.wantExit(t, 0)
	a := r.receive(0, "-s", "red", "--out", "a")
	a.wantExit(t, 0)
	g1.wantExit(t, 0)
	if hashFile(t, filepath.Join(r.dir, "a")) != red || hashFile(t, filepath.Join(r.dir, "b")) != blue {
		t.Error("other bytes")
	}
}
