package images

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// room is ordinary hosts on one switch, each a network namespace:
//
//	golden 10.78.0.1 ┐
//	host 1 10.78.0.11 ┼─ br0, in golden's namespace
//	host N 10.78.0.1N ┘
type room struct {
	t      *testing.T
	name   string // of golden's namespace
	hosts  []string
	golden string // folder of golden's keys
	keys   string // what a receiver is given of them
	dir    string
}

var programs = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "kamethod-bin-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir+"/", "../cmds/admin/golden-serve", "../cmds/node/stage1/karecv").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build: %w: %s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := programs(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

func newRoom(t *testing.T, hosts int) *room {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	r := &room{t: t, name: fmt.Sprintf("kr%d-%d", os.Getpid(), time.Now().UnixNano()%1e6), dir: t.TempDir()}
	r.golden, r.keys = filepath.Join(r.dir, "golden-etc"), filepath.Join(r.dir, "host-etc")
	r.ip("netns", "add", r.name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", r.name).Run() })
	r.ip("-n", r.name, "link", "set", "lo", "up")
	r.ip("-n", r.name, "link", "add", "br0", "type", "bridge")
	r.ip("-n", r.name, "addr", "add", "10.78.0.1/24", "brd", "+", "dev", "br0")
	r.ip("-n", r.name, "link", "set", "br0", "up")
	for i := range hosts {
		h := fmt.Sprintf("%s-%d", r.name, i+1)
		r.ip("netns", "add", h)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", h).Run() })
		tap := fmt.Sprintf("h%d", i+1)
		r.ip("-n", r.name, "link", "add", tap, "type", "veth", "peer", "name", "eth0", "netns", h)
		r.ip("-n", r.name, "link", "set", tap, "master", "br0", "up")
		r.ip("-n", h, "link", "set", "lo", "up")
		r.ip("-n", h, "addr", "add", fmt.Sprintf("10.78.0.%d/24", i+11), "brd", "+", "dev", "eth0")
		r.ip("-n", h, "link", "set", "eth0", "up")
		r.hosts = append(r.hosts, h)
	}
	return r
}

func (r *room) ip(args ...string) {
	r.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		r.t.Fatalf("ip %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// limit shapes what golden sends, so that there is time to do things to the
// nodes.
func (r *room) limit(rate string) {
	r.t.Helper()
	for i := range r.hosts {
		out, err := exec.Command("tc", "-n", r.name, "qdisc", "add", "dev", fmt.Sprintf("h%d", i+1), "root",
			"tbf", "rate", rate, "burst", "128kb", "latency", "50ms").CombinedOutput()
		if err != nil {
			r.t.Fatalf("tc: %v: %s", err, out)
		}
	}
}

// program is one that runs in a namespace.
type program struct {
	cmd  *exec.Cmd
	out  *safeBuffer
	done chan struct{}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func (r *room) start(ns, etc, prog string, args ...string) *program {
	r.t.Helper()
	bin, err := programs()
	if err != nil {
		r.t.Fatal(err)
	}
	return r.startIn(ns, etc, filepath.Join(bin, prog), args...)
}

// startHost runs a program of this machine on a host.
func (r *room) startHost(host int, prog string, args ...string) *program {
	r.t.Helper()
	return r.startIn(r.hosts[host], r.keys, prog, args...)
}

func (r *room) startIn(ns, etc, prog string, args ...string) *program {
	r.t.Helper()
	p := &program{out: &safeBuffer{}, done: make(chan struct{})}
	// ip netns exec replaces itself by the program: the process is the program.
	p.cmd = exec.Command("ip", append([]string{"netns", "exec", ns, prog}, args...)...)
	p.cmd.Env = append(os.Environ(), "KAMETHOD_ETC="+etc, "KAMETHOD_STATE="+filepath.Join(r.dir, "state"))
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = r.dir, p.out, p.out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	go func() { p.cmd.Wait(); close(p.done) }()
	r.t.Cleanup(func() { p.cmd.Process.Kill(); <-p.done })
	return p
}

func (r *room) serve(args ...string) *program {
	r.t.Helper()
	p := r.start(r.name, r.golden, "golden-serve", args...)
	p.expect(r.t, "waiting for nodes")
	r.copyKeys()
	return p
}

// copyKeys does what the manual tells the administrator to do.
func (r *room) copyKeys() {
	r.t.Helper()
	if err := os.MkdirAll(r.keys, 0o755); err != nil {
		r.t.Fatal(err)
	}
	for _, name := range []string{"golden.pub", "join.token"} {
		b, err := os.ReadFile(filepath.Join(r.golden, name))
		if name == "join.token" && errors.Is(err, os.ErrNotExist) {
			continue // golden-serve dolly makes none for karecv
		}
		if err != nil {
			r.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(r.keys, name), b, 0o600); err != nil {
			r.t.Fatal(err)
		}
	}
}

func (r *room) receive(host int, args ...string) *program {
	r.t.Helper()
	return r.start(r.hosts[host], r.keys, "karecv", args...)
}

// expect waits until a program has printed a text.
func (p *program) expect(t *testing.T, text string) {
	t.Helper()
	for end := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if strings.Contains(p.out.String(), text) {
			return
		}
		select {
		case <-p.done:
			if !strings.Contains(p.out.String(), text) {
				t.Fatalf("%s ended without %q:\n%s", p.cmd.Args[4], text, p.out)
			}
			return
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s has not said %q:\n%s", p.cmd.Args[4], text, p.out)
		}
	}
}

// wait gives the exit status.
func (p *program) wait(t *testing.T) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		t.Fatalf("%s does not end:\n%s", p.cmd.Args[4], p.out)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *program) wantExit(t *testing.T, status int) {
	t.Helper()
	if got := p.wait(t); got != status {
		t.Errorf("%s: exit status %d, want %d:\n%s", p.cmd.Args[4], got, status, p.out)
	}
}
