package golden

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/google/renameio/v2"
	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// Book is what golden writes down of a session, so that golden can be started
// again in the middle of it: who takes part, whose disks may be erased, who
// is done. It is removed when the session ends. The zero Book is kept in
// memory only.
type Book struct {
	path    string
	lock    *os.File
	earlier map[string]bookNode // of the run before; nil: there was none
	began   bool                // and that one had started
	spent   map[string]bookNode // done or failed in a run that was broken off and isn't gone on with
	anew    bool                // there was such a run

	mu   sync.Mutex
	page page

	disk    sync.Mutex // taken first: who waits for the disk holds only it
	removed bool
	written []byte
	wrote   time.Time
}

// page is the file.
type page struct {
	Session string              `json:"session"`
	Source  string              `json:"source"` // its digest
	Token   string              `json:"token"`
	Control string              `json:"control,omitempty"` // address of the control server
	Begun   time.Time           `json:"begun"`
	Started bool                `json:"started"` // the nodes were there, and it went on
	Nodes   map[string]bookNode `json:"nodes"`   // by machine
}

type bookNode struct {
	Number    int          `json:"number"`
	MAC       string       `json:"mac,omitempty"`
	Confirmed string       `json:"confirmed,omitempty"` // these disks of it may be erased
	State     status.State `json:"state"`
	Lost      bool         `json:"lost,omitempty"` // failed, for it was not heard any more: it may come back
}

// A session is taken up again only within maxAway of golden's end: by then its
// nodes have given up. alsoWrite is how often the record's time is renewed.
const (
	maxAway   = 15 * time.Minute
	alsoWrite = time.Minute
)

// maxBook bounds what is read: 4096 nodes have a megabyte.
const maxBook = 16 << 20

// bookPath is where the book of a session is. A name that isn't one word is
// refused before; a slash in it must not lead elsewhere all the same.
func bookPath(dir, session string) string {
	return filepath.Join(dir, "sessions", hexUnlessWord(session)+".json")
}

func hexUnlessWord(s string) string {
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
			return "x" + hex.EncodeToString([]byte(s))
		}
	}
	return s
}

// OpenBook takes up the book of a session that was broken off, or begins one.
// source names what is sent; a book about something else is set aside, and so
// is an old one: who was done or had failed stays so all the same, for it may
// boot from the network once more, and its disk isn't to be erased by accident.
func OpenBook(dir, session, source string, fresh bool, log *slog.Logger) (*Book, error) {
	b := &Book{path: bookPath(dir, session)}
	free, err := b.takeLock()
	if err != nil {
		log.Warn("golden can't be started again in this session", "err", err)
		return &Book{}, nil
	}
	if !free {
		log.Info("another golden-serve has a session of this name; this one can't be resumed")
		return &Book{}, nil
	}
	b.page = page{Session: session, Source: source, Begun: time.Now().UTC(), Nodes: map[string]bookNode{}}
	old, err := readBook(b.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return b, nil
	case err != nil:
		log.Warn("the record of an earlier session of this name is of no use; beginning anew", "err", err)
		if !fresh {
			b.sameRun(log)
		}
		return b, b.replace(log)
	case fresh:
		log.Info("an earlier session of this name is forgotten", "begun", old.Begun.Local().Format(time.DateTime))
		return b, nil
	case time.Since(b.modified()) > maxAway:
		log.Info("an earlier session of this name ended too long ago to be taken up", "begun", old.Begun.Local().Format(time.DateTime))
		return b, b.beginAnew(old, log)
	case old.over():
		b.lock.Close()
		return nil, fmt.Errorf("the session %q has ended a moment ago, and its %d machines are done; --fresh begins another one of this name", session, len(old.Nodes))
	case old.Source != source || old.Session != session:
		log.Warn("an earlier session of this name sent something else, or it has changed since; beginning anew", "begun", old.Begun.Local().Format(time.DateTime))
		return b, b.beginAnew(old, log)
	}
	b.page, b.earlier, b.began = old, old.Nodes, old.Started
	b.page.Nodes = map[string]bookNode{}
	for k, n := range old.Nodes {
		n.Confirmed = "" // what has come anew since then is asked for anew
		b.page.Nodes[k] = n
	}
	log.Info(fmt.Sprintf("resuming session %s begun at %s: %d nodes known", session, old.Begun.Local().Format(time.DateTime), len(old.Nodes)))
	return b, nil
}

// takeLock keeps a second golden-serve from the book, for as long as this
// process lives.
func (b *Book) takeLock() (free bool, err error) {
	if err := os.MkdirAll(filepath.Dir(b.path), 0o700); err != nil {
		return false, fmt.Errorf("keep the session's record: %w", err)
	}
	b.lock, err = os.OpenFile(b.path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("keep the session's record: %w", err)
	}
	err = unix.Flock(int(b.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, b.lock.Close()
	}
	return err == nil, err
}

// modified is when golden last renewed the record.
func (b *Book) modified() time.Time {
	st, err := os.Stat(b.path)
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

func readBook(path string) (page, error) {
	var p page
	st, err := os.Stat(path)
	if err != nil {
		return p, err
	}
	if st.Size() > maxBook {
		return p, fmt.Errorf("read %s: %d bytes, at most %d", path, st.Size(), maxBook)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal(b, &p); err != nil {
		return p, fmt.Errorf("read %s: %w", path, err)
	}
	if p.Nodes == nil {
		p.Nodes = map[string]bookNode{}
	}
	return p, nil
}

// Control is where the golden node of a session that runs can be reached.
func Control(dir, session string) (string, error) {
	p, err := readBook(bookPath(dir, session))
	if err == nil && p.Control == "" {
		err = errors.New("no address in it")
	}
	if err != nil {
		return "", fmt.Errorf("no session %q runs here: %w", session, err)
	}
	return p.Control, nil
}

// Token is the join token of the session: what the run before had, or else
// fresh.
func (b *Book) Token(fresh string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.page.Token == "" {
		b.page.Token = fresh
	}
	return b.page.Token
}

// numbers are those that machines had.
func (b *Book) numbers() map[string]int {
	out := map[string]int{}
	for _, nodes := range []map[string]bookNode{b.spent, b.earlier} {
		for k, n := range nodes {
			out[k] = n.Number
		}
	}
	return out
}

func (n *Node) machine() string { return machineKey(n.Register, n.Pin) }

// known tells whether a node was in the session before golden was started
// again, and it had begun then.
func (b *Book) known(n *Node) bool {
	_, ok := b.earlier[n.machine()]
	return ok && b.began
}

// knows is known for a machine that hasn't registered.
func (b *Book) knows(mac string) bool { return b.earlier[mac].Number > 0 }

// expected is how many nodes of a session that had begun should come back.
func (b *Book) expected() (n int) {
	for _, x := range b.earlier {
		if b.began && x.State != status.Failed && x.State != status.Released {
			n++
		}
	}
	return n
}

// absent are the nodes of a resumed session that have not come back.
func (b *Book) absent(here []*Node) []NodeResult {
	var out []NodeResult
	for k, n := range b.earlier {
		back := slices.ContainsFunc(here, func(h *Node) bool { return h.machine() == k })
		switch {
		case back || !b.began:
		case n.State == status.Released:
			out = append(out, NodeResult{Number: n.Number, MAC: n.MAC, State: n.State})
		default:
			out = append(out, NodeResult{Number: n.Number, MAC: n.MAC, State: status.Failed, Stage: string(n.State),
				Error: "did not come back after golden was started again"})
		}
	}
	return out
}

func (b *Book) begun() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.page.Started = true
}

// confirm takes note that these machines' disks may be erased.
func (b *Book) confirm(list []*Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, n := range list {
		b.put(n, n.hardware())
	}
}

func (b *Book) confirmed(n *Node) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.page.Nodes[n.machine()].Confirmed == n.hardware()
}

// hardware tells a machine from another that has come with its network card.
func (n *Node) hardware() string {
	text := "machine " + n.UUID
	for _, d := range n.Disks {
		text += fmt.Sprintf("; %s %d %s %s", d.Name, d.Bytes, d.Model, d.Serial)
	}
	return text
}

func (b *Book) put(n *Node, confirmed string) {
	if b.page.Nodes == nil {
		b.page.Nodes = map[string]bookNode{}
	}
	if confirmed == "" {
		confirmed = b.page.Nodes[n.machine()].Confirmed
	}
	b.page.Nodes[n.machine()] = bookNode{Number: n.Number, MAC: n.MAC, Confirmed: confirmed, State: n.State(), Lost: n.lostHow() != notLost}
}

// forget takes a machine's consent back, and what it was: it begins anew.
func (b *Book) forget(n *Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.page.Nodes[n.machine()]; ok {
		b.page.Nodes[n.machine()] = bookNode{Number: n.Number, MAC: n.MAC}
	}
}

// open takes note where the control server is.
func (b *Book) open(control string) {
	b.mu.Lock()
	b.page.Control = control
	b.mu.Unlock()
}

func (b *Book) remove() {
	b.disk.Lock()
	defer b.disk.Unlock()
	b.removed = true
	if b.path != "" {
		os.Remove(b.path)
		os.Remove(b.path + ".lock") // while it is ours: who comes now makes another
		b.lock.Close()
	}
}

// write puts the page on the disk where it has changed.
func (b *Book) write() error {
	if b.path == "" {
		return nil
	}
	b.disk.Lock()
	defer b.disk.Unlock()
	if b.removed {
		return nil // a verb came late: the session is over
	}
	b.mu.Lock()
	text, err := json.MarshalIndent(b.page, "", "\t")
	b.mu.Unlock()
	if err != nil {
		return fmt.Errorf("encode the session's record: %w", err)
	}
	if bytes.Equal(text, b.written) && time.Since(b.wrote) < alsoWrite {
		return nil
	}
	if err := renameio.WriteFile(b.path, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("keep the session's record: %w", err)
	}
	b.written, b.wrote = text, time.Now()
	return nil
}

// keepBook writes down what has changed, until the context ends.
func (d *deployment) keepBook(ctx context.Context) {
	t := time.NewTicker(pingEvery / 2)
	defer t.Stop()
	warned := false
	for {
		d.mu.Lock()
		d.Book.mu.Lock()
		for _, n := range d.nodes {
			if !n.anew {
				d.Book.put(n, "")
			}
		}
		d.Book.mu.Unlock()
		d.mu.Unlock()
		if d.states != nil {
			d.states.Tick()
		}
		if err := d.Book.write(); err != nil && !warned {
			d.Log.Warn("golden can't be started again in this session", "err", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Digest names a source: the same pieces have the same name. A source may
// have one of its own; else it is made of what the streams are, and of the
// manifest, which tells sizes and times of all files.
func Digest(src chain.Source) (string, error) {
	if own, ok := src.(interface{ Digest() string }); ok {
		return own.Digest(), nil
	}
	h := blake3.New()
	var buf []byte
	for _, s := range src.Streams() {
		fmt.Fprintf(h, "%d %s %q %d %d\n", s.ID, s.Kind, s.Name, s.PieceSize, s.Bytes)
		if s.Kind != wire.ManifestStream {
			continue
		}
		for p := range s.Pieces {
			buf = append(buf[:0], make([]byte, s.Len(p))...)
			if err := src.ReadPiece(s.ID, p, buf); err != nil {
				return "", fmt.Errorf("digest of the source: %w", err)
			}
			h.Write(buf)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16]), nil
}
