package images

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// gate holds every reading of some files until it is let through: fanotify(7).
// A program stands still at a place that is known, however slow the machine.
type gate struct {
	t    *testing.T
	fd   int
	held []int32 // files of the readings that wait
}

func newGate(t *testing.T, files ...string) *gate {
	t.Helper()
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_CONTENT|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if err != nil {
		t.Skipf("needs fanotify, as root: %v", err)
	}
	g := &gate{t: t, fd: fd}
	t.Cleanup(g.open)
	for _, f := range files {
		err := unix.FanotifyMark(fd, unix.FAN_MARK_ADD, unix.FAN_ACCESS_PERM, unix.AT_FDCWD, f)
		if errors.Is(err, unix.EINVAL) {
			t.Skip("needs a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS")
		}
		if err != nil {
			t.Fatalf("watch %s: %v", f, err)
		}
	}
	return g
}

// open lets everything through from now on.
func (g *gate) open() {
	if g.fd >= 0 {
		g.pass(len(g.held))
		unix.Close(g.fd)
	}
	g.fd = -1
}

// wait takes the readings that have come since, and waits so long for the first.
func (g *gate) wait(most time.Duration) {
	g.t.Helper()
	for end := time.Now().Add(most); len(g.held) == 0; {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(g.fd), Events: unix.POLLIN}}, 100)
		if err != nil && !errors.Is(err, unix.EINTR) {
			g.t.Fatalf("wait for a reading: %v", err)
		}
		if n > 0 {
			g.take()
		}
		if time.Now().After(end) {
			return
		}
	}
}

func (g *gate) take() {
	g.t.Helper()
	b := make([]byte, 4096)
	n, err := unix.Read(g.fd, b)
	if err != nil {
		g.t.Fatalf("take a reading: %v", err)
	}
	for r := bytes.NewReader(b[:n]); r.Len() > 0; {
		var m unix.FanotifyEventMetadata
		if err := binary.Read(r, binary.NativeEndian, &m); err != nil || m.Mask&unix.FAN_ACCESS_PERM == 0 {
			g.t.Fatalf("a reading: %+v, %v", m, err)
		}
		g.held = append(g.held, m.Fd)
	}
}

// pass lets through the first n that wait.
func (g *gate) pass(n int) {
	for _, fd := range g.held[:n] {
		var b bytes.Buffer
		binary.Write(&b, binary.NativeEndian, unix.FanotifyResponse{Fd: fd, Response: unix.FAN_ALLOW})
		unix.Write(g.fd, b.Bytes()) // whoever has read may be dead by now
		unix.Close(int(fd))
	}
	g.held = g.held[n:]
}

// count lets n readings of a program through, and holds the next one.
func (g *gate) count(p *program, n int) {
	g.t.Helper()
	for end := time.Now().Add(2 * time.Minute); ; n-- {
		for len(g.held) == 0 {
			select {
			case <-p.done:
				g.t.Fatalf("it ended %d readings too early:\n%s", n, p.out)
			default:
			}
			if g.wait(time.Second); time.Now().After(end) {
				g.t.Fatalf("%d readings haven't come within 2 minutes:\n%s", n, p.out)
			}
		}
		if n == 0 {
			return
		}
		g.pass(1)
	}
}

// trickle lets readings through one by one, until the program has ended.
func (g *gate) trickle(p *program) {
	g.t.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); {
		select {
		case <-p.done:
			g.open()
			return
		default:
		}
		if g.wait(time.Second); len(g.held) > 0 {
			g.pass(1)
			time.Sleep(200 * time.Millisecond)
		}
	}
	g.t.Fatalf("it doesn't end:\n%s", p.out)
}
