package chain

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/trust"
	"github.com/kamethod/kamethod/golden/wire"
)

// How long a neighbour may be silent. A dead process is found at once by its
// reset; these find a dead machine, a pulled cable and a hung process.
const (
	DefaultQuiet  = 4 * time.Second        // a node silent for so long is gone
	dialPatience  = 2 * time.Second        // to connect
	helloPatience = 10 * time.Second       // to shake hands and be welcomed, or twice the quiet
	userTimeout   = 10 * time.Second       // data that nobody acknowledges, or twice the quiet
	redialPause   = 150 * time.Millisecond // before the same neighbour is tried again
	redials       = 2                      // before golden is told that it is lost
	writeChunk    = 256 << 10              // bytes given to the kernel at a time, to see progress in
)

// patience is what finds a neighbour that went away. Each finds something
// that the others don't, or not as soon; 0 switches one off.
type patience struct {
	stall time.Duration // it takes nothing, though its machine acknowledges: a hung process
	user  time.Duration // TCP_USER_TIMEOUT (tcp(7)): it acknowledges nothing that is sent
	alive time.Duration // keepalive (tcp(7)): it went away while there was nothing to send
}

func (p *patience) fill(quiet time.Duration) {
	if *p == (patience{}) {
		*p = patience{stall: quiet / 2, user: max(userTimeout, 2*quiet), alive: 2 * time.Second}
	}
}

// Dialer connects to a neighbour; tests put faults in here.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialPatience, KeepAlive: -1}
	return d.DialContext(ctx, "tcp", addr)
}

// tune sets the time-outs of a TCP connection. A dead peer is found after the
// keepalive's idle time and three probes, one a second.
func tune(c net.Conn, wait patience) {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return
	}
	t.SetNoDelay(true)
	t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: wait.alive > 0, Idle: wait.alive, Interval: time.Second, Count: 3})
	raw, err := t.SyscallConn()
	if err != nil || wait.user <= 0 {
		return
	}
	raw.Control(func(fd uintptr) {
		unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(wait.user.Milliseconds()))
	})
}

// metered counts what the kernel took, so that a stalled write is seen.
type metered struct {
	net.Conn
	moved atomic.Int64
}

func (m *metered) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		n, err := m.Conn.Write(b[done:min(len(b), done+writeChunk)])
		done += n
		m.moved.Add(int64(n))
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// errRefused is a neighbour that answered and did not want us.
var errRefused = errors.New("refused the hop: it was told of another neighbour")

// connect dials a neighbour, shows and checks keys, and says hello. It
// returns what to write frames to, the connection under it to watch and
// close, and the last frame that the neighbour has.
func (o *outlet) connect(ctx context.Context, hello wire.Hello, p wire.Peer) (net.Conn, *metered, uint64, error) {
	raw, err := o.dial(ctx, p.Addr)
	if err != nil {
		return nil, nil, 0, err
	}
	tune(raw, o.wait)
	m := &metered{Conn: raw}
	var c net.Conn = m
	if !o.plain {
		c = tls.Client(m, trust.ClientConfig(o.identity, p.Pin))
	}
	raw.SetDeadline(time.Now().Add(max(helloPatience, 2*o.quiet)))
	last, err := greet(c, hello)
	if err != nil {
		raw.Close()
		return nil, nil, 0, fmt.Errorf("say hello to %s: %w", p.Addr, err)
	}
	raw.SetDeadline(time.Time{})
	return c, m, last, nil
}

func greet(c net.Conn, hello wire.Hello) (uint64, error) {
	if _, err := c.Write(hello.Bytes()); err != nil {
		return 0, err
	}
	b := make([]byte, wire.WelcomeSize)
	if _, err := io.ReadFull(c, b); err != nil {
		return 0, err
	}
	w, err := wire.ParseWelcome(b)
	if err == nil && w.Refused {
		err = errRefused
	}
	return w.LastSeq, err
}
