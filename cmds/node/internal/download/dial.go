package download

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// dialLimit is for one connection to come about.
const dialLimit = 10 * time.Second

// idleConn ends what stands still: each read and write has a time limit of its
// own.
type idleConn struct {
	net.Conn
	stall time.Duration
	stop  func() bool
}

func (c *idleConn) Read(b []byte) (int, error) {
	c.SetReadDeadline(time.Now().Add(c.stall))
	n, err := c.Conn.Read(b)
	return n, c.say(err)
}

func (c *idleConn) Write(b []byte) (int, error) {
	c.SetWriteDeadline(time.Now().Add(c.stall))
	n, err := c.Conn.Write(b)
	return n, c.say(err)
}

func (c *idleConn) Close() error {
	c.stop()
	return c.Conn.Close()
}

func (c *idleConn) say(err error) error {
	if ne, ok := errors.AsType[net.Error](err); ok && ne.Timeout() {
		return fmt.Errorf("%s says nothing for %s: %w", c.RemoteAddr(), c.stall, err)
	}
	return err
}

// dial connects for as long as ctx lasts.
func dial(ctx context.Context, address string, stall time.Duration) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: min(dialLimit, stall)}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &idleConn{Conn: conn, stall: stall}
	c.stop = context.AfterFunc(ctx, func() { conn.Close() })
	return c, nil
}

// hostPort splits HOST, HOST:PORT, an IPv6 address, or [IPv6]:PORT.
func hostPort(server string, port int) (host, p string) {
	if h, p, err := net.SplitHostPort(server); err == nil {
		return h, p
	}
	return strings.Trim(server, "[]"), strconv.Itoa(port)
}
