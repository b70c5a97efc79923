package nodelog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Line is what a node has said.
type Line struct {
	Time time.Time `json:"time"`
	Node int       `json:"node"`
	MAC  string    `json:"mac,omitempty"`
	Text string    `json:"text"`
}

// ErrNone is wrapped where there are no logs.
var ErrNone = errors.New("no logs")

// reader reads the logs of a run, from where it has stopped.
type reader struct {
	dir    string
	choose func(number int, mac string) bool
	at     map[string]int64 // by file, bytes read
}

// Open finds the latest run of a session. choose may be nil: all nodes.
func latest(dir, session string, choose func(int, string) bool) (*reader, error) {
	base := sessionDir(dir, session)
	runs, err := runsOf(base)
	if err != nil {
		return nil, err
	}
	if len(runs) == 0 {
		return nil, fmt.Errorf("session %q: %w in %s", session, ErrNone, base)
	}
	return &reader{dir: filepath.Join(base, runs[len(runs)-1]), choose: choose, at: map[string]int64{}}, nil
}

var fileForm = regexp.MustCompile(`^node([0-9]{1,9})(?:-([0-9a-f]{12,40}))?\.log$`)

// parseName reads a file's name.
func parseName(name string) (number int, mac string, ok bool) {
	m := fileForm.FindStringSubmatch(name)
	if m == nil {
		return 0, "", false
	}
	number, err := strconv.Atoi(m[1])
	if m[2] != "" {
		b := make([]byte, len(m[2])/2)
		for i := range b {
			v, _ := strconv.ParseUint(m[2][2*i:2*i+2], 16, 8) // the form has hexadecimal digits only
			b[i] = byte(v)
		}
		mac = net.HardwareAddr(b).String()
	}
	return number, mac, err == nil
}

// more reads what has come since the last time, in the order of the times.
func (r *reader) more() (lines []Line, known int, err error) {
	list, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, 0, err
	}
	seen := map[string]bool{}
	for _, e := range list {
		name := strings.TrimSuffix(e.Name(), ".1") // one that was just set aside may be there alone
		number, mac, ok := parseName(name)
		if !ok || seen[name] || r.choose != nil && !r.choose(number, mac) {
			continue
		}
		seen[name] = true
		known++
		b, err := r.take(filepath.Join(r.dir, name))
		if err != nil {
			return lines, known, err
		}
		for text := range strings.Lines(string(b)) {
			if l, ok := parseLine(strings.TrimSuffix(text, "\n")); ok {
				l.Node, l.MAC = number, mac
				lines = append(lines, l)
			}
		}
	}
	slices.SortStableFunc(lines, func(a, b Line) int { return a.Time.Compare(b.Time) })
	return lines, known, nil
}

// take reads the whole lines of a file behind those that were read. One that
// was set aside meanwhile is read to its end first.
func (r *reader) take(path string) ([]byte, error) {
	var out []byte
	at, seen := r.at[path]
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		b, err := readFrom(path+".1", at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		r.at[path] = at + int64(len(b)) // of what was set aside, as long as the new one is shorter
		return b, nil
	}
	if err != nil {
		return nil, err
	}
	if !seen || now.Size() < at {
		b, err := readFrom(path+".1", at)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		out, at = append(out, b...), 0
	}
	b, err := readFrom(path, at)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	r.at[path] = at + int64(len(b))
	return append(out, b...), nil
}

func readFrom(path string, at int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if _, err := f.Seek(at, io.SeekStart); err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	b, err := io.ReadAll(io.LimitReader(f, 2*maxFile))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

func parseLine(s string) (Line, bool) {
	stamp, text, ok := strings.Cut(s, " ")
	at, err := time.Parse(stampForm, stamp)
	return Line{Time: at, Text: oneLine(text)}, ok && err == nil
}

// Read gives the lines of a session's latest run, and with follow those that
// come, until the context ends or going says that there will be none.
func Read(ctx context.Context, dir, session string, choose func(number int, mac string) bool, going func() bool, told func(Line) error) error {
	r, err := latest(dir, session, choose)
	if err != nil {
		return err
	}
	for last := false; ; {
		lines, known, err := r.more()
		if err != nil {
			return err
		}
		if known == 0 && (going == nil || last) {
			return fmt.Errorf("session %q: %w of such a node in %s", session, ErrNone, r.dir)
		}
		for _, l := range lines {
			if err := told(l); err != nil {
				return err
			}
		}
		if going == nil || last {
			return nil
		}
		last = !going() // what was said until then is read once more
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followEvery):
		}
	}
}

// followEvery is how often files are looked at.
const followEvery = 250 * time.Millisecond
