package golden

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/kamethod/kamethod/golden/internal/roster"
	"github.com/kamethod/kamethod/golden/status"
)

// This file is what becomes of the record of an earlier session that isn't
// taken up.

func (b *Book) setAside(log *slog.Logger) error {
	to := b.path + ".old"
	if err := os.Rename(b.path, to); err != nil {
		return fmt.Errorf("set the record of an earlier session aside: %w", err)
	}
	log.Info("its record is kept", "file", to)
	return nil
}

// beginAnew sets the record of a session aside that was broken off, and begins
// one that goes as the same run: what was done or had failed in it stays so.
// A session that was over is no such session.
func (b *Book) beginAnew(old page, log *slog.Logger) error {
	if old.Session != b.page.Session || old.over() {
		return b.setAside(log)
	}
	b.anew, b.page.Begun, b.spent = true, old.Begun, map[string]bookNode{}
	for k, n := range old.Nodes {
		if n.end() != roster.Cloning {
			b.spent[k] = n
			n.Confirmed = ""
			if n.end() == roster.Done {
				n.State = status.Released // nobody waits for it
			}
			b.page.Nodes[k] = n
		}
	}
	log.Warn(doneStays, "known", len(b.spent))
	return b.replace(log)
}

const doneStays = "machines that were done or failed in it are not cloned once more: --fresh has all cloned anew, golden-serve arm MAC one"

// sameRun is for a record that can't be read: the journal of the machines knows
// which run it was.
func (b *Book) sameRun(log *slog.Logger) {
	s, err := roster.ReadFile(b.journal())
	if err != nil {
		return // there is nothing to go by
	}
	if t, err := time.Parse(runForm, s.Run); err == nil {
		b.anew, b.page.Begun = true, t
		log.Warn(doneStays)
	}
}

// replace keeps a copy of the old record, and has the new one in its place at
// once.
func (b *Book) replace(log *slog.Logger) error {
	to := b.path + ".old"
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("set the record of an earlier session aside: %w", err)
	}
	if err := os.Link(b.path, to); err != nil {
		return fmt.Errorf("set the record of an earlier session aside: %w", err)
	}
	log.Info("its record is kept", "file", to)
	return b.write()
}

// end is how a machine has come out, for the list of machines; cloning: it
// hasn't, or may come back.
func (n bookNode) end() roster.State {
	switch {
	case n.State == status.Done || n.State == status.Released:
		return roster.Done
	case n.State == status.Failed && !n.Lost:
		return roster.Failed
	}
	return roster.Cloning
}

// over tells whether all that took part were let go.
func (p page) over() bool {
	for _, n := range p.Nodes {
		if n.State != status.Released {
			return false
		}
	}
	return p.Started && len(p.Nodes) > 0
}
