package roster

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// journal is the file that is written.
//
// disk is taken first, then Roster.mu, then mu: who waits for the disk holds
// neither of the two, so the boot servers don't wait for it.
type journal struct {
	path string
	lock *os.File

	disk sync.Mutex // one at a time syncs the file, makes it anew, or closes it

	mu      sync.Mutex // guards what follows; a leaf
	head    header
	f       *os.File // nil: not yet made, or closed
	size    int64    // of what is whole
	lines   int
	unsaved bool   // something was written that may not be on the disk
	broken  error  // why the file lacks lines: it has to be made anew
	stale   bool   // its first line isn't true any more: the same
	owed    bool   // it was so when a new file was begun
	making  bool   // a new file is being made
	again   []byte // lines written since it was begun
	closed  bool
}

// append writes a line. It is in the kernel then: the end of this process does
// it no harm.
func (j *journal) append(m *Machine) error {
	line := m.line()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return nil
	}
	if j.making {
		j.again = append(j.again, line...)
	}
	if j.broken != nil {
		return j.broken
	}
	if _, err := j.f.Write(line); err != nil {
		// Half a line would spoil the next one too.
		j.broken = fmt.Errorf("write %s: %w", j.path, errors.Join(err, j.f.Truncate(j.size)))
		return j.broken
	}
	j.size += int64(len(line))
	j.lines++
	j.unsaved = true
	return nil
}

// long tells whether the journal has grown far beyond the list.
func (j *journal) long(machines int) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines > 4*machines+slack
}

// lacks tells whether the journal has to be made anew before it is relied on.
func (j *journal) lacks() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.broken != nil || j.stale
}

// shut has the first line say that nobody is armed by coming any more.
func (j *journal) shut() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.head.Shut, j.stale = true, true
}

// begin takes the machines for a new file; the list's lock is held.
func (j *journal) begin(list []*Machine) (text []byte) {
	j.mu.Lock()
	defer j.mu.Unlock()
	text, err := json.Marshal(j.head)
	if err != nil {
		panic("BUG: journal's first line: " + err.Error()) // plain fields
	}
	text = append(text, '\n')
	for _, m := range list {
		text = append(text, m.line()...)
		m.dirty = false // news at most: a transition was written at once, or the old file is broken
	}
	j.making, j.again, j.stale, j.owed = true, nil, false, j.stale
	return text
}

// finish puts the new file in the place of the old one, at once, and on the
// disk. Lines may be written meanwhile; disk is held, the list's lock isn't.
func (j *journal) finish(text []byte, lines int) error {
	f, err := os.OpenFile(j.path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err == nil {
		if _, err = f.Write(text); err == nil {
			err = f.Sync()
		}
	}
	if err = j.replace(f, text, lines, err); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(j.path)); err != nil {
		return j.breaks(err)
	}
	return nil
}

// replace ends the making of a new file, for good or not.
func (j *journal) replace(f *os.File, text []byte, lines int, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	again := j.again
	j.making, j.again = false, nil
	if err == nil && len(again) > 0 {
		_, err = f.Write(again)
	}
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		if f != nil {
			err = errors.Join(err, f.Close(), os.Remove(j.path+".new"))
		}
		j.stale = j.stale || j.owed
		return fmt.Errorf("write %s: %w", j.path, err) // the old file is as good as it was
	}
	if j.f != nil {
		_ = j.f.Close() // nobody reads it any more
	}
	j.f, j.size, j.lines = f, int64(len(text)+len(again)), lines
	j.unsaved, j.broken = len(again) > 0, nil
	return nil
}

// breaks takes note that the file can't be relied on.
func (j *journal) breaks(err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.broken = fmt.Errorf("sync %s: %w", j.path, err)
	return j.broken
}

// sync has the disk have all that was written; disk is held. After an error
// the kernel may have forgotten what it couldn't write (fsync(2)): the file is
// made anew then.
func (j *journal) sync() error {
	j.mu.Lock()
	f, unsaved, closed := j.f, j.unsaved, j.closed
	j.unsaved = false
	j.mu.Unlock()
	if closed || f == nil || !unsaved {
		return nil
	}
	if err := f.Sync(); err != nil {
		return j.breaks(err)
	}
	return nil
}

func (j *journal) close() error {
	j.disk.Lock()
	defer j.disk.Unlock()
	err := j.sync()
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.f != nil {
		err = errors.Join(err, j.f.Close())
	}
	j.f, j.closed = nil, true
	return errors.Join(err, j.lock.Close())
}

// syncFolder has the disk know by which name a file goes.
func syncFolder(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
