package golden

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// runLab is a lab whose golden runs Run.
func runLab(t *testing.T, nodes int, change func(*RunConfig)) *lab {
	t.Helper()
	l := newLab(t, nodes)
	src, err := stream.OpenImage(0, l.write("image", 3<<20+1))
	if err != nil {
		t.Fatal(err)
	}
	c := RunConfig{Config: l.c.Config, Source: src}
	if change != nil {
		change(&c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	l.cancel, l.done = cancel, make(chan struct{})
	go func() { l.result, l.err = Run(ctx, c); close(l.done) }()
	t.Cleanup(func() { cancel(); <-l.done; src.Close() })
	l.until("golden to listen", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort(labAddr, fmt.Sprint(wire.ControlPort)))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return l
}

func isRun(o wire.Order) bool { return o.Run != nil }

// runs plays a machine from its first word to its release, and gives what it
// was told.
func (m *machine) runs() wire.Run {
	m.l.t.Helper()
	told := *m.next("who it is", isRun).Run
	whole, ended := m.receive()
	select {
	case <-whole:
	case <-time.After(30 * time.Second):
		m.l.t.Fatalf("%s doesn't get all", m.mac)
	}
	m.report(wire.Report{Done: &wire.Done{HostKeys: []string{"ssh-ed25519 AAAA" + m.mac}}})
	r := m.next("its release", func(o wire.Order) bool { return o.Release != nil }).Release
	if r.Reboot {
		m.l.t.Errorf("%s is told to reboot: its memory would be empty", m.mac)
	}
	m.wantEnd(ended)
	m.crash() // its own init runs now
	return told
}

func fileOf(r wire.Run, path string) string {
	for _, f := range r.Files {
		if f.Path == path {
			return string(f.Content)
		}
	}
	return "no " + path
}

// Two machines are told who they are, each with all others; a clone's stage 1
// has no place here; what they have become is in the result.
func TestRun(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "me.tmpl"), []byte("{{.Node.Name}} of {{len .Nodes}} in {{.Session}}"), 0o640); err != nil {
		t.Fatal(err)
	}
	l := runLab(t, 2, func(c *RunConfig) { c.Hostname, c.Render = "ram%02d", dir })
	a, b, c := l.machine("52:54:00:77:00:01"), l.machine("52:54:00:77:00:02"), l.machine("52:54:00:77:00:03")
	a.must(wire.RunRAM, nil)
	if err := c.register(wire.Stage1, nil); err == nil || !strings.Contains(err.Error(), "no clone") {
		t.Errorf("a machine that wants stage 2: %v", err)
	}
	b.must(wire.RunRAM, nil)
	if err := c.register(wire.RunRAM, nil); err == nil || !strings.Contains(err.Error(), "full") {
		t.Errorf("a third machine: %v", err)
	}
	var mu sync.Mutex
	told := map[*machine]wire.Run{}
	together([]*machine{a, b}, func(m *machine) {
		r := m.runs()
		mu.Lock()
		defer mu.Unlock()
		told[m] = r
	})
	for i, r := range []wire.Run{told[a], told[b]} {
		name := fmt.Sprintf("ram%02d", i+1)
		if r.Hostname != name || r.NodeID != i+1 || fileOf(r, "/me") != name+" of 2 in lab" ||
			fileOf(r, "/etc/kerrighed_nodes") != "session=1\nnbmin=2\nram01:eth0\nram02:eth0\n" {
			t.Errorf("machine %d is told %+v", i+1, r)
		}
	}
	l.wait()
	if l.err != nil || len(l.result.Nodes) != 2 || l.result.Failed() != 0 || l.result.Touched {
		t.Errorf("%v, %+v", l.err, l.result)
	}
	for _, n := range l.result.Nodes {
		if n.Hostname != fmt.Sprintf("ram%02d", n.Number) || len(n.HostKeys) != 1 {
			t.Errorf("node %d is %s, keys %q", n.Number, n.Hostname, n.HostKeys)
		}
	}
}

// A machine that boots again gets it again, as often as it likes, while golden
// stays; its number and its name are the same.
func TestRunAgain(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := runLab(t, 1, func(c *RunConfig) { c.Stay = true })
	for n := range maxBack + 2 {
		m := l.machine("52:54:00:77:00:01")
		l.until("golden to let it in again", func() bool { return m.register(wire.RunRAM, nil) == nil })
		if r := m.runs(); r.NodeID != 1 || r.Hostname != "node1" {
			t.Errorf("the %d. time it is %+v", n+1, r)
		}
	}
	select {
	case <-l.done:
		t.Errorf("golden ended: %v", l.err)
	default:
	}
	l.cancel()
	l.wait()
}

// What a machine says of itself and all others are told of is no line of its
// own, no flood, and nobody else's.
func TestRunDistinct(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := runLab(t, 3, func(c *RunConfig) {
		c.Named = []Named{{MAC: "52:54:00:77:00:09", Number: 9, Name: "nine"}, {MAC: "52:54:00:77:00:08", Number: 8, Name: "node5"}}
	})
	first := l.machine("52:54:00:77:00:01")
	first.nodeID = 1
	first.must(wire.RunRAM, nil)
	for _, tt := range []struct {
		card   string
		nodeID int
		want   string
	}{
		{"eth0\nevil:eth0", 0, "network card"},
		{"eth0 x", 0, "network card"},
		{strings.Repeat("e", 16), 0, "network card"},
		{strings.Repeat("e", 1<<19), 0, "network card"},
		{"eth0", -1, "node_id -1"},
		{"eth0", 1<<20 + 1, "node_id 1048577"},
		{"eth0", 1, "machine 52:54:00:77:00:01's already"},
		{"eth0", 9, "machine 52:54:00:77:00:09's already"},
		{"eth0", 5, "name node5 is machine 52:54:00:77:00:08's already"},
	} {
		m := l.machine("52:54:00:77:00:02")
		m.card, m.nodeID = tt.card, tt.nodeID
		if err := m.register(wire.RunRAM, nil); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("card %.20q, node_id %d: %v, want %q", tt.card, tt.nodeID, err, tt.want)
		}
	}
	for _, ok := range []struct {
		mac, card string
		nodeID    int
	}{{"52:54:00:77:00:02", "enp0s31f6.1-a_b", 2}, {"52:54:00:77:00:09", "", 9}} {
		m := l.machine(ok.mac)
		m.card, m.nodeID = ok.card, ok.nodeID
		m.must(wire.RunRAM, nil)
	}
}

// Clones' sessions and karecv's take no machine that runs in its memory.
func TestRunElsewhere(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 1)
	l.start()
	m := l.machine("52:54:00:77:00:01")
	if err := m.register(wire.RunRAM, nil); err == nil || !strings.Contains(err.Error(), "golden-serve run or send") {
		t.Errorf("a clone's session: %v", err)
	}
}

// What can't be run, or rendered, is refused before anybody waits.
func TestRunRefusals(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	ext := make([]byte, 4096)
	ext[1080], ext[1081] = 0x53, 0xef
	for path, want := range map[string]string{
		write("a.iso", "CD001"):                                 "neither a folder nor a squashfs",
		write("empty", ""):                                      "neither a folder nor a squashfs",
		filepath.Dir(write("chroot/etc/hosts", "")):             "has no init",
		filepath.Join(dir, "none"):                              "no such file",
		write("a.sqfs", "hsqs...."):                             "",
		write("a.img", string(ext)):                             "",
		filepath.Dir(filepath.Dir(write("root/sbin/init", ""))): "",
	} {
		err := Runnable(path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
	src, err := stream.OpenImage(0, write("x", "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	write("bad/etc/motd.tmpl", "hello\n{{.Node.Nome}}\n")
	for want, c := range map[string]RunConfig{
		"motd.tmpl:2":  {Render: filepath.Join(dir, "bad")},
		"is no folder": {Render: filepath.Join(dir, "x")},
		"no such file": {Render: filepath.Join(dir, "none")},
		"not allowed":  {Hostname: "a b"},
	} {
		c.Source = src
		if _, err := newRun(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// Who boots: the named, or else the first so many that really load; never
// golden itself. A machine may come as often as it likes.
func TestGuestsDecide(t *testing.T) {
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0x77, 0, n} }
	ask := func(g *guests, n byte, loading bool) netboot.Answer {
		return g.decide(netboot.Client{MAC: mac(n), Loading: loading})
	}
	g := &guests{RunConfig: RunConfig{Config: Config{Nodes: 2}, Boot: &Boot{DHCP: netboot.DHCPProxy}}, own: []string{mac(9).String()}}
	for i, tt := range []struct {
		n       byte
		loading bool
		want    netboot.Answer
	}{
		{1, false, netboot.BootImage}, {2, false, netboot.BootImage}, {3, false, netboot.BootImage}, // only asked
		{1, true, netboot.BootImage}, {3, true, netboot.BootImage},
		{2, false, netboot.Silent}, {2, true, netboot.LocalBoot}, // too late
		{1, true, netboot.BootImage}, {9, false, netboot.Silent}, {9, true, netboot.Silent},
	} {
		if got := ask(g, tt.n, tt.loading); got != tt.want {
			t.Errorf("question %d: machine %d hears %v, want %v", i, tt.n, got, tt.want)
		}
	}
	// Who loaded and never came gives its place back, who registered doesn't.
	g.came(mac(1).String())
	for name, p := range g.has {
		p.since = time.Now().Add(-roster.DefaultArmFor - time.Minute)
		g.has[name] = p
	}
	if g.holds(mac(3).String()) || !g.holds(mac(1).String()) {
		t.Errorf("places of %v", g.has)
	}
	for i, tt := range []struct {
		n    byte
		want netboot.Answer
	}{{2, netboot.BootImage}, {3, netboot.LocalBoot}, {1, netboot.BootImage}} {
		if got := ask(g, tt.n, true); got != tt.want {
			t.Errorf("later, question %d: machine %d hears %v, want %v", i, tt.n, got, tt.want)
		}
	}
	g = &guests{RunConfig: RunConfig{Config: Config{Nodes: 5}, Boot: &Boot{DHCP: netboot.DHCPFull, MACs: []string{"52-54-00-77-00-04"}}}}
	if a, b := ask(g, 4, false), ask(g, 5, false); a != netboot.BootImage || b != netboot.LocalBoot {
		t.Errorf("named: %v, another: %v", a, b)
	}
	if g.mayRun(mac(4).String()) != nil || g.mayRun(mac(5).String()) == nil {
		t.Error("who is not on the list may run it")
	}
}
