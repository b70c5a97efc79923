package netboot

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// The lease file is a journal: a line of JSON for each lease given or
// renewed, the last line of a MAC, and of an address, counts. It is written
// anew, one line for each lease, at start and when it has grown far beyond
// that.
//
// A line is handed to the kernel before the machine hears its ACK, so a
// server that is killed loses nothing. The disk has it within syncEvery: what
// a power cut takes away is the leases of that time, and a machine whose
// lease was lost gets its address again when it asks for it, or by the hash
// of its MAC; one that doesn't ask can have its address given to another,
// until either of the two sees it by ARP and declines. Waiting for the disk
// at each ACK would cost every machine of a room some 10 ms more, one after
// the other.

const (
	maxLeaseLine = 512             // a line has about 90 bytes
	syncEvery    = time.Second     // see above
	retryEvery   = 5 * time.Second // between two tries on a disk that is full
)

// leaseLine is one line of the file.
type leaseLine struct {
	MAC   string     `json:"mac"`
	IP    netip.Addr `json:"ip"`
	Until time.Time  `json:"until"`
}

// leaseFile is taken after the table's lock or without it, never before it:
// mu is first, then leaseTable.mu, which guards pending.
type leaseFile struct {
	path    string
	pending []byte // lines to be written, in order; the table's lock guards it

	mu     sync.Mutex
	f      *os.File
	size   int64 // of what is whole
	lines  int
	dirty  bool   // not yet on the disk
	broken bool   // the file lacks lines: it has to be made anew
	again  []byte // lines written since a new file was begun
	making bool   // a new file is being made
}

// readLeases reads a journal, in its order. A line that can't be understood
// is reported and left out: a crash can have cut the last one, or left
// anything in its place.
func readLeases(r io.Reader, log *slog.Logger) ([]lease, error) {
	var out []lease
	in := bufio.NewReaderSize(r, maxLeaseLine)
	for n := 1; ; n++ {
		text, err := in.ReadSlice('\n')
		long := errors.Is(err, bufio.ErrBufferFull)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = in.ReadSlice('\n')
		}
		if err != nil && err != io.EOF {
			return out, err
		}
		if len(text) > 0 {
			l, perr := parseLease(text, long)
			if perr != nil {
				log.Warn("lease file: line left out", "line", n, "err", perr)
			} else {
				out = append(out, l)
			}
		}
		if err == io.EOF {
			return out, nil
		}
	}
}

func parseLease(text []byte, long bool) (lease, error) {
	if long {
		return lease{}, fmt.Errorf("longer than %d bytes", maxLeaseLine)
	}
	var l leaseLine
	if err := json.Unmarshal(text, &l); err != nil {
		return lease{}, err
	}
	hw, err := net.ParseMAC(l.MAC)
	if err != nil || len(hw) != 6 || !l.IP.Is4() {
		return lease{}, fmt.Errorf("MAC %q, address %v", l.MAC, l.IP)
	}
	return lease{mac: [6]byte(hw), ip: l.IP, until: l.Until}, nil
}

// load fills the table from a lease file and goes on writing it.
func (t *leaseTable) load(path string, now time.Time, log *slog.Logger) error {
	f, err := os.Open(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("open lease file: %w", err)
	}
	if err == nil {
		ls, err := readLeases(f, log)
		if err := errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read lease file %s: %w", path, err)
		}
		for _, l := range ls {
			n := t.plan.of(l.ip)
			if n == nil || !n.has(l.ip) {
				continue
			}
			a := asker{mac: l.mac, net: n, known: !now.Before(l.until)} // what has run out isn't counted
			t.set(&l, a)
		}
	}
	t.file = &leaseFile{path: path, broken: true}
	return t.file.rewrite(t)
}

// queue has a lease written by the next flush. The table's lock is held.
func (lf *leaseFile) queue(l *lease) { lf.pending = l.appendLine(lf.pending) }

// take is what is to be written.
func (lf *leaseFile) take(t *leaseTable) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := lf.pending
	lf.pending = nil
	return b
}

// flush writes what is queued: one write for all that came together.
func (lf *leaseFile) flush(t *leaseTable) error {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	b := lf.take(t)
	if len(b) == 0 {
		return nil
	}
	if lf.making {
		lf.again = append(lf.again, b...)
	}
	if lf.broken || lf.f == nil {
		return nil // keep makes it whole again
	}
	if _, err := lf.f.Write(b); err != nil {
		// Half a line would spoil the next one too.
		lf.broken = true
		return fmt.Errorf("write lease file %s: %w", lf.path, errors.Join(err, lf.f.Truncate(lf.size)))
	}
	lf.wrote(b)
	return nil
}

func (lf *leaseFile) wrote(b []byte) {
	lf.size += int64(len(b))
	lf.lines += countLines(b)
	lf.dirty = true
}

func countLines(b []byte) (n int) {
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}

// rewrite makes the file anew out of the table, which is used meanwhile.
func (lf *leaseFile) rewrite(t *leaseTable) (err error) {
	b := lf.begin(t)
	f, err := os.OpenFile(lf.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o644)
	if err == nil {
		if _, err = f.Write(b); err == nil {
			err = f.Sync()
		}
	}
	lf.mu.Lock()
	defer lf.mu.Unlock()
	again := lf.again
	lf.again, lf.making = nil, false
	if err == nil && len(again) > 0 {
		_, err = f.Write(again)
	}
	if err == nil {
		err = os.Rename(lf.path+".new", lf.path)
	}
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close(), os.Remove(lf.path+".new"))
		}
		return fmt.Errorf("write lease file %s: %w", lf.path, err)
	}
	if lf.f != nil {
		_ = lf.f.Close() // nobody reads it any more
	}
	lf.f, lf.broken, lf.dirty = f, false, len(again) > 0
	lf.size, lf.lines = int64(len(b)+len(again)), countLines(b)+countLines(again)
	return nil
}

// begin takes the table's leases for a new file.
func (lf *leaseFile) begin(t *leaseTable) (b []byte) {
	lf.mu.Lock()
	defer lf.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	lf.pending, lf.again, lf.making = nil, nil, true // what is queued is in the table
	for _, l := range t.byMAC {
		if !l.offered {
			b = l.appendLine(b)
		}
	}
	return b
}

// keep syncs the file, and makes it anew when it has grown or lacks lines,
// until ctx ends.
func (t *leaseTable) keep(ctx context.Context, log *slog.Logger) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	var retry time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		stale, err := t.file.sync(t)
		if stale && time.Now().After(retry) {
			retry = time.Now().Add(retryEvery)
			err = errors.Join(err, t.file.rewrite(t))
		}
		if err != nil {
			log.Error("leases are not kept; they hold in memory", "err", err)
		}
	}
}

// sync has the disk keep what was written. stale: the file is to be made
// anew.
func (lf *leaseFile) sync(t *leaseTable) (stale bool, err error) {
	t.mu.Lock()
	leases := len(t.byMAC)
	t.mu.Unlock()
	lf.mu.Lock()
	f, dirty := lf.f, lf.dirty
	lf.dirty = false
	stale = lf.broken || lf.lines > 4*leases+1000
	lf.mu.Unlock()
	if dirty {
		err = f.Sync() // only rewrite closes it, and that runs after us
	}
	return stale, err
}

// close ends the journal, with all that is queued on the disk.
func (t *leaseTable) close() error {
	lf := t.file
	if lf == nil {
		return nil
	}
	err := lf.flush(t)
	lf.mu.Lock()
	defer lf.mu.Unlock()
	if lf.f == nil {
		return err
	}
	err = errors.Join(err, lf.f.Sync(), lf.f.Close())
	lf.f = nil
	return err
}

func (l *lease) appendLine(b []byte) []byte {
	b = append(b, `{"mac":"`...)
	b = append(b, net.HardwareAddr(l.mac[:]).String()...)
	b = append(b, `","ip":"`...)
	b = l.ip.AppendTo(b)
	b = append(b, `","until":"`...)
	b = l.until.UTC().AppendFormat(b, time.RFC3339)
	return append(b, "\"}\n"...)
}

func macText(k [6]byte) string { return net.HardwareAddr(k[:]).String() }
