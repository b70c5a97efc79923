package netboot

import (
	"errors"
	"net"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	maxHTTPConns   = 1024 // nodes, and some browsers
	maxHTTPPerAddr = 16   // firmware has one or two, a browser six

	// The kernel lets us write on only when a third of its buffer is free
	// again, and that may be megabytes. With a low mark for what was not sent
	// yet (tcp(7), TCP_NOTSENT_LOWAT) writing goes on as the client does.
	unsentMark = 128 << 10
)

// cappedListener hands out so many connections at once in all and to each
// address. Who is over the cap of his address is cut at once; when all are
// taken, the next waits in the kernel's queue until one is free, which takes
// headerTime at most if they were taken by nobody in earnest.
type cappedListener struct {
	*net.TCPListener
	slots chan struct{} // taken ones

	mu     sync.Mutex
	perIP  map[netip.Addr]int
	closed chan struct{}
	once   sync.Once
}

func newCappedListener(ln *net.TCPListener) *cappedListener {
	return &cappedListener{TCPListener: ln, slots: make(chan struct{}, maxHTTPConns),
		perIP: map[netip.Addr]int{}, closed: make(chan struct{})}
}

// Accept waits for a connection that is within the caps.
func (l *cappedListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	for {
		c, err := l.AcceptTCP()
		if err != nil {
			<-l.slots
			return nil, err
		}
		ip := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if l.take(ip) {
			_ = markUnsent(c) // without it a very slow client is cut, nothing worse
			return &cappedConn{TCPConn: c, release: sync.OnceFunc(func() { l.give(ip) })}, nil
		}
		_ = c.SetLinger(0) // nothing was said: no need to keep the port
		_ = c.Close()
	}
}

func markUnsent(c *net.TCPConn) error {
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var serr error
	err = rc.Control(func(fd uintptr) {
		serr = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, unsentMark)
	})
	return errors.Join(err, serr)
}

func (l *cappedListener) take(ip netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perIP[ip] >= maxHTTPPerAddr {
		return false
	}
	l.perIP[ip]++
	return true
}

func (l *cappedListener) give(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.perIP[ip]--; l.perIP[ip] == 0 {
		delete(l.perIP, ip)
	}
	<-l.slots
}

// Close ends Accept, also one that waits for a free place.
func (l *cappedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.TCPListener.Close()
}

// cappedConn gives its place back when it is closed. It keeps TCPConn's
// ReadFrom, so that files go out by sendfile(2).
type cappedConn struct {
	*net.TCPConn
	release func()
}

func (c *cappedConn) Close() error {
	defer c.release()
	return c.TCPConn.Close()
}
