// Package nodelog keeps what the nodes of a session say: a file for each on
// golden's disk, and besides, where the administrator wants it, a file on an
// FTP server and lines for a syslog server. It doesn't decide what is worth a
// line, and no trouble of its own is anybody else's.
//
//	node's line ─▶ Keeper ─┬─▶ queue ─▶ logs/SESSION/BEGUN/node3-525400123456.log
//	                       ├─▶ queue ─▶ syslog (RFC 5424)
//	node's end  ─▶ Keeper ─┴─▶ queue ─▶ FTP: ka_log-10.0.1.111-20100507-10h32
package nodelog

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds.
const (
	maxFile  = 1 << 20 // bytes of a node's log; as much is kept of what was before
	keepRuns = 7       // of a session
	maxLine  = 8 << 10
)

// runForm names the folder of a run, by its beginning.
const runForm = "20060102T150405Z"

// stampForm is the time before a line.
const stampForm = "2006-01-02T15:04:05.000Z"

// Who is the node of a line.
type Who struct {
	Number  int
	MAC     string // of the card that booted; may be anything
	Name    string // for a syslog server
	Addr    string
	Arrived time.Time
}

// Config says where the lines go.
type Config struct {
	Dir     string // empty: nowhere on this disk
	Session string
	Begun   time.Time
	FTP     *FTP    // nil: none
	Syslog  *Syslog // nil: none
	Log     *slog.Logger
}

// Keeper keeps the logs of a session's nodes. Nil keeps nothing.
type Keeper struct {
	c    Config
	disk *disk // nil: nowhere
	ship *shipper
	post *poster
	once sync.Once
}

// Open makes a keeper, and forgets runs of long ago.
func Open(c Config) *Keeper {
	k := &Keeper{c: c}
	if c.Dir != "" {
		k.disk = openDisk(c)
	}
	if c.Syslog != nil {
		k.post = newPoster(c.Syslog, c.Log)
	}
	if c.FTP != nil {
		k.ship = newShipper(c.FTP, k.read, c.Log)
	}
	return k
}

// sessionDir is where the logs of a session are. Whatever it is called, it is
// one name there.
func sessionDir(dir, session string) string {
	for _, c := range session {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return filepath.Join(dir, "x"+hex.EncodeToString([]byte(session)))
		}
	}
	return filepath.Join(dir, cmp.Or(session, "x"))
}

// openDisk makes the folder of a run.
func openDisk(c Config) *disk {
	session := sessionDir(c.Dir, c.Session)
	dir := filepath.Join(session, c.Begun.UTC().Format(runForm))
	err := os.MkdirAll(dir, 0o700)
	err = errors.Join(err, forget(session))
	d := newDisk(dir, c.Log)
	if err != nil {
		d.warn(err)
	}
	go d.run() // ends with close
	return d
}

// forget removes all runs but the last ones.
func forget(session string) error {
	runs, err := runsOf(session)
	if err != nil {
		return err
	}
	for _, run := range runs[:max(0, len(runs)-keepRuns)] {
		err = errors.Join(err, os.RemoveAll(filepath.Join(session, run)))
	}
	return err
}

// runsOf lists the runs in a session's folder, the oldest first.
func runsOf(session string) ([]string, error) {
	list, err := os.ReadDir(session)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var out []string
	for _, e := range list {
		if _, err := time.Parse(runForm, e.Name()); err == nil && e.IsDir() {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, err
}

// fileName is a node's: of its number and its card, if that is one.
func fileName(w Who) string {
	name := fmt.Sprintf("node%d", w.Number)
	if mac, err := net.ParseMAC(w.MAC); err == nil {
		name += "-" + hex.EncodeToString(mac)
	}
	return name + ".log"
}

// Add keeps lines of a node. They are one line each, whatever is in them. It
// doesn't wait: they are on the disk a little later, and all of them when Close
// returns.
func (k *Keeper) Add(w Who, level slog.Level, lines ...string) {
	if k == nil || len(lines) == 0 {
		return
	}
	now := time.Now()
	var b strings.Builder
	for _, line := range lines {
		line = oneLine(line)
		fmt.Fprintf(&b, "%s %s\n", now.UTC().Format(stampForm), line)
		k.post.put(w, level, now, line)
	}
	if k.disk != nil {
		k.disk.put(fileName(w), b.String(), len(lines))
	}
}

func oneLine(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s[:min(len(s), maxLine)])
	return strings.ToValidUTF8(s, "?")
}

// appendTo adds to a file, which is set aside when it has become long.
func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	st, err := f.Stat()
	if err != nil || st.Size() < maxFile {
		return err
	}
	return os.Rename(path, path+".1")
}

// End has a node's log sent away: it is done, or has failed. It doesn't wait.
func (k *Keeper) End(w Who) {
	if k != nil && k.ship != nil {
		k.ship.want(w)
	}
}

// Close writes and sends what is still to be, for as long as ctx lasts at most.
func (k *Keeper) Close(ctx context.Context) {
	if k != nil {
		k.once.Do(func() { k.close(ctx) })
	}
}

func (k *Keeper) close(ctx context.Context) {
	var post sync.WaitGroup
	post.Go(func() { k.post.close(ctx) }) // ends with ctx
	defer post.Wait()
	if k.ship != nil {
		k.ship.close(ctx) // it reads what is on the disk
	}
	if k.disk != nil {
		k.disk.close(ctx)
	}
}

// read is a node's whole log, with all that was added until now.
func (k *Keeper) read(ctx context.Context, w Who) ([]byte, error) {
	if k.disk == nil {
		return nil, errors.New("logs aren't kept on this disk")
	}
	type result struct {
		b   []byte
		err error
	}
	got := make(chan result, 1)
	err := k.disk.wait(ctx, func() {
		b, err := readBoth(filepath.Join(k.disk.dir, fileName(w)))
		got <- result{b, err}
	})
	if err != nil {
		return nil, err
	}
	r := <-got
	return r.b, r.err
}

// readBoth reads a log, and before it what was set aside.
func readBoth(path string) ([]byte, error) {
	var out []byte
	for _, name := range []string{path + ".1", path} {
		b, err := readAtMost(name, 2*maxFile)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		out = append(out, b...)
	}
	return out, nil
}

func readAtMost(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return b, nil
}
