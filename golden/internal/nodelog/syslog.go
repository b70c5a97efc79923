package nodelog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Of syslog (RFC 5424; over TCP with RFC 6587, section 3.4.1). The standard
// library's log/syslog speaks the older protocol, and for this host only.
const (
	facility      = 16 // local0
	maxMessage    = 2048
	maxHostname   = 255
	syslogLimit   = 5 * time.Second // for a connection, and for a line
	syslogRetry   = 5 * time.Second
	syslogQueue   = 4096
	syslogPort    = "514"
	syslogStamp   = "2006-01-02T15:04:05.000000Z"
	severityInfo  = 6
	severityWarn  = 4
	severityError = 3
)

// Syslog is a server that gets each line, with the node as the host.
type Syslog struct {
	network, addr string
}

// ParseSyslog reads HOST[:PORT], udp://HOST[:PORT] or tcp://HOST[:PORT].
func ParseSyslog(s string) (*Syslog, error) {
	text := s
	if !strings.Contains(text, "://") {
		text = "udp://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "udp" && u.Scheme != "tcp" || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return nil, fmt.Errorf("%q: want HOST[:PORT], or tcp://HOST[:PORT]", s)
	}
	return &Syslog{network: u.Scheme, addr: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), syslogPort))}, nil
}

// message is a line as the protocol has it.
func message(w Who, level slog.Level, at time.Time, line string) string {
	severity := severityInfo
	switch {
	case level >= slog.LevelError:
		severity = severityError
	case level >= slog.LevelWarn:
		severity = severityWarn
	}
	m := fmt.Sprintf("<%d>1 %s %s kamethod %d - - %s", facility*8+severity, at.UTC().Format(syslogStamp), hostname(w), w.Number, line)
	return strings.ToValidUTF8(m[:min(len(m), maxMessage)], "")
}

// hostname is printable ASCII without blanks.
func hostname(w Who) string {
	name := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, w.Name)
	return cmp.Or(name[:min(len(name), maxHostname)], fmt.Sprintf("node%d", w.Number))
}

// poster sends lines in the background; what the server doesn't take is lost,
// and counted.
type poster struct {
	s     *Syslog
	log   *slog.Logger
	queue chan string
	ctx   context.Context
	stop  context.CancelFunc
	done  chan struct{}
	once  sync.Once
	task  sync.WaitGroup

	lost atomic.Int64 // lines

	conn   net.Conn
	tried  time.Time
	warned bool
}

func newPoster(s *Syslog, log *slog.Logger) *poster {
	p := &poster{s: s, log: log, queue: make(chan string, syslogQueue), done: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.task.Go(p.run) // ends with close
	return p
}

func (p *poster) put(w Who, level slog.Level, at time.Time, line string) {
	if p == nil {
		return
	}
	select {
	case p.queue <- message(w, level, at, line):
	default: // the server is slower than the nodes: their files have it all
		p.lost.Add(1)
	}
}

func (p *poster) run() {
	defer func() {
		if p.conn != nil {
			p.conn.Close()
		}
	}()
	for {
		select {
		case m := <-p.queue:
			p.send(m)
		case <-p.done:
			for {
				select {
				case m := <-p.queue:
					p.send(m)
				default:
					return
				}
			}
		}
	}
}

func (p *poster) send(m string) {
	err := p.write(m)
	if err != nil && p.conn != nil { // perhaps the server was started anew
		p.conn.Close()
		p.conn = nil
		err = p.write(m)
	}
	if err == nil {
		return
	}
	if !p.warned {
		p.warned = true
		p.log.Warn("lines of nodes are lost for the syslog server", "server", p.s.addr, "err", err)
	}
	p.lost.Add(1)
}

var errResting = errors.New("it could not be reached a moment ago")

func (p *poster) write(m string) error {
	if p.conn == nil {
		if time.Since(p.tried) < syslogRetry || p.ctx.Err() != nil {
			return errResting
		}
		c, err := (&net.Dialer{Timeout: syslogLimit}).DialContext(p.ctx, p.s.network, p.s.addr)
		if err != nil {
			p.tried = time.Now()
			return err
		}
		context.AfterFunc(p.ctx, func() { c.Close() })
		p.conn = c
	}
	if p.s.network == "tcp" {
		m = fmt.Sprintf("%d %s", len(m), m)
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(syslogLimit)); err != nil {
		return err
	}
	_, err := p.conn.Write([]byte(m))
	return err
}

// close sends what waits, for as long as ctx lasts.
func (p *poster) close(ctx context.Context) {
	if p == nil {
		return
	}
	p.once.Do(func() { close(p.done) })
	stop := context.AfterFunc(ctx, p.stop)
	defer stop()
	p.task.Wait()
	p.stop()
	if n := p.lost.Load(); n > 0 {
		p.log.Warn("lines of nodes were lost for the syslog server", "lines", n)
	}
}
