package images

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
)

// randomFile is n bytes that can't be compressed, with a hole in the middle.
func randomFile(t *testing.T, path string, n int64) [32]byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.Reader, n/2); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(n/2+3<<20, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(f, rand.Reader, n/2-3<<20); err != nil {
		t.Fatal(err)
	}
	return hashFile(t, path)
}

func hashFile(t *testing.T, path string) (sum [32]byte) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return [32]byte(h.Sum(nil))
}

func TestSendFile(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		for _, plain := range []bool{false, true} {
			t.Run(fmt.Sprintf("receivers=%d plain=%v", n, plain), func(t *testing.T) {
				r := newRoom(t, n)
				want := randomFile(t, filepath.Join(r.dir, "big.iso"), 40<<20+12346)
				more := []string{}
				if plain {
					more = append(more, "--plain")
				}
				g := r.serve(append([]string{"send", "-n", fmt.Sprint(n), "-s", "demo", "--report", "report.json", "big.iso"}, more...)...)
				var recv []*program
				for i := range n {
					args := append([]string{"-s", "demo", "--out", fmt.Sprintf("copy%d", i)}, more...)
					if i%2 == 1 { // the others find golden by broadcast
						args = append(args, "-h", "10.78.0.1")
					}
					recv = append(recv, r.receive(i, args...))
				}
				g.wantExit(t, 0)
				for i, p := range recv {
					p.wantExit(t, 0)
					if hashFile(t, filepath.Join(r.dir, fmt.Sprintf("copy%d", i))) != want {
						t.Errorf("receiver %d has other bytes", i)
					}
				}
				checkReport(t, filepath.Join(r.dir, "report.json"), n)
			})
		}
	}
}

func checkReport(t *testing.T, path string, n int) {
	t.Helper()
	var rep struct {
		Nodes []struct {
			State string
			Bytes int64
		}
	}
	b, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(b, &rep)
	}
	if err != nil || len(rep.Nodes) != n {
		t.Fatalf("report: %v: %s", err, b)
	}
	for _, x := range rep.Nodes {
		if x.State != "released" || x.Bytes != 40<<20+12346 {
			t.Errorf("report: %+v", x)
		}
	}
}

// A folder arrives as rsync would have it.
func TestSendFolder(t *testing.T) {
	r := newRoom(t, 2)
	src := filepath.Join(r.dir, "tree")
	for i := range 300 {
		dir := filepath.Join(src, fmt.Sprint(i%7), fmt.Sprint(i%5))
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, i*i)
		rand.Read(b)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%d\n", i)), b, os.FileMode(0o600|i&0o77)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink("../nowhere", filepath.Join(src, "link")),
		os.Link(filepath.Join(src, "0/0/f0\n"), filepath.Join(src, "hard")),
		os.Chown(filepath.Join(src, "hard"), 1234, 70000)); err != nil {
		t.Fatal(err)
	}
	g := r.serve("send", "-n", "2", "tree")
	a := r.receive(0, "--out", "a")
	b := r.receive(1, "--out", "b")
	for _, p := range []*program{g, a, b} {
		p.wantExit(t, 0)
	}
	for _, name := range []string{"a", "b"} {
		out, err := exec.Command("rsync", "-aHAXSni", "--numeric-ids", "--checksum", "--delete", "--modify-window=-1",
			src+"/", filepath.Join(r.dir, name)+"/").CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("rsync finds differences in %s: %v\n%s", name, err, out)
		}
	}
}

func TestSendStandardInput(t *testing.T) {
	r := newRoom(t, 1)
	want := randomFile(t, filepath.Join(r.dir, "in"), 8<<20)
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(filepath.Join(r.dir, "in"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	g := exec.Command("ip", "netns", "exec", r.name, filepath.Join(bin, "golden-serve"), "send", "-n", "1", "-")
	out := &safeBuffer{}
	g.Stdin, g.Stderr, g.Env = in, out, append(os.Environ(), "KAMETHOD_ETC="+r.golden)
	g.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := g.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: g, out: out, done: make(chan struct{})}
	go func() { g.Wait(); close(p.done) }()
	t.Cleanup(func() { g.Process.Kill(); <-p.done })
	p.expect(t, "waiting for nodes")
	r.copyKeys()
	k := r.receive(0, "--out", "copy")
	k.wantExit(t, 0)
	p.wantExit(t, 0)
	if hashFile(t, filepath.Join(r.dir, "copy")) != want {
		t.Error("other bytes")
	}
}

// One of five receivers is killed, or hangs so that only its silence tells, in
// the middle: it is named, the others have every byte.
func TestSendSurvivesAReceiver(t *testing.T) {
	for name, c := range map[string]struct {
		victim int
		signal syscall.Signal
	}{"killed": {2, syscall.SIGKILL}, "hung": {1, syscall.SIGSTOP}} {
		t.Run(name, func(t *testing.T) {
			r := newRoom(t, 5)
			r.limit("200mbit")
			want := randomFile(t, filepath.Join(r.dir, "big"), 60<<20)
			g := r.serve("send", "-n", "5", "big")
			var recv []*program
			for i := range 5 {
				recv = append(recv, r.receive(i, "--out", fmt.Sprintf("copy%d", i)))
			}
			g.expect(t, "phase: sending")
			time.Sleep(700 * time.Millisecond) // of about 2.5 s
			recv[c.victim].cmd.Process.Signal(c.signal)
			g.wantExit(t, 1)
			if !strings.Contains(g.out.String(), "1 of 5 nodes failed") {
				t.Errorf("golden does not say who failed:\n%s", g.out)
			}
			for i, p := range recv {
				if i == c.victim {
					continue
				}
				p.wantExit(t, 0)
				if hashFile(t, filepath.Join(r.dir, fmt.Sprintf("copy%d", i))) != want {
					t.Errorf("receiver %d has other bytes", i)
				}
			}
		})
	}
}

// An interrupt reaches every receiver within 5 s.
func TestSendInterrupted(t *testing.T) {
	r := newRoom(t, 2)
	r.limit("50mbit")
	randomFile(t, filepath.Join(r.dir, "big"), 60<<20)
	g := r.serve("send", "-n", "2", "big")
	a, b := r.receive(0, "--out", "a"), r.receive(1, "--out", "b")
	g.expect(t, "phase: sending")
	time.Sleep(500 * time.Millisecond)
	g.cmd.Process.Signal(syscall.SIGINT)
	begun := time.Now()
	g.wantExit(t, 130)
	a.wantExit(t, 1)
	b.wantExit(t, 1)
	if d := time.Since(begun); d > 5*time.Second {
		t.Errorf("the receivers were idle only after %v", d)
	}
}

func TestSendRefusals(t *testing.T) {
	r := newRoom(t, 2)
	file := filepath.Join(r.dir, "small")
	if err := os.WriteFile(file, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	g := r.serve("send", "-n", "1", "-s", "right", "small")

	foreign := filepath.Join(r.dir, "foreign")
	if _, err := trust.LoadOrCreate(foreign); err != nil {
		t.Fatal(err)
	}
	token, _ := os.ReadFile(filepath.Join(r.keys, "join.token"))
	if err := os.WriteFile(filepath.Join(foreign, "join.token"), token, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, etc string
		args      []string
		want      string
	}{
		{"no key", filepath.Join(r.dir, "nothing"), []string{"-s", "right", "-h", "10.78.0.1"}, "no key"},
		{"foreign key", foreign, []string{"-s", "right", "-h", "10.78.0.1"}, "foreign key"},
		{"wrong token", r.keys, []string{"-s", "right", "-h", "10.78.0.1", "--token", "guess"}, "token is not this session's"},
		{"wrong session", r.keys, []string{"-s", "wrong", "-h", "10.78.0.1"}, `no session "wrong" here`},
		{"nobody there", r.keys, []string{"-s", "wrong", "--wait", "1s"}, "no golden node answers"},
		{"argument", r.keys, []string{"somewhere"}, "unexpected argument"},
	} {
		p := r.start(r.hosts[1], c.etc, "karecv", append(c.args, "--out", "never")...)
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), c.want) {
			t.Errorf("%s: want %q in:\n%s", c.name, c.want, p.out)
		}
	}
	if _, err := os.Stat(filepath.Join(r.dir, "never")); err == nil {
		t.Error("a refused receiver has written something")
	}
	r.ip("-n", r.name, "link", "add", "br1", "type", "bridge")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"send", "-n", "1", "small"}, "address already in use"},
		{[]string{"send", "-n", "1", "--interface", "br1", "small"}, "interface br1 has no IPv4 address"},
		{[]string{"send", "-n", "1", "--interface", "eth7", "small"}, "no interface eth7"},
		{[]string{"send", "small"}, "give -n N"},
		{[]string{"send", "-n", "1", "nothing"}, "nothing: no such file"},
		{[]string{"send", "-n", "2", "--min", "2", "--wait", "1s", "--port", "4000", "small"}, "too few nodes came: 0 of 2 within 1s"},
	} {
		p := r.start(r.name, r.golden, "golden-serve", c.args...)
		p.wantExit(t, 2)
		if !strings.Contains(p.out.String(), c.want) {
			t.Errorf("%v: want %q in:\n%s", c.args, c.want, p.out)
		}
	}
	r.receive(0, "-s", "right", "--out", "got").wantExit(t, 0)
	g.wantExit(t, 0)
}
