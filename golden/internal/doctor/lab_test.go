package doctor

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// The lab: a namespace with bridge br0, in which the real golden-serve runs,
// as server and as doctor, and further namespaces with one veth each.
//
//	srv: br0 10.77.0.1/24 ─┬─ c1: eth0 (dnsmasq, or a node)
//	     golden-serve      └─ c2: eth0 …
//	     golden-serve doctor
type lab struct {
	t     *testing.T
	tmp   string
	srv   string
	hosts int
}

// build makes golden-serve, once.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "doctor-")
	if err != nil {
		return "", err
	}
	built = dir
	bin := filepath.Join(dir, "golden-serve")
	out, err := exec.Command("go", "build", buildFlags, "-o", bin, "../../../cmds/admin/golden-serve").CombinedOutput()
	if err != nil {
		return bin, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// built is the folder that build made; empty: none.
var built string

// TestMain runs a few labs at once, however many processors there are: they
// wait for most of the time, but a golden-serve that gets no time answers late.
func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic("BUG: " + err.Error())
	}
	status := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(status)
}

var labs atomic.Int32

func newLab(t *testing.T) *lab {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	l := &lab{t: t, tmp: t.TempDir(), srv: fmt.Sprintf("kadoc%d-%d", os.Getpid(), labs.Add(1))}
	l.ns(l.srv)
	for _, args := range []string{"link set lo up", "link add br0 type bridge", "link set br0 address 02:77:00:00:00:01", "addr add 10.77.0.1/24 brd + dev br0", "link set br0 up"} {
		l.ip(l.srv, args)
	}
	l.files()
	return l
}

func (l *lab) ns(name string) {
	l.t.Helper()
	l.run("ip", "netns", "add", name)
	l.t.Cleanup(func() { l.run("ip", "netns", "del", name) })
}

func (l *lab) ip(ns, args string) {
	l.t.Helper()
	l.run("ip", append([]string{"-n", ns}, strings.Fields(args)...)...)
}

// host adds a namespace with eth0 on a bridge of srv. addr may be empty.
func (l *lab) host(bridge, addr string) string {
	l.t.Helper()
	l.hosts++
	name := fmt.Sprintf("%s-c%d", l.srv, l.hosts)
	l.ns(name)
	l.ip(l.srv, fmt.Sprintf("link add v%d type veth peer name eth0 netns %s", l.hosts, name))
	l.ip(l.srv, fmt.Sprintf("link set v%d master %s up", l.hosts, bridge))
	l.ip(name, "link set lo up")
	l.ip(name, fmt.Sprintf("link set eth0 address 52:54:00:77:00:%02x", l.hosts))
	if addr != "" {
		l.ip(name, "addr add "+addr+" brd + dev eth0")
	}
	l.ip(name, "link set eth0 up")
	l.carrier(bridge)
	return name
}

// carrier waits until the kernel has noticed that a bridge has a link.
func (l *lab) carrier(bridge string) {
	l.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		out, err := exec.Command("ip", "-n", l.srv, "-brief", "link", "show", bridge).Output()
		if w := strings.Fields(string(out)); err == nil && len(w) > 1 && w[1] == "UP" {
			return
		}
	}
	l.t.Fatalf("%s has no link", bridge)
}

func (l *lab) run(name string, args ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		l.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}

// in runs a program in a namespace; how it ends is its own affair.
func (l *lab) in(ns string, args ...string) string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", ns}, args...)...)
	cmd.WaitDelay = time.Second
	out, _ := cmd.CombinedOutput()
	return string(out)
}

func (l *lab) nft(ns, rules string) {
	l.t.Helper()
	needs(l.t, "nft")
	cmd := exec.Command("ip", "netns", "exec", ns, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		l.t.Fatalf("nft: %v\n%s", err, out)
	}
}

func (l *lab) path(name string) string { return filepath.Join(l.tmp, name) }

func (l *lab) write(name string, b []byte) {
	l.t.Helper()
	p := l.path(name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(p), 0o755), os.WriteFile(p, b, 0o644)); err != nil {
		l.t.Fatal(err)
	}
}

// process is a program that runs until the test ends.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	mu    sync.Mutex
	err   strings.Builder // and out, unless kept apart
	out   bytes.Buffer
	ended chan struct{}
}

func (l *lab) start(ns string, args ...string) *process {
	l.t.Helper()
	p := &process{t: l.t, cmd: exec.Command("ip", append([]string{"netns", "exec", ns}, args...)...), ended: make(chan struct{})}
	p.cmd.Dir = l.tmp
	p.cmd.Env = append(os.Environ(), "KAMETHOD_ETC="+l.path("etc"), "KAMETHOD_STATE="+l.path("state"))
	p.cmd.Stdout = &p.out
	stderr, w := io.Pipe()
	p.cmd.Stderr = w
	if err := p.cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	lines := make(chan struct{})
	go func() {
		defer close(lines)
		for sc := bufio.NewScanner(stderr); sc.Scan(); {
			p.mu.Lock()
			p.err.WriteString(sc.Text() + "\n")
			p.mu.Unlock()
		}
	}()
	go func() {
		_ = p.cmd.Wait()
		_ = w.Close()
		<-lines
		close(p.ended)
	}()
	l.t.Cleanup(func() { p.stop(syscall.SIGTERM) })
	return p
}

// stop ends the program (ip netns exec became it) and waits.
func (p *process) stop(sig syscall.Signal) {
	select {
	case <-p.ended:
		return
	default:
	}
	_ = p.cmd.Process.Signal(sig)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		_ = p.cmd.Process.Kill()
		<-p.ended
		p.t.Errorf("%v needed SIGKILL", p.cmd.Args)
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err.String()
}

func (p *process) mustSay(text string) {
	p.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !strings.Contains(p.said(), text); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.ended:
			if !strings.Contains(p.said(), text) {
				p.t.Fatalf("%v ended without saying %q:\n%s%s", p.cmd.Args, text, p.said(), p.out.String())
			}
			return
		default:
		}
		if time.Now().After(end) {
			p.t.Fatalf("%v doesn't say %q:\n%s", p.cmd.Args, text, p.said())
		}
	}
}

func (l *lab) bin() string {
	l.t.Helper()
	bin, err := build()
	if err != nil {
		l.t.Fatal(err)
	}
	return bin
}

// golden starts golden-serve and waits until it serves.
func (l *lab) golden(dhcp string, more ...string) *process {
	l.t.Helper()
	p := l.start(l.srv, append([]string{l.bin(), "clone", "-n", "1", "-v", "--images", "images", "--root", "root", "-p", "sda", "desc", "--yes",
		"--interface", "br0", "--dhcp", dhcp}, more...)...)
	p.mustSay("netboot serves")
	return p
}

// dnsmasq starts another DHCP server.
func (l *lab) dnsmasq(ns string, more ...string) *process {
	l.t.Helper()
	needs(l.t, "dnsmasq")
	l.hosts++
	p := l.start(ns, append([]string{"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces", "--user=root",
		"--dhcp-authoritative", "--no-ping", "--log-facility=-", fmt.Sprintf("--dhcp-leasefile=%s", l.path(fmt.Sprintf("leases%d", l.hosts)))}, more...)...)
	p.mustSay("started")
	return p
}

const pool = "--dhcp-range=10.77.0.100,10.77.0.120,1h"

// want is a finding that a report has to have: by its id, of a subject or text
// that contains a word.
type want struct {
	id       string
	severity Severity
	word     string
}

// visits is how often the doctor is called before the lab is given up: a
// machine so loaded that an answer comes too late has a better moment later,
// and a defect is there each time.
const visits = 3

// doctor runs the doctor to its end. 0: nothing is wrong.
func (l *lab) doctor(wantStatus int, args string, wants ...want) *Report {
	l.t.Helper()
	for i := 1; ; i++ {
		p := l.startDoctor(strings.Fields(args)...)
		select {
		case <-p.ended:
		case <-time.After(4 * time.Minute):
			l.t.Fatalf("the doctor doesn't end:\n%s", p.said())
		}
		r, got := p.report(), p.cmd.ProcessState.ExitCode()
		right := got == wantStatus && r.Wrong() == (wantStatus != 0)
		for _, w := range wants {
			_, found := r.find(w.id, w.severity, w.word)
			right = right && found
		}
		if right {
			return r
		}
		l.t.Logf("visit %d: exit status %d, want %d and %v:\n%s\n%s", i, got, wantStatus, wants, r.all(), p.said())
		if i == visits {
			l.t.Errorf("the doctor doesn't find what is to be found (above)")
			return r
		}
	}
}

func (l *lab) startDoctor(args ...string) *process {
	l.t.Helper()
	return l.start(l.srv, append([]string{l.bin(), "doctor", "-v", "-o", "json", "--images", "images"}, args...)...)
}

// watching starts a doctor and waits until it hears the wire.
func (l *lab) watching(args ...string) *process {
	l.t.Helper()
	p := l.startDoctor(append([]string{"--watch", "10m"}, args...)...)
	p.mustSay("listening")
	return p
}

// report reads what a doctor that has ended wrote.
func (p *process) report() *Report {
	p.t.Helper()
	var r Report
	if err := json.Unmarshal(p.out.Bytes(), &r); err != nil {
		p.t.Fatalf("the doctor's report: %v\n%s\n%s", err, p.out.String(), p.said())
	}
	return &r
}

// interrupt ends a doctor that watches and reads what it heard until then.
func (p *process) interrupt() *Report {
	p.t.Helper()
	p.stop(syscall.SIGINT)
	return p.report()
}

func (r *Report) find(id string, s Severity, word string) (Finding, bool) {
	for _, f := range r.Findings {
		if f.ID == id && f.Severity == s && strings.Contains(f.Subject+" "+f.What+" "+f.Do, word) {
			return f, true
		}
	}
	return Finding{}, false
}

// mustFind finds a finding by its id, of a subject or text that contains a
// word.
func (r *Report) mustFind(t *testing.T, id string, s Severity, word string) Finding {
	t.Helper()
	if f, ok := r.find(id, s, word); ok {
		return f
	}
	t.Errorf("no %s of severity %s about %q in:\n%s", id, s, word, r.all())
	return Finding{}
}

func (r *Report) mustNotFind(t *testing.T, id string, s Severity) {
	t.Helper()
	for _, f := range r.Findings {
		if f.ID == id && f.Severity == s {
			t.Errorf("%s (%s) in:\n%s", id, s, r.all())
			return
		}
	}
}

func (r *Report) all() string {
	var b strings.Builder
	_ = r.Text(&b) // to memory
	return b.String()
}

func needs(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: scripts/deps-netboot-test.sh installs it", p)
		}
	}
}
