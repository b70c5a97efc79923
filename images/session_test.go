package images

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// session is a send of a file of so many bytes.
type session struct {
	*room
	want   [32]byte
	golden *program
}

func newSession(t *testing.T, hosts int, rate string, size int64, args ...string) *session {
	t.Helper()
	s := &session{room: newRoom(t, hosts)}
	if rate != "" {
		s.limit(rate)
	}
	s.want = randomFile(t, filepath.Join(s.dir, "big"), size)
	s.golden = s.serve(append(append([]string{"send", "--report", "report.json"}, args...), "big")...)
	return s
}

func (s *session) recv(host int, more ...string) *program {
	s.t.Helper()
	return s.receive(host, append([]string{"--out", fmt.Sprintf("copy%d", host)}, more...)...)
}

// begin has golden start with the one receiver that is there.
func (s *session) begin() {
	s.t.Helper()
	s.golden.expect(s.t, "node is here")
	s.start(s.name, s.golden2(), "golden-serve", "go").wantExit(s.t, 0)
	s.golden.expect(s.t, "phase: sending")
}

func (s *session) wantCopy(host int) {
	s.t.Helper()
	if hashFile(s.t, filepath.Join(s.dir, fmt.Sprintf("copy%d", host))) != s.want {
		s.t.Errorf("receiver %d has other bytes", host)
	}
}

// reported reads golden's report: state by node, and how many rejoined.
func (s *session) reported() (states []string, rejoined int) {
	s.t.Helper()
	var rep struct {
		Nodes []struct {
			State    string
			Rejoined bool
		}
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "report.json"))
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range rep.Nodes {
		states = append(states, n.State)
		if n.Rejoined {
			rejoined++
		}
	}
	return states, rejoined
}

// wantAll is a session that ends well with n nodes.
func (s *session) wantAll(n, rejoined int) {
	s.t.Helper()
	s.golden.wantExit(s.t, 0)
	states, back := s.reported()
	if len(states) != n || back != rejoined {
		s.t.Errorf("report: %q, %d rejoined; want %d nodes, %d rejoined\n%s", states, back, n, rejoined, s.golden.out)
	}
	for _, st := range states {
		if st != "released" {
			s.t.Errorf("report: %q", states)
		}
	}
	if l, _ := filepath.Glob(filepath.Join(s.dir, "state/sessions/*")); len(l) > 0 {
		s.t.Errorf("left behind: %q", l)
	}
}

// Receivers that come while it runs are let in as long as there is room, and
// one too many is told so.
func TestSessionLateReceivers(t *testing.T) {
	s := newSession(t, 4, "30mbit", 40<<20, "-n", "3", "--quiet", "1m")
	a := s.recv(0)
	s.begin()
	time.Sleep(time.Second) // of 11 s
	b := s.recv(1)
	b.expect(t, "this is receiver 2")
	c := s.recv(2)
	c.expect(t, "this is receiver 3")
	d := s.recv(3)
	d.wantExit(t, 2)
	if !strings.Contains(d.out.String(), "the session is full") {
		t.Errorf("one too many is told:\n%s", d.out)
	}
	a.wantExit(t, 0)
	s.wantAll(3, 0)
	for i, p := range []*program{a, b, c} {
		p.wantExit(t, 0)
		s.wantCopy(i)
	}
}

// One that hangs is cut out, and comes back with what it has.
func TestSessionHungComesBack(t *testing.T) {
	s := newSession(t, 3, "30mbit", 60<<20, "-n", "3")
	var recv []*program
	for i := range 3 {
		recv = append(recv, s.recv(i))
	}
	s.golden.expect(t, "phase: sending")
	time.Sleep(2 * time.Second) // of 16 s
	recv[1].cmd.Process.Signal(syscall.SIGSTOP)
	s.golden.expect(t, "cut out of the chain")
	time.Sleep(4 * time.Second)
	recv[1].cmd.Process.Signal(syscall.SIGCONT)
	for i, p := range recv {
		p.wantExit(t, 0)
		s.wantCopy(i)
	}
	s.wantAll(3, 1)
}

// One whose process is killed and started again goes on with the file it has
// half of.
func TestSessionRestartedReceiver(t *testing.T) {
	s := newSession(t, 3, "30mbit", 40<<20, "-n", "3")
	a, b, c := s.recv(0), s.recv(1), s.recv(2)
	s.golden.expect(t, "phase: sending")
	time.Sleep(4 * time.Second) // of 11 s
	b.cmd.Process.Kill()
	time.Sleep(500 * time.Millisecond)
	b = s.recv(1, "--update", "-h", "10.78.0.1")
	for i, p := range []*program{a, b, c} {
		p.wantExit(t, 0)
		s.wantCopy(i)
	}
	s.wantAll(3, 1)
}

// Two of the same machine: the first is left in peace.
func TestSessionSameMachineTwice(t *testing.T) {
	s := newSession(t, 2, "10mbit", 30<<20, "-n", "2", "--quiet", "1m")
	a := s.recv(0)
	s.begin()
	b := s.recv(0)
	b.wantExit(t, 2)
	if !strings.Contains(b.out.String(), "this machine is here already: it is node 1") {
		t.Errorf("the second is told:\n%s", b.out)
	}
	a.wantExit(t, 0)
	s.wantAll(1, 0)
	s.wantCopy(0)
}

// A receiver whose address changes is known by its key.
func TestSessionAddressChanges(t *testing.T) {
	s := newSession(t, 3, "30mbit", 60<<20, "-n", "3")
	var recv []*program
	for i := range 3 {
		recv = append(recv, s.recv(i, "-h", "10.78.0.1"))
	}
	s.golden.expect(t, "phase: sending")
	time.Sleep(2 * time.Second)
	s.ip("-n", s.hosts[1], "addr", "del", "10.78.0.12/24", "dev", "eth0")
	s.ip("-n", s.hosts[1], "addr", "add", "10.78.0.99/24", "brd", "+", "dev", "eth0")
	for i, p := range recv {
		p.wantExit(t, 0)
		s.wantCopy(i)
	}
	s.wantAll(3, 1)
}

// All links down for a while: all resume.
func TestSessionNetworkFlaps(t *testing.T) {
	s := newSession(t, 3, "60mbit", 60<<20, "-n", "3")
	var recv []*program
	for i := range 3 {
		recv = append(recv, s.recv(i))
	}
	s.golden.expect(t, "phase: sending")
	time.Sleep(2 * time.Second)
	s.ip("-n", s.name, "link", "set", "br0", "down")
	time.Sleep(12 * time.Second)
	s.ip("-n", s.name, "link", "set", "br0", "up")
	for i, p := range recv {
		p.wantExit(t, 0)
		s.wantCopy(i)
	}
	s.wantAll(3, 3)
}

// Golden is killed in the middle and started again: all go on with what they
// have.
func TestSessionGoldenRestarts(t *testing.T) {
	s := newSession(t, 3, "200mbit", 60<<20, "-n", "3")
	var recv []*program
	for i := range 3 {
		recv = append(recv, s.recv(i))
	}
	s.golden.expect(t, "phase: sending")
	time.Sleep(1200 * time.Millisecond) // of 2.5 s
	s.golden.cmd.Process.Kill()
	<-s.golden.done
	killed := time.Now()
	for _, p := range recv {
		p.expect(t, "golden lost: waiting for it")
	}
	t.Logf("the receivers say after %v that golden is lost", time.Since(killed).Round(time.Millisecond)) // 10 s, where nobody else computes
	begun := time.Now()
	s.golden = s.serve("send", "--report", "report.json", "-n", "3", "big")
	if !strings.Contains(s.golden.out.String(), "resuming session kamethod") {
		t.Errorf("golden does not take the session up:\n%s", s.golden.out)
	}
	for i, p := range recv {
		p.wantExit(t, 0)
		s.wantCopy(i)
	}
	if d := time.Since(begun); d > 20*time.Second {
		t.Errorf("all was done only %v after golden was back", d)
	}
	s.wantAll(3, 0)
}

// Golden comes back with something else.
func TestSessionGoldenSendsSomethingElse(t *testing.T) {
	s := newSession(t, 1, "60mbit", 40<<20, "-n", "1")
	a := s.recv(0)
	s.golden.expect(t, "phase: sending")
	time.Sleep(time.Second)
	s.golden.cmd.Process.Kill()
	<-s.golden.done
	randomFile(t, filepath.Join(s.dir, "big"), 40<<20)
	s.golden = s.serve("send", "-n", "1", "big")
	a.wantExit(t, 1)
	if !strings.Contains(a.out.String(), "golden sends something else now") {
		t.Errorf("the receiver says:\n%s", a.out)
	}
	s.golden.wantExit(t, 1)
}

// The verbs go and status, and who may not.
func TestSessionGo(t *testing.T) {
	s := newSession(t, 1, "", 8<<20, "-n", "2", "-s", "demo")
	admin := func(etc string, args ...string) *program { return s.start(s.name, etc, "golden-serve", args...) }
	if p := admin(s.golden2(), "go", "-s", "demo"); p.wait(t) != 2 || !strings.Contains(p.out.String(), "no node is here") {
		t.Errorf("go without nodes:\n%s", p.out)
	}
	a := s.recv(0, "-s", "demo")
	s.golden.expect(t, "node is here")
	if p := admin(filepath.Join(s.dir, "stranger"), "go", "-s", "demo"); p.wait(t) != 2 || !strings.Contains(p.out.String(), "foreign key") {
		t.Errorf("go with another key:\n%s", p.out)
	}
	if p := admin(s.golden2(), "status", "-s", "demo"); p.wait(t) != 0 || !strings.Contains(p.out.String(), "waiting for nodes") {
		t.Errorf("status:\n%s", p.out)
	}
	if p := admin(s.golden2(), "go", "-s", "other"); p.wait(t) != 2 || !strings.Contains(p.out.String(), `no session "other"`) {
		t.Errorf("go for another session:\n%s", p.out)
	}
	admin(s.golden2(), "go", "-s", "demo").wantExit(t, 0)
	a.wantExit(t, 0)
	s.wantAll(1, 0)
	s.wantCopy(0)
}

// golden2 is the folder of golden's keys.
func (s *session) golden2() string { return s.room.golden }
