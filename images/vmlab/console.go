package vmlab

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Console is a machine's serial line: everything it printed, as plain text.
type Console struct {
	conn net.Conn

	mu      sync.Mutex
	text    strings.Builder
	parser  escapeParser
	changed chan struct{} // closed and replaced when text grows
	ended   bool
	seen    int // bytes of text that an expectation has consumed
}

func openConsole(ctx context.Context, socket string) (*Console, error) {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, err
	}
	c := &Console{conn: conn, changed: make(chan struct{})}
	go c.read() // ends with the connection
	return c, nil
}

// dialUnix waits for QEMU to make its socket.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var d net.Dialer
	for {
		conn, err := d.DialContext(ctx, "unix", path)
		if err == nil {
			return conn, nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to %s: %w", path, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (c *Console) read() {
	buf := make([]byte, 4096)
	for {
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		c.parser.strip(&c.text, buf[:n])
		c.ended = err != nil
		close(c.changed)
		c.changed = make(chan struct{})
		c.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Text is all that was printed so far.
func (c *Console) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String()
}

// Tail is the last n lines.
func (c *Console) Tail(n int) string { return tail(c.Text(), n) }

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Expect waits for a whole line, after those that earlier calls took, that
// matches re. It gives re's submatches.
func (c *Console) Expect(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	return c.expect(ctx, re, false)
}

// ExpectPrompt also looks at the line that has no end yet, as a prompt has
// none. re should match to the prompt's last character.
func (c *Console) ExpectPrompt(ctx context.Context, re *regexp.Regexp) ([]string, error) {
	return c.expect(ctx, re, true)
}

func (c *Console) expect(ctx context.Context, re *regexp.Regexp, unfinished bool) ([]string, error) {
	for {
		c.mu.Lock()
		m := c.scan(re, unfinished)
		changed, ended := c.changed, c.ended
		c.mu.Unlock()
		switch {
		case m != nil:
			return m, nil
		case ended:
			return nil, fmt.Errorf("expect %q: the console was closed", re)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("expect %q on the console: %w", re, context.Cause(ctx))
		}
	}
}

// scan looks through the lines not yet consumed; c.mu is held.
func (c *Console) scan(re *regexp.Regexp, unfinished bool) []string {
	text := c.text.String()
	for {
		rest := text[c.seen:]
		end := strings.IndexByte(rest, '\n')
		if end < 0 {
			if !unfinished {
				return nil
			}
			m := re.FindStringSubmatchIndex(rest)
			if m == nil {
				return nil
			}
			c.seen += m[1]
			return submatches(rest, m)
		}
		c.seen += end + 1
		if m := re.FindStringSubmatch(rest[:end]); m != nil {
			return m
		}
	}
}

func submatches(s string, m []int) []string {
	var out []string
	for i := 0; i < len(m); i += 2 {
		if m[i] < 0 {
			out = append(out, "")
			continue
		}
		out = append(out, s[m[i]:m[i+1]])
	}
	return out
}

// Send types text.
func (c *Console) Send(text string) error {
	_ = c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second))
	_, err := c.conn.Write([]byte(text))
	return err
}

// escapeParser removes what is for a terminal and not for a reader: ECMA-48
// control sequences and all control characters but the end of a line. It
// keeps its place between reads, as a sequence may be cut in two.
type escapeParser struct{ state int }

const (
	plain = iota
	escape
	sequence
)

func (p *escapeParser) strip(out *strings.Builder, b []byte) {
	for _, ch := range b {
		switch {
		case p.state == sequence:
			if ch >= 0x40 && ch <= 0x7e { // the final byte, ECMA-48 §5.4
				p.state = plain
			}
		case p.state == escape && ch == '[':
			p.state = sequence
		case p.state == escape:
			p.state = plain
		case ch == 0x1b:
			p.state = escape
		case ch == '\n' || ch == '\t' || ch >= 0x20 && ch != 0x7f:
			out.WriteByte(ch)
		}
	}
}
