package roster

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// The journal is a line of JSON that names the session, then a line for each
// transition: the whole machine, so the last line of a machine counts and
// lines may be read twice. It is written anew at start, and when it has grown
// far beyond a line for each machine.

const (
	maxLine  = 4 << 10  // a line has about 300 bytes, by machine.go 1400 at most
	maxFile  = 64 << 20 // (4*(MaxMachines+2*maxStrangers)+slack) lines of 1400 bytes are 30 MB
	maxRead  = MaxMachines + 2*maxStrangers
	slack    = 1000
	journalV = "kamethod nodes 1"
)

// header is the first line.
type header struct {
	Journal string `json:"journal"`
	Session string `json:"session"`
	Run     string `json:"run"`
	Shut    bool   `json:"shut,omitempty"` // nobody is armed by coming any more
}

// Saved is what a journal says.
type Saved struct {
	Session  string
	Run      string
	Shut     bool
	Written  time.Time
	Machines []Machine
}

// errHeld: another process has it.
var errHeld = errors.New("another golden-serve has this journal")

// openJournal takes a journal for as long as this process lives, and reads it.
// One that is no journal is set aside. The caller has to rewrite it before
// anything is appended.
func openJournal(path string, head header, log *slog.Logger) (*journal, Saved, error) {
	head.Journal = journalV
	j := &journal{path: path, head: head}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, Saved{}, fmt.Errorf("keep the states of the machines: %w", err)
	}
	var err error
	if j.lock, err = os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, Saved{}, fmt.Errorf("keep the states of the machines: %w", err)
	}
	if err := unix.Flock(int(j.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errHeld
		}
		return nil, Saved{}, errors.Join(fmt.Errorf("lock %s: %w", path, err), j.lock.Close())
	}
	saved, err := ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		log.Warn("the journal of the machines is of no use; beginning anew", "err", err, "kept", path+".old")
		if err := os.Rename(path, path+".old"); err != nil {
			return nil, Saved{}, errors.Join(fmt.Errorf("set %s aside: %w", path, err), j.lock.Close())
		}
	}
	return j, saved, nil
}

// ReadFile reads a journal that somebody else may be writing.
func ReadFile(path string) (Saved, error) {
	f, err := os.Open(path)
	if err != nil {
		return Saved{}, fmt.Errorf("open the journal: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return Saved{}, fmt.Errorf("read the journal: %w", err)
	}
	if st.Size() > maxFile {
		return Saved{}, fmt.Errorf("read %s: %d bytes, at most %d", path, st.Size(), maxFile)
	}
	s, err := read(io.LimitReader(f, maxFile))
	if err != nil {
		return s, fmt.Errorf("read %s: %w", path, err)
	}
	s.Written = st.ModTime()
	return s, nil
}

// read reads a journal. A line that can't be understood is left out: a crash
// can have cut the last one. A file that doesn't begin as a journal is none.
func read(in io.Reader) (Saved, error) {
	var s Saved
	at := map[string]int{}
	b := bufio.NewReaderSize(in, maxLine)
	for n := 0; ; n++ {
		line, err := b.ReadSlice('\n')
		for long := err; errors.Is(long, bufio.ErrBufferFull); {
			line = nil
			_, long = b.ReadSlice('\n')
			err = long
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return s, err
		}
		if n == 0 {
			var h header
			if json.Unmarshal(line, &h) != nil || h.Journal != journalV {
				return s, errors.New("it is no journal of machines")
			}
			s.Session, s.Run, s.Shut = h.Session, h.Run, h.Shut
			continue
		}
		if err != nil {
			return s, nil // its last line has no end
		}
		m, ok := parseLine(line)
		i, known := at[m.MAC]
		switch {
		case !ok:
		case known:
			s.Machines[i] = m
		case len(s.Machines) < maxRead:
			at[m.MAC] = len(s.Machines)
			s.Machines = append(s.Machines, m)
		}
	}
}

func parseLine(line []byte) (Machine, bool) {
	var m Machine
	if json.Unmarshal(line, &m) != nil {
		return m, false
	}
	mac, err := ParseMAC(m.MAC)
	known := m.State == Seen || m.State.holds()
	if err != nil || mac != m.MAC || !known {
		return m, false
	}
	for _, s := range []*string{&m.Name, &m.Address, &m.Arch, &m.UUID, &m.Last, (*string)(&m.By), (*string)(&m.Was)} {
		*s = clean(*s, maxWord)
	}
	m.Error = clean(m.Error, maxCause)
	return m, true
}

func (m *Machine) line() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(m); err != nil {
		panic("BUG: journal line: " + err.Error()) // plain fields
	}
	return b.Bytes()
}
