// Package peers carries files from the golden host to others, by kamethod and
// by the programs that it is measured against, and says how long each took. It
// compares nothing; that is the business of who calls.
//
//	            kamethod   golden ─▶ 1 ─▶ 2 ─▶ … ─▶ N   hashed, TLS unless plain
//	            Chain      golden ─▶ 1 ─▶ 2 ─▶ … ─▶ N   socat and tee, no checks
//	Source ─▶   Udpcast    golden ─▶ all at once, UDP   Debian's udpcast
//	            Tar        golden ─▶ 1                  tar, socat, tar
//	            Iperf3     golden ─▶ 1                  zeroes, thrown away
package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/kamethod/kamethod/images/bench/lab"
)

// Source is what is sent.
type Source struct {
	Path  string
	Bytes int64 // contents of files
	Tree  bool  // a folder
}

// Result is how a transfer went.
type Result struct {
	Transfer time.Duration   // from the first byte wanted to the last receiver done
	Whole    time.Duration   // the same from the first program's start
	CPU      []time.Duration // golden's, then each receiver's
	Peak     []int64         // largest resident memory, in the same order
	Busy     float64         // share of the machine's processors, whoever used them
}

// Sender is a way to get a source to receivers 1 to n.
type Sender interface {
	// Send leaves a copy for receiver i at room.Dir/copyI.
	Send(ctx context.Context, room *lab.Room, src Source, n int) (Result, error)
}

// Carry sends, looks at the copies and removes them: a transfer that left
// other bytes has no speed.
func Carry(ctx context.Context, s Sender, room *lab.Room, src Source, n int) (Result, error) {
	defer clear(room, n)
	before := lab.NowLoad()
	r, err := s.Send(ctx, room, src, n)
	r.Busy = lab.NowLoad().Since(before)
	if err != nil {
		return r, err
	}
	return r, check(room, src, n)
}

func copyPath(room *lab.Room, host int) string {
	return filepath.Join(room.Dir, fmt.Sprintf("copy%d", host))
}

func clear(room *lab.Room, n int) {
	for i := range n {
		_ = os.RemoveAll(copyPath(room, i+1)) // the file system goes too
	}
}

// check counts each copy's bytes and compares the last one, which came by all
// the others.
func check(room *lab.Room, src Source, n int) error {
	for i := range n {
		got, err := size(copyPath(room, i+1))
		if err != nil {
			return fmt.Errorf("look at copy %d: %w", i+1, err)
		}
		if got != src.Bytes {
			return fmt.Errorf("copy %d has %d bytes, the source %d", i+1, got, src.Bytes)
		}
	}
	if src.Tree {
		return nil
	}
	return compare(src.Path, copyPath(room, n))
}

// Size is how many bytes the files in a folder have, or a file.
func Size(path string) (int64, error) { return size(path) }

func size(path string) (total int64, err error) {
	err = filepath.WalkDir(path, func(_ string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		st, err := d.Info()
		if err == nil {
			total += st.Size()
		}
		return err
	})
	return total, err
}

func compare(a, b string) error {
	fa, err := os.Open(a)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	defer fa.Close()
	fb, err := os.Open(b)
	if err != nil {
		return fmt.Errorf("compare: %w", err)
	}
	defer fb.Close()
	x, y := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); ; {
		n, err := io.ReadFull(fa, x)
		if _, e := io.ReadFull(fb, y[:n]); e != nil {
			return fmt.Errorf("compare %s at byte %d: %w", b, at, e)
		}
		if !bytes.Equal(x[:n], y[:n]) {
			return fmt.Errorf("%s differs from %s after byte %d", b, a, at)
		}
		at += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("compare %s: %w", a, err)
		}
	}
}

// crew is the programs of a transfer, which end together.
type crew struct {
	ctx   context.Context
	room  *lab.Room
	procs []*lab.Process
}

func (c *crew) start(host int, cmd lab.Command) (*lab.Process, error) {
	p, err := c.room.Start(c.ctx, host, cmd)
	if err == nil {
		c.procs = append(c.procs, p)
	}
	return p, err
}

// dismiss kills whoever still runs.
func (c *crew) dismiss() {
	for _, p := range c.procs {
		p.Stop()
	}
}

// wait waits for all and says when the last one ended.
func (c *crew) wait() (last time.Time, err error) {
	for _, p := range c.procs {
		err = errors.Join(err, p.Wait())
		if p.Ended.After(last) {
			last = p.Ended
		}
	}
	return last, err
}
