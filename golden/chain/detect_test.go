package chain

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// wires is two network namespaces and the link between them:
//
//	a 10.79.0.1 ── veth ── 10.79.0.2 b
type wires struct{ a, b string }

func newWires(t *testing.T) wires {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
	w := wires{fmt.Sprintf("kd%d-%da", os.Getpid(), time.Now().UnixNano()%1e6), ""}
	w.b = w.a[:len(w.a)-1] + "b"
	for _, ns := range []string{w.a, w.b} {
		run(t, "ip", "netns", "add", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
	}
	run(t, "ip", "-n", w.a, "link", "add", "v", "type", "veth", "peer", "name", "v", "netns", w.b)
	for i, ns := range []string{w.a, w.b} {
		run(t, "ip", "-n", ns, "addr", "add", fmt.Sprintf("10.79.0.%d/24", i+1), "dev", "v")
		run(t, "ip", "-n", ns, "link", "set", "v", "up")
	}
	return w
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
}

// swallow drops whatever arrives at b.
func (w wires) swallow(t *testing.T) {
	t.Helper()
	run(t, "ip", "netns", "exec", w.b, "nft", "add table ip k; add chain ip k in { type filter hook input priority 0; policy drop; }")
}

// in makes a socket in a namespace; where it was made is where it stays.
func in[T any](ns string, f func() (T, error)) (T, error) {
	type result struct {
		v   T
		err error
	}
	done := make(chan result)
	go func() { // its thread ends with it: it is never unlocked
		runtime.LockOSThread()
		var r result
		fd, err := unix.Open("/var/run/netns/"+ns, unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err == nil {
			defer unix.Close(fd)
			err = unix.Setns(fd, unix.CLONE_NEWNET)
		}
		if r.err = err; err == nil {
			r.v, r.err = f()
		}
		done <- r
	}()
	r := <-done
	return r.v, r.err
}

// pair is an outlet in a that sends to a link in b, which golden would name
// each other.
func (w wires) pair(t *testing.T, wait patience) (*outlet, chan error) {
	t.Helper()
	ln, err := in(w.b, func() (net.Listener, error) { return net.Listen("tcp", "10.79.0.2:0") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	o := &outlet{plain: true, wait: wait}
	o.dial = func(ctx context.Context, addr string) (net.Conn, error) {
		return in(w.a, func() (net.Conn, error) { return dialTCP(ctx, addr) })
	}
	lost := make(chan error, 100)
	o.trouble = func(tr wire.Trouble) { lost <- errors.New(tr.Why) }
	o.pace = func(wire.Hop) {}
	o.init()
	o.setNext(&wire.Peer{ID: 2, Addr: ln.Addr().String(), Epoch: 1})
	go peer(ln)
	done := make(chan struct{})
	go func() { o.run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return o, lost
}

// peer welcomes whoever comes, and reads nothing: a process that hangs.
func peer(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b := make([]byte, wire.HelloSize)
		if _, err := c.Read(b); err == nil {
			c.Write(wire.Welcome{}.Bytes())
		}
	}
}

// fill gives an outlet more than the kernel's buffers take.
func fill(o *outlet, n int) {
	pool := &buffers{}
	for seq := range n {
		f := pool.frame(wire.Header{Kind: wire.PieceFrame, Stored: 1 << 20, True: 1 << 20, Seq: uint64(seq + 1)})
		o.mu.Lock()
		o.ring, o.bytes, o.unsent = append(o.ring, f), o.bytes+f.size(), o.unsent+f.size()
		o.cond.Broadcast()
		o.mu.Unlock()
	}
}

func settled(o *outlet) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conn != nil
}

// Each way of finding a lost neighbour, alone, finds what it is there for, and
// without it that is not found in the same time. The fourth, golden's watch
// over the control connections, is tested in package golden.
func TestEachDetectorAlone(t *testing.T) {
	const never = 0
	for name, c := range map[string]struct {
		only patience
		data int // pieces sent before the fault
		hole bool
		want []string
	}{
		"stalled write: a process that hangs":            {patience{stall: time.Second}, 16, false, []string{"took nothing"}},
		"TCP_USER_TIMEOUT: a cable pulled under a write": {patience{user: 3 * time.Second}, 16, true, []string{syscall.ETIMEDOUT.Error(), "no route", "i/o timeout"}},
		"keepalive: a cable pulled while idle":           {patience{alive: time.Second}, 0, true, []string{"closed the connection", syscall.ETIMEDOUT.Error(), "i/o timeout"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			try := func(wait patience) (string, time.Duration) {
				w := newWires(t)
				o, lost := w.pair(t, wait)
				for end := time.Now().Add(5 * time.Second); !settled(o) && time.Now().Before(end); {
					time.Sleep(10 * time.Millisecond)
				}
				if c.hole && c.data == 0 {
					w.swallow(t)
				}
				fill(o, c.data)
				if c.hole && c.data > 0 {
					time.Sleep(200 * time.Millisecond)
					w.swallow(t)
				}
				begun := time.Now()
				select {
				case err := <-lost:
					return err.Error(), time.Since(begun)
				case <-time.After(8 * time.Second):
					return "", 0
				}
			}
			got, after := try(c.only)
			ok := false
			for _, w := range c.want {
				ok = ok || strings.Contains(got, w)
			}
			if !ok {
				t.Errorf("found %q after %v, want one of %q", got, after, c.want)
			}
			t.Logf("found after %v: %s", after, got)
			if got, after := try(patience{stall: -1, user: never, alive: never}); got != "" {
				t.Errorf("with it switched off something was found after %v: %q: the test shows nothing", after, got)
			}
		})
	}
}
