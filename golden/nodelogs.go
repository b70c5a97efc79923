package golden

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/internal/nodelog"
	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// Logs says where what nodes say is kept, beside golden's own log.
type Logs struct {
	Dir    string // the state folder; empty: nowhere
	FTP    *nodelog.FTP
	Syslog *nodelog.Syslog
}

// LogLine is what a node has said.
type LogLine = nodelog.Line

// ErrNoLogs is wrapped where a session has left none.
var ErrNoLogs = nodelog.ErrNone

// ParseLogFTP reads ftp://[USER[:PASSWORD]@]HOST[:PORT][/DIR]; password is for
// a user without one there. No error has the password in it.
func ParseLogFTP(s, password string) (*nodelog.FTP, error) { return nodelog.ParseFTP(s, password) }

// ParseLogSyslog reads HOST[:PORT] or tcp://HOST[:PORT].
func ParseLogSyslog(s string) (*nodelog.Syslog, error) { return nodelog.ParseSyslog(s) }

func logsDir(state string) string { return filepath.Join(state, "logs") }

// closeLogs is how long the end of a session may wait for an FTP server.
const closeLogs = time.Minute

// openLogs begins to keep the nodes' lines; a session that is taken up again
// goes on where it was.
func (d *deployment) openLogs() *nodelog.Keeper {
	c := nodelog.Config{Session: d.Session, Begun: d.begun, FTP: d.Logs.FTP, Syslog: d.Logs.Syslog, Log: d.Log}
	if at, err := time.Parse(runForm, d.Book.run()); err == nil && !at.IsZero() {
		c.Begun = at
	}
	if d.Logs.Dir != "" {
		c.Dir = logsDir(d.Logs.Dir)
	}
	return nodelog.Open(c)
}

func (d *deployment) closeLogs() {
	ctx, cancel := context.WithTimeout(context.Background(), closeLogs)
	defer cancel()
	d.logs.Close(ctx)
}

// who is a node for its log; the lock is held.
func (d *deployment) who(n *Node) nodelog.Who {
	return nodelog.Who{Number: n.Number, MAC: n.MAC, Name: d.nameOf(n), Addr: host(n.Addr), Arrived: n.arrived}
}

// note keeps lines about a node; the lock is held.
func (d *deployment) note(n *Node, level slog.Level, lines ...string) {
	d.logs.Add(d.who(n), level, lines...)
}

// noteReport keeps what a node reports; the lock is held.
func (d *deployment) noteReport(n *Node, r wire.Report) {
	d.note(n, slog.LevelInfo, r.Lines...)
	if r.State != "" {
		d.note(n, slog.LevelInfo, "state: "+printable(r.State))
	}
	if f := r.Fault; f != nil {
		d.note(n, slog.LevelError, "failed: "+f.Stage+": "+f.Cause)
	}
	if r.Done != nil {
		for _, s := range r.Done.Notes {
			d.note(n, slog.LevelInfo, "note: "+s)
		}
		d.note(n, slog.LevelInfo, "state: "+string(status.Done))
	}
	if r.Fault != nil || r.Done != nil {
		d.logs.End(d.who(n))
	}
}

// said keeps what is on a node's console.
func (d *deployment) said(n *Node, lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.note(n, slog.LevelInfo, lines...)
}

// ReadLogs gives what the nodes of the latest run of a session said; node is a
// number, node3, its address or that of its network card, and empty for all. With
// follow it goes on until the context or the session ends.
func ReadLogs(ctx context.Context, dir, session, node string, follow bool, told func(LogLine) error) error {
	if ip, err := netip.ParseAddr(node); err == nil {
		if node, err = byAddress(ctx, dir, session, ip); err != nil {
			return err
		}
	}
	choose, err := chooser(node)
	if err != nil {
		return err
	}
	var going func() bool
	if follow {
		going = func() bool { _, err := Control(dir, session); return err == nil }
	}
	return nodelog.Read(ctx, logsDir(dir), session, choose, going, told)
}

// hereForm is the line that arrived writes; so golden knows a node by its
// address, also when the session is over.
var hereForm = regexp.MustCompile(`^node ([0-9]+) is here in [^,]*, address ([^ ,]+),`)

func byAddress(ctx context.Context, dir, session string, ip netip.Addr) (node string, err error) {
	err = nodelog.Read(ctx, logsDir(dir), session, nil, nil, func(l LogLine) error {
		m := hereForm.FindStringSubmatch(l.Text)
		if m != nil && m[1] == strconv.Itoa(l.Node) && m[2] == ip.String() {
			node = m[1]
		}
		return nil
	})
	if err == nil && node == "" {
		err = fmt.Errorf("session %q: %w of a node with the address %s", session, ErrNoLogs, ip)
	}
	return node, err
}

func chooser(node string) (func(int, string) bool, error) {
	if node == "" || node == AllNodes {
		return nil, nil
	}
	if mac, err := roster.ParseMAC(node); err == nil {
		return func(_ int, s string) bool {
			own, err := roster.ParseMAC(s)
			return err == nil && own == mac
		}, nil
	}
	number, err := strconv.Atoi(cmp.Or(strings.TrimPrefix(node, "node"), "x"))
	if err != nil || number < 1 {
		return nil, errors.New("which node? want its number, node3, its address or that of its network card")
	}
	return func(n int, _ string) bool { return n == number }, nil
}
