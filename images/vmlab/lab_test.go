package vmlab

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a lab needs root: it makes network namespaces")
	}
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	needRoot(t)
	l, err := New(t.Context(), Config{Dir: t.TempDir(), Accel: os.Getenv("ACCEL")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat("/run/netns/" + l.Name); !os.IsNotExist(err) {
			t.Errorf("namespace %s is still there", l.Name)
		}
	})
	return l
}

// A machine boots by PXE from Debian's dnsmasq and pxelinux, is told to boot
// from its empty disk, resets because it can't, is held while we look, and
// boots by PXE again. It shows that the lab works where nothing of ours does.
func TestPXEAndReset(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	tftp := filepath.Join(l.Dir, "tftp")
	for from, to := range map[string]string{
		"/usr/lib/PXELINUX/pxelinux.0":                                           "pxelinux.0",
		"/usr/lib/syslinux/modules/bios/ldlinux.c32":                             "ldlinux.c32",
		"SERIAL 0 115200\nDEFAULT l\nLABEL l\nSAY the lab speaks\nLOCALBOOT 0\n": "pxelinux.cfg/default",
	} {
		data := []byte(from)
		if strings.HasPrefix(from, "/") {
			b, err := os.ReadFile(from)
			if err != nil {
				t.Fatal(err)
			}
			data = b
		}
		path := filepath.Join(tftp, to)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	server, err := l.Start(ProcessSpec{Name: "dnsmasq", Args: []string{
		"dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=" + Bridge, "--bind-interfaces",
		"--dhcp-range=10.77.0.100,10.77.0.200,255.255.255.0,1h", "--dhcp-boot=pxelinux.0", "--enable-tftp",
		"--tftp-root=" + tftp, "--log-dhcp", "--log-facility=-", "--dhcp-leasefile=" + filepath.Join(l.Dir, "leases"),
		"--user=root", "--dhcp-authoritative", "--no-ping",
	}})
	if err != nil {
		t.Fatal(err)
	}
	var resets atomic.Int32
	started := time.Now()
	m, err := l.Power(ctx, Spec{
		Name: "node1", MAC: "52:54:00:77:00:01", Memory: 128, Bus: AHCI,
		Disk: filepath.Join(l.Dir, "node1.img"), DiskSize: 16 << 20,
		OnReset: func() { resets.Add(1) },
	})
	if err != nil {
		t.Fatal(err)
	}
	speaks := regexp.MustCompile(`the lab speaks`)
	for boot := range 2 {
		if _, err := m.Console.Expect(ctx, speaks); err != nil {
			log, _ := os.ReadFile(server.Log)
			t.Fatalf("boot %d: %v\nconsole:\n%s\ndnsmasq:\n%s", boot+1, err, m.Console.Tail(40), log)
		}
		t.Logf("boot %d reached pxelinux after %.1f s", boot+1, time.Since(started).Seconds())
	}
	if n := resets.Load(); n != 1 {
		t.Errorf("OnReset was called %d times between two boots, want 1", n)
	}
	// Without an answer to the ROM's router solicitation it takes 13 s more.
	pid := server.Pid()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []int{pid, m.proc.Pid()} {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(p))); err == nil {
			t.Errorf("process %d is still there after Close", p)
		}
	}
}

func TestTwoLabsAtOnce(t *testing.T) {
	a, b := newLab(t), newLab(t)
	if a.Name == b.Name {
		t.Fatalf("two labs are both called %s", a.Name)
	}
	for _, l := range []*Lab{a, b} {
		p, err := l.Start(ProcessSpec{Name: "addr", Args: []string{"ip", "-br", "addr", "show", "dev", Bridge}})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		out, err := os.ReadFile(p.Log)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(out), BridgeAddr.String()) {
			t.Errorf("%s in lab %s has no address %s: %s", Bridge, l.Name, BridgeAddr, out)
		}
	}
}

func TestProcessExitAndInterrupt(t *testing.T) {
	l := newLab(t)
	p, err := l.Start(ProcessSpec{Name: "false", Args: []string{"false"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); err == nil {
		t.Error("exit status 1 was taken for success")
	}
	p, err = l.Start(ProcessSpec{Name: "sleep", Args: []string{"sleep", "600"}})
	if err != nil {
		t.Fatal(err)
	}
	p.Interrupt(5 * time.Second)
	select {
	case <-p.Done():
	default:
		t.Error("sleep goes on after Interrupt")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Start(ProcessSpec{Name: "late", Args: []string{"true"}}); err == nil {
		t.Error("a closed lab started a program")
	}
}

func TestEscapesAreStripped(t *testing.T) {
	var out strings.Builder
	var p escapeParser
	for _, part := range []string{"\x1b[1;", "32mgreen\x1b[0m\r", "\n\x1b", "[2Jlogin: ", "\x07\x1b7x"} {
		p.strip(&out, []byte(part))
	}
	if got, want := out.String(), "green\nlogin: x"; got != want {
		t.Errorf("stripped text %q, want %q", got, want)
	}
}

func TestExpectWaitsForTheWholeLine(t *testing.T) {
	c := &Console{changed: make(chan struct{})}
	feed := func(s string) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.parser.strip(&c.text, []byte(s))
		close(c.changed)
		c.changed = make(chan struct{})
	}
	re := regexp.MustCompile(`err=(.*)`)
	feed("CLONE err=no")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if m, err := c.Expect(ctx, re); err == nil {
		t.Fatalf("half a line matched: %q", m)
	}
	feed(" space\nnode1 login: ")
	m, err := c.Expect(t.Context(), re)
	if err != nil || m[1] != "no space" {
		t.Errorf("got %q, %v; want the whole line", m, err)
	}
	m, err = c.ExpectPrompt(t.Context(), regexp.MustCompile(`(\S+) login: $`))
	if err != nil || m[1] != "node1" {
		t.Errorf("prompt %q, %v; want node1", m, err)
	}
}
