package nodelog

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jlaffaye/ftp"
)

// Times of an FTP server.
const (
	ftpDial   = 10 * time.Second
	ftpLimit  = 30 * time.Second // for a log, all in all
	ftpTries  = 3
	ftpPause  = 2 * time.Second // between tries
	ftpSettle = time.Second     // for a node's last words
	ftpQueue  = 4096
)

// FTP is a server that gets each node's log at its end, as store_log.sh had
// it.
type FTP struct {
	addr, user, password, dir string
}

// ParseFTP reads ftp://[USER[:PASSWORD]@]HOST[:PORT][/DIR]. No error has the
// password in it.
func ParseFTP(s, password string) (*FTP, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("this is no URL; want ftp://[USER[:PASSWORD]@]HOST[:PORT][/DIR]")
	}
	if u.Scheme != "ftp" || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("want ftp://[USER[:PASSWORD]@]HOST[:PORT][/DIR]")
	}
	f := &FTP{addr: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "21")), user: "anonymous", password: "kamethod@"}
	if u.User != nil {
		f.user, f.password = u.User.Username(), password
		if own, ok := u.User.Password(); ok {
			f.password = own
		}
	}
	f.dir = strings.TrimPrefix(u.Path, "/")
	if strings.ContainsAny(f.user+f.password+f.dir, "\r\n\x00") {
		return nil, errors.New("a line end in the URL")
	}
	return f, nil
}

// store puts a file on the server. Whatever the server does, it comes back
// within the limit.
func (f *FTP) store(ctx context.Context, name string, b []byte) error {
	ctx, cancel := context.WithTimeout(ctx, ftpLimit)
	defer cancel()
	end, _ := ctx.Deadline()
	dial := func(network, address string) (net.Conn, error) {
		c, err := (&net.Dialer{Timeout: ftpDial}).DialContext(ctx, network, address)
		if err == nil {
			context.AfterFunc(ctx, func() { c.Close() })
			err = c.SetDeadline(end)
		}
		return c, err
	}
	c, err := ftp.Dial(f.addr, ftp.DialWithDialFunc(dial))
	if err != nil {
		return fmt.Errorf("reach %s: %w", f.addr, err)
	}
	defer c.Quit() // the file is there by then
	if err := c.Login(f.user, f.password); err != nil {
		return fmt.Errorf("log in to %s as %s: %w", f.addr, f.user, err)
	}
	if f.dir != "" {
		if err := c.ChangeDir(f.dir); err != nil {
			if merr := c.MakeDir(f.dir); merr != nil {
				return fmt.Errorf("change to %s on %s: %w", f.dir, f.addr, err)
			}
			if err := c.ChangeDir(f.dir); err != nil {
				return fmt.Errorf("change to %s on %s: %w", f.dir, f.addr, err)
			}
		}
	}
	if err := c.Stor(name, bytes.NewReader(b)); err != nil {
		return fmt.Errorf("store %s on %s: %w", name, f.addr, err)
	}
	return nil
}

// shipper sends logs one after the other.
type shipper struct {
	f     *FTP
	read  func(context.Context, Who) ([]byte, error)
	log   *slog.Logger
	queue chan Who
	ctx   context.Context
	stop  context.CancelFunc
	quick chan struct{} // closed: nothing more will be said
	task  sync.WaitGroup
	names map[string]int // who has a name

	skipped int // at the end
}

func newShipper(f *FTP, read func(context.Context, Who) ([]byte, error), log *slog.Logger) *shipper {
	s := &shipper{f: f, read: read, log: log, queue: make(chan Who, ftpQueue), quick: make(chan struct{}), names: map[string]int{}}
	s.ctx, s.stop = context.WithCancel(context.Background())
	s.task.Go(s.run) // ends with close
	return s
}

func (s *shipper) want(w Who) {
	select {
	case s.queue <- w:
	default:
		s.log.Warn("a node's log isn't sent to the FTP server: it can't keep up", "node", w.Number)
	}
}

func (s *shipper) run() {
	for {
		select {
		case w := <-s.queue:
			s.pause(ftpSettle)
			s.send(w)
		case <-s.quick:
			for {
				select {
				case w := <-s.queue:
					s.send(w)
				default:
					return
				}
			}
		}
	}
}

func (s *shipper) pause(d time.Duration) {
	select {
	case <-s.quick:
	case <-s.ctx.Done():
	case <-time.After(d):
	}
}

func (s *shipper) send(w Who) {
	if s.ctx.Err() != nil {
		s.skipped++
		return
	}
	b, err := s.read(s.ctx, w)
	name := s.name(w)
	for try := 1; err == nil; try++ {
		if err = s.f.store(s.ctx, name, b); err == nil {
			s.log.Info("a node's log is on the FTP server", "node", w.Number, "file", name, "server", s.f.addr)
			return
		}
		if try < ftpTries && s.ctx.Err() == nil {
			err = nil
			s.pause(ftpPause)
		}
	}
	s.log.Warn("a node's log isn't on the FTP server", "node", w.Number, "err", err)
}

// name is what ka_replication.sh called it: ka_log-10.0.1.111-20100507-10h32.
// Another node of the same address and minute has its number behind.
func (s *shipper) name(w Who) string {
	addr := w.Addr
	if ip := net.ParseIP(addr); ip == nil {
		addr = fmt.Sprintf("node%d", w.Number)
	}
	name := fmt.Sprintf("ka_log-%s-%s", strings.ReplaceAll(addr, ":", "."), w.Arrived.Local().Format("20060102-15h04"))
	if other, taken := s.names[name]; taken && other != w.Number {
		return fmt.Sprintf("%s-node%d", name, w.Number)
	}
	s.names[name] = w.Number
	return name
}

// close sends what waits, for as long as ctx lasts.
func (s *shipper) close(ctx context.Context) {
	close(s.quick)
	stop := context.AfterFunc(ctx, s.stop)
	defer stop()
	s.task.Wait()
	s.stop()
	if s.skipped > 0 {
		s.log.Warn("there was no time left to send all logs to the FTP server", "logs", s.skipped)
	}
}
