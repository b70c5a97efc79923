package golden

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/netboot"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

const labAddr = "10.99.0.1"

// inOwnNetwork runs the test once more in a network namespace of its own, and
// tells whether this is that run.
func inOwnNetwork(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	if os.Getenv("GOLDEN_TEST_OWN_NETWORK") != "" {
		lo, err := netlink.LinkByName("lo")
		if err == nil {
			err = netlink.LinkSetUp(lo)
		}
		card := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "golden0"}}
		if err == nil {
			err = netlink.LinkAdd(card)
		}
		addr, perr := netlink.ParseAddr(labAddr + "/24")
		if err = errors.Join(err, perr); err == nil {
			err = errors.Join(netlink.AddrAdd(card, addr), netlink.LinkSetUp(card))
		}
		if err != nil {
			t.Fatal(err)
		}
		return true
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	c.Env = append(os.Environ(), "GOLDEN_TEST_OWN_NETWORK=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// lab is a clone session on the bridge without ports.
type lab struct {
	t      *testing.T
	dir    string
	c      CloneConfig
	log    *safeLog
	cancel context.CancelFunc
	done   chan struct{}
	result Result
	err    error
	asked  [][]*Node
}

type safeLog struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeLog) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeLog) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func newLab(t *testing.T, nodes int, macs ...string) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), log: &safeLog{}}
	for _, name := range []string{"pxelinux.0", "ldlinux.c32", "images/vmlinuz", "images/all.rdz"} {
		l.write("tftp/"+name, 10)
	}
	id, err := trust.New()
	if err != nil {
		t.Fatal(err)
	}
	stage2, err := stream.OpenImage(0, l.write("stage2", 3<<20+1))
	if err != nil {
		t.Fatal(err)
	}
	tree, err := stream.OpenImage(0, l.write("tree", 12<<20+1))
	if err != nil {
		t.Fatal(err)
	}
	l.c = CloneConfig{
		Config: Config{Session: "lab", Token: "token", Nodes: nodes, Addr: netip.MustParseAddr(labAddr), Identity: id, Plain: true,
			Log: slog.New(slog.NewTextHandler(l.log, &slog.HandlerOptions{Level: slog.LevelDebug}))},
		Boot:   Boot{Interfaces: []string{"golden0"}, DHCP: netboot.DHCPOff, TFTPRoot: filepath.Join(l.dir, "tftp"), HTTPPort: -1, MACs: macs},
		Stage2: stage2, Tree: tree,
		Confirm: func(list []*Node) error { l.asked = append(l.asked, list); return nil },
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("golden's log:\n%s", l.log)
		}
	})
	return l
}

func (l *lab) write(name string, size int) string {
	path := filepath.Join(l.dir, name)
	b := make([]byte, size)
	rand.Read(b)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, b, 0o644); err != nil {
		l.t.Fatal(err)
	}
	return path
}

func (l *lab) start() {
	ctx, cancel := context.WithCancel(l.t.Context())
	l.cancel, l.done = cancel, make(chan struct{})
	go func() { l.result, l.err = Clone(ctx, l.c); close(l.done) }()
	l.t.Cleanup(func() { cancel(); <-l.done })
	l.until("golden to listen", func() bool {
		c, err := net.Dial("tcp", net.JoinHostPort(labAddr, fmt.Sprint(wire.ControlPort)))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (l *lab) until(what string, ok func() bool) {
	l.t.Helper()
	for end := time.Now().Add(40 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		select {
		case <-l.done:
			l.t.Fatalf("golden ended before %s: %v", what, l.err)
		default:
		}
		if time.Now().After(end) {
			l.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (l *lab) wait() {
	l.t.Helper()
	select {
	case <-l.done:
	case <-time.After(60 * time.Second):
		l.t.Fatal("the session doesn't end")
	}
}

// machine is the protocol of a node, and memory for a disk. It is played by
// hand, step by step, to stop and fail at any of them.
type machine struct {
	l      *lab
	mac    string
	id     *trust.Identity
	client *http.Client
	ln     net.Listener
	me     wire.Registered
	orders chan wire.Order
	say    *json.Encoder
	cancel context.CancelFunc
	ctx    context.Context
	rate   time.Duration // a piece takes so long to store
	card   string        // that it says it has
	nodeID int           // that its boot line says

	mu   sync.Mutex
	disk map[uint32][]byte
}

func (l *lab) machine(mac string) *machine {
	id, err := trust.New()
	if err != nil {
		l.t.Fatal(err)
	}
	return &machine{l: l, mac: mac, id: id, disk: map[uint32][]byte{}}
}

// register says hello; the error is golden's refusal.
func (m *machine) register(stage string, resume *wire.Resume) error {
	m.l.t.Helper()
	var err error
	if m.ln, err = net.Listen("tcp", labAddr+":0"); err != nil {
		m.l.t.Fatal(err)
	}
	m.client = &http.Client{Transport: &http.Transport{TLSClientConfig: trust.ClientConfig(m.id, m.l.c.Identity.Pin)}}
	b, _ := json.Marshal(wire.Register{Version: wire.Version, Session: m.l.c.Session, Token: m.l.c.Token, Stage: stage, MAC: m.mac, Queue: 16,
		Card: m.card, NodeID: m.nodeID, DataPort: m.ln.Addr().(*net.TCPAddr).Port, Resume: resume})
	resp, err := m.client.Post(m.url(wire.RegisterPath), "", bytes.NewReader(b))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if b, _ = io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%d: %s", resp.StatusCode, strings.TrimSpace(string(b)))
	}
	if err := json.Unmarshal(b, &m.me); err != nil {
		m.l.t.Fatal(err)
	}
	m.converse()
	return nil
}

func (m *machine) must(stage string, resume *wire.Resume) {
	m.l.t.Helper()
	if err := m.register(stage, resume); err != nil {
		m.l.t.Fatalf("%s in %s: %v", m.mac, stage, err)
	}
}

func (m *machine) url(path string) string {
	return fmt.Sprintf("https://%s:%d%s", labAddr, wire.ControlPort, path)
}

func (m *machine) converse() {
	ctx, cancel := context.WithCancel(m.l.t.Context())
	m.ctx, m.cancel = ctx, cancel
	orders := make(chan wire.Order, 100)
	m.orders = orders
	r, w := io.Pipe()
	m.mu.Lock() // a last word to the connection before may still be on its way
	m.say = json.NewEncoder(w)
	m.mu.Unlock()
	context.AfterFunc(ctx, func() { w.Close() })
	get, _ := http.NewRequestWithContext(ctx, http.MethodGet, m.url(wire.OrdersPath), nil)
	post, _ := http.NewRequestWithContext(ctx, http.MethodPost, m.url(wire.ReportsPath), r)
	go func() {
		defer close(orders)
		resp, err := m.client.Do(get)
		if err != nil {
			return
		}
		defer resp.Body.Close()
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			var o wire.Order
			if json.Unmarshal(in.Bytes(), &o) == nil && !o.Ping {
				orders <- o
			}
		}
	}()
	go func() {
		if resp, err := m.client.Do(post); err == nil {
			resp.Body.Close()
		}
		r.Close()
	}()
	go func() { // the beat
		for t := time.NewTicker(time.Second); ctx.Err() == nil; <-t.C {
			m.report(wire.Report{})
		}
	}()
}

func (m *machine) report(r wire.Report) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.say.Encode(r)
}

// crash ends the process.
func (m *machine) crash() {
	m.cancel()
	m.ln.Close()
	m.client.CloseIdleConnections()
}

// next waits for the next order that ok takes; others are dropped.
func (m *machine) next(what string, ok func(wire.Order) bool) wire.Order {
	m.l.t.Helper()
	for end := time.After(40 * time.Second); ; {
		select {
		case o, open := <-m.orders:
			if !open {
				m.l.t.Fatalf("%s: the connection ended before %s", m.mac, what)
			}
			if ok(o) {
				return o
			}
		case <-end:
			m.l.t.Fatalf("%s: golden has not ordered %s", m.mac, what)
		}
	}
}

func isLink(o wire.Order) bool { return o.Link != nil && !o.Link.End }

// Put is the disk.
func (m *machine) Put(_ uint16, piece uint32, data []byte) error {
	time.Sleep(m.rate)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk[piece] = bytes.Clone(data)
	return nil
}

// receive takes part in a transfer. whole is closed when all is here, and
// ended says how it ended.
func (m *machine) receive() (whole <-chan struct{}, ended chan error) {
	m.l.t.Helper()
	first := m.next("a transfer", isLink)
	m.disk = map[uint32][]byte{}
	link := &chain.Link{Transfer: first.Link.Transfer, Self: m.me.Node, Streams: first.Link.Streams, Identity: m.id, Plain: true,
		Sink: m, Queue: 16, Log: m.l.c.Log, Tell: func(r wire.LinkReport) { go m.report(wire.Report{Link: &r}) }}
	if err := link.Start(); err != nil {
		m.l.t.Fatal(err)
	}
	link.Order(*first.Link)
	ended = make(chan error, 1)
	go func() { ended <- link.Run(m.ctx, m.ln) }()
	rest := make(chan wire.Order, 100)
	was := m.orders
	m.orders = rest
	go func() {
		defer close(rest)
		for o := range was {
			if o.Link != nil && o.Link.Transfer == first.Link.Transfer {
				link.Order(*o.Link)
			} else {
				rest <- o
			}
		}
	}()
	return link.Complete(), ended
}

func (m *machine) wantEnd(ended chan error) {
	m.l.t.Helper()
	select {
	case err := <-ended:
		if err != nil {
			m.l.t.Errorf("%s: the transfer ended with %v", m.mac, err)
		}
	case <-time.After(40 * time.Second):
		m.l.t.Fatalf("%s: the transfer doesn't end", m.mac)
	}
}

// intoStage2 goes through stage 1 and registers in stage 2.
func (m *machine) intoStage2() {
	m.l.t.Helper()
	m.must(wire.Stage1, nil)
	_, ended := m.receive()
	m.wantEnd(ended)
	m.crash() // as far as golden sees
	m.must(wire.Stage2, nil)
}

// prepare hears the plan and says that the disks are ready.
func (m *machine) prepare() {
	m.l.t.Helper()
	m.next("to prepare", func(o wire.Order) bool { return o.Plan != nil })
	m.report(wire.Report{State: string(status.Ready), Ready: &wire.DiskResult{Disks: []string{"/dev/vda"}}})
}

// finish receives the tree and becomes a machine of its own.
func (m *machine) finish() {
	m.l.t.Helper()
	whole, ended := m.receive()
	select {
	case <-whole:
	case err := <-ended:
		m.l.t.Fatalf("%s: the transfer ended with %v", m.mac, err)
	}
	m.report(wire.Report{State: string(status.Fixing)})
	m.report(wire.Report{State: string(status.Done), Done: &wire.Done{}})
	m.wantEnd(ended)
	m.wantDisk()
}

func (m *machine) wantRelease() {
	m.l.t.Helper()
	if o := m.next("to go", func(o wire.Order) bool { return o.Release != nil }); !o.Release.Reboot {
		m.l.t.Errorf("%s: released without a reboot", m.mac)
	}
	m.crash()
}

func (m *machine) wantDisk() {
	m.l.t.Helper()
	want, err := os.ReadFile(filepath.Join(m.l.dir, "tree"))
	if err != nil {
		m.l.t.Fatal(err)
	}
	var got []byte
	m.mu.Lock()
	for i := range uint32(len(m.disk)) {
		got = append(got, m.disk[i]...)
	}
	m.mu.Unlock()
	if !bytes.Equal(got, want) {
		m.l.t.Errorf("%s has other bytes", m.mac)
	}
}

// together runs a machine's steps side by side.
func together(list []*machine, f func(*machine)) {
	var wg sync.WaitGroup
	for _, m := range list {
		wg.Go(func() { f(m) })
	}
	wg.Wait()
}
