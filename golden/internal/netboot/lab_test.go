package netboot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/iana"
	"golang.org/x/sys/unix"
)

// The lab: a network namespace with bridge br0 and a server, and further
// namespaces with one veth each on that bridge. The server is this test
// binary, started again inside the first namespace, because the TFTP library
// opens its sockets in goroutines of its own.
//
//	srv: br0 10.77.0.1/24 ---+--- c1: eth0 (clients)
//	                         +--- c2: eth0 (dnsmasq, or a second client)
//	                         +--- tap1     (QEMU)

const serveEnv = "NETBOOT_TEST_SERVE"

// serveSpec is what the server in the namespace is told.
type serveSpec struct {
	DHCP, LeaseFile, Append, Console string
	Dir                              string // boot files
	Interface                        string
	Addr                             netip.Prefix
	From, To                         netip.Addr
	Fixed                            map[string]netip.Addr
	Names                            map[string]string
	Subnets                          []string // see ParseSubnet
	Force                            bool
	BootFiles                        map[iana.Arch]string
	Option43                         string
	Quiet                            bool // no log, no events, LocalBoot for all or, if there are Known ones, BootImage for these: to measure
	Known                            []string
	Profile                          string // file for a profile of the processor
	Tmpfs                            string // folder that is a small disk
	Answers                          string // file with lines "MAC answer", "* answer"
}

func TestMain(m *testing.M) {
	if spec := os.Getenv(serveEnv); spec != "" {
		if err := serveSpecified(spec); err != nil {
			fmt.Println("ERROR " + err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serveSpecified(text string) error {
	var spec serveSpec
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return err
	}
	files, err := FromFS(os.DirFS(spec.Dir))
	if err != nil {
		return err
	}
	if spec.Tmpfs != "" { // in the mount namespace that ip netns exec has made for us
		if err := unix.Mount("tmpfs", spec.Tmpfs, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var mu sync.Mutex
	cfg := Config{Interface: spec.Interface, Addr: spec.Addr, DHCP: spec.DHCP, LeaseFile: spec.LeaseFile, RangeFrom: spec.From, RangeTo: spec.To,
		Fixed: spec.Fixed, Names: spec.Names, Append: spec.Append, Console: spec.Console, Files: files, Force: spec.Force, BootFiles: spec.BootFiles, Option43: spec.Option43,
		Router: netip.MustParseAddr("10.77.0.1"), DNS: []netip.Addr{netip.MustParseAddr("10.77.0.1")}, Domain: "lab.example",
		Decide: func(c Client) Answer { return answerOf(spec.Answers, c.MAC) },
		Log:    slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Event: func(e Event) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Printf("EVENT %s %s [%s] %s %d\n", e.MAC, e.IP, e.What, e.Name, e.Bytes)
		}}
	for _, text := range spec.Subnets {
		n, err := ParseSubnet(text)
		if err != nil {
			return err
		}
		cfg.Subnets = append(cfg.Subnets, n)
	}
	if spec.Quiet {
		cfg.Decide, cfg.Log, cfg.Event = spec.decideQuietly, nil, nil
		cfg.Router = netip.Addr{}
	}
	if spec.Profile != "" {
		w, err := os.Create(spec.Profile)
		if err != nil {
			return err
		}
		defer func() { _ = w.Close() }()
		if err := pprof.StartCPUProfile(w); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	s, err := New(cfg)
	if err != nil {
		return err
	}
	go func() {
		<-s.Ready()
		fmt.Println("READY")
	}()
	go tellHeap(ctx)
	return s.Serve(ctx)
}

func (s serveSpec) decideQuietly(c Client) Answer {
	switch {
	case len(s.Known) == 0:
		return LocalBoot
	case slices.Contains(s.Known, c.MAC.String()):
		return BootImage
	}
	return Silent
}

// answerOf reads the answers file anew each time: a test changes it.
func answerOf(path string, mac net.HardwareAddr) Answer {
	b, _ := os.ReadFile(path)
	a := LocalBoot
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) == 2 && (w[0] == "*" || w[0] == mac.String()) {
			a = map[string]Answer{"silent": Silent, "local": LocalBoot, "image": BootImage}[w[1]]
		}
	}
	return a
}

// lab is one set of namespaces.
type lab struct {
	t     *testing.T
	dir   string // boot files
	tmp   string
	srv   string // namespace names
	hosts []string
	vms   int
}

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	l := &lab{t: t, tmp: t.TempDir(), srv: fmt.Sprintf("kanb%d-%d", os.Getpid(), labCount.next())}
	l.dir = filepath.Join(l.tmp, "tftp")
	l.addNS(l.srv)
	for _, args := range []string{"link set lo up", "link add br0 type bridge", "addr add 10.77.0.1/24 brd + dev br0", "link set br0 up"} {
		l.ip(l.srv, args)
	}
	l.write("tftp/pxelinux.0", strings.Repeat("loader\n", 6000))
	l.write("tftp/images/vmlinuz", strings.Repeat("kernel--", 1<<17))
	l.write("tftp/pxelinux.cfg/default", "never served")
	l.answers("* local")
	return l
}

type counter struct {
	mu sync.Mutex
	n  int
}

func (c *counter) next() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return c.n
}

var labCount counter

func (l *lab) addNS(name string) {
	l.t.Helper()
	l.run("ip", "netns", "add", name)
	l.t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			l.t.Errorf("ip netns del %s: %v: %s", name, err, out)
		}
	})
}

// host adds a namespace with eth0 on the bridge. addr may be empty.
func (l *lab) host(mac, addr string) string {
	l.t.Helper()
	n := len(l.hosts) + 1
	name := fmt.Sprintf("%s-c%d", l.srv, n)
	l.hosts = append(l.hosts, name)
	l.addNS(name)
	l.ip(l.srv, fmt.Sprintf("link add v%d type veth peer name eth0 netns %s", n, name))
	l.ip(l.srv, fmt.Sprintf("link set v%d master br0 up", n))
	l.ip(name, "link set lo up")
	l.ip(name, "link set eth0 address "+mac)
	if addr != "" {
		l.ip(name, "addr add "+addr+" brd + dev eth0")
	}
	l.ip(name, "link set eth0 up")
	return name
}

func (l *lab) ip(ns, args string) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", ns}, strings.Fields(args)...)...)
}

// run runs a program that has to succeed.
func (l *lab) run(name string, args ...string) string {
	l.t.Helper()
	out, err := runFor(20*time.Second, name, args...)
	if err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

// in runs a program in a namespace.
func (l *lab) in(ns string, args ...string) (string, error) {
	return runFor(30*time.Second, "ip", append([]string{"netns", "exec", ns}, args...)...)
}

func runFor(d time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (l *lab) write(name, text string) string {
	l.t.Helper()
	p := filepath.Join(l.tmp, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, []byte(text), 0o755)); err != nil {
		l.t.Fatal(err)
	}
	return p
}

func (l *lab) answers(lines ...string) { l.write("answers", strings.Join(lines, "\n")+"\n") }

// process is a program that runs until the test ends.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	mu    sync.Mutex
	lines []string
	ended chan struct{}
	once  sync.Once
}

// start starts a program in a namespace and gathers its lines.
func (l *lab) start(ns string, env []string, args ...string) *process {
	l.t.Helper()
	p := &process{t: l.t, cmd: exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	r, w, err := os.Pipe()
	if err != nil {
		l.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	_ = w.Close()
	go func() {
		sc := bufio.NewScanner(r)
		sc.Buffer(nil, 1<<20)
		for sc.Scan() {
			p.mu.Lock()
			p.lines = append(p.lines, sc.Text())
			p.mu.Unlock()
		}
		_ = r.Close()
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	l.t.Cleanup(p.stop)
	return p
}

// stop ends the process (ip netns exec became it, so the pid is its own).
func (p *process) stop() {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(time.Minute):
			_ = p.cmd.Process.Kill()
			<-p.ended
			p.t.Errorf("pid %d needed SIGKILL", p.cmd.Process.Pid)
		}
		if p.t.Failed() {
			p.t.Logf("%s:\n%s", filepath.Base(p.cmd.Path)+" "+strings.Join(p.cmd.Args[3:min(len(p.cmd.Args), 6)], " "), p.output())
		}
	})
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// saw waits for a line that contains text.
func (p *process) saw(text string, d time.Duration) bool {
	for end := time.Now().Add(d); ; {
		if strings.Contains(p.output(), text) {
			return true
		}
		select {
		case <-p.ended:
			return strings.Contains(p.output(), text)
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(end) {
			return false
		}
	}
}

func (p *process) mustSee(text string, d time.Duration) {
	p.t.Helper()
	if !p.saw(text, d) {
		p.t.Fatalf("not seen within %v: %q in\n%s", d, text, p.output())
	}
}

// server starts our server in the lab. Its end is either READY or ERROR.
func (l *lab) server(spec serveSpec) *process {
	l.t.Helper()
	spec.Dir = l.dir
	spec.Answers = filepath.Join(l.tmp, "answers")
	if spec.Interface == "" {
		spec.Interface = "br0"
	}
	b, err := json.Marshal(spec)
	if err != nil {
		l.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.start(l.srv, []string{serveEnv + "=" + string(b)}, self)
}

// ready starts our server and waits until it serves.
func (l *lab) ready(spec serveSpec) *process {
	l.t.Helper()
	p := l.server(spec)
	p.mustSee("READY", 30*time.Second)
	return p
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: scripts/deps-netboot-test.sh installs it", p)
		}
	}
}
