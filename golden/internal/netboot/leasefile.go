package netboot

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/google/renameio/v2"
)

// The lease file is a journal: a line of JSON for each lease given or
// renewed, the last line of a MAC counts. It is written anew, one line for
// each lease, at start and when it has grown far beyond that.

const maxLeaseLine = 512 // a line has about 90 bytes

// leaseLine is one line of the file.
type leaseLine struct {
	MAC   string     `json:"mac"`
	IP    netip.Addr `json:"ip"`
	Until time.Time  `json:"until"`
}

type leaseFile struct {
	path  string
	f     *os.File
	lines int
}

// readLeases reads a journal. A line that can't be understood is reported
// and left out: a crash can have cut the last one.
func readLeases(r io.Reader, log *slog.Logger) ([]lease, error) {
	byMAC := map[[6]byte]lease{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, maxLeaseLine)
	for n := 1; sc.Scan(); n++ {
		var l leaseLine
		err := json.Unmarshal(sc.Bytes(), &l)
		hw, merr := net.ParseMAC(l.MAC)
		if err == nil && (merr != nil || len(hw) != 6 || !l.IP.Is4()) {
			err = fmt.Errorf("MAC %q, address %v", l.MAC, l.IP)
		}
		if err != nil {
			log.Warn("lease file: line left out", "line", n, "err", err)
			continue
		}
		byMAC[[6]byte(hw)] = lease{mac: [6]byte(hw), ip: l.IP, until: l.Until}
	}
	var out []lease
	for _, l := range byMAC {
		out = append(out, l)
	}
	return out, sc.Err()
}

// load fills the table from a lease file and goes on writing it.
func (t *leaseTable) load(path string, log *slog.Logger) error {
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
			if t.ours(l.ip) && t.byIP[l.ip] == nil {
				t.set(&l)
			}
		}
	}
	t.file = &leaseFile{path: path}
	return t.file.rewrite(t.byMAC)
}

// rewrite makes the file anew and leaves it open for append.
func (lf *leaseFile) rewrite(byMAC map[[6]byte]*lease) error {
	var b []byte
	lf.lines = 0
	for _, l := range byMAC {
		if !l.offered {
			b = append(b, l.line()...)
			lf.lines++
		}
	}
	if err := renameio.WriteFile(lf.path, b, 0o644); err != nil {
		return fmt.Errorf("write lease file %s: %w", lf.path, err)
	}
	f, err := os.OpenFile(lf.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("open lease file: %w", err)
	}
	if lf.f != nil {
		err = lf.f.Close()
	}
	lf.f = f
	return err
}

func (lf *leaseFile) append(l lease) error {
	if _, err := lf.f.Write(l.line()); err != nil {
		return fmt.Errorf("write lease file %s: %w", lf.path, err)
	}
	lf.lines++
	return nil
}

// compact keeps the journal from growing for ever. The table's lock is held
// by the caller of the table's methods, not here.
func (t *leaseTable) compact() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil || t.file.lines < 4*len(t.byMAC)+1000 {
		return nil
	}
	return t.file.rewrite(t.byMAC)
}

// close ends the journal.
func (t *leaseTable) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil
	}
	err := t.file.f.Close()
	t.file = nil
	return err
}

func (l *lease) line() []byte {
	b, err := json.Marshal(leaseLine{MAC: net.HardwareAddr(l.mac[:]).String(), IP: l.ip, Until: l.until.UTC().Truncate(time.Second)})
	if err != nil {
		panic("BUG: lease line: " + err.Error()) // three plain fields
	}
	return append(b, '\n')
}
