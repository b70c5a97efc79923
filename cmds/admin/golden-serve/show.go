package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/kamethod/kamethod/golden"
)

// consoleLog prints records as a person reads them: the time, what, and the
// rest as word=value.
type consoleLog struct {
	mu    *sync.Mutex
	w     io.Writer
	level slog.Level
	attrs []slog.Attr
}

func newLog(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(&consoleLog{mu: &sync.Mutex{}, w: w, level: level})
}

func (c *consoleLog) Enabled(_ context.Context, l slog.Level) bool { return l >= c.level }

func (c *consoleLog) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Time.Format("15:04:05 "))
	if r.Level >= slog.LevelWarn {
		b.WriteString(strings.ToLower(r.Level.String()) + ": ")
	}
	b.WriteString(r.Message)
	put := func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	}
	for _, a := range c.attrs {
		put(a)
	}
	r.Attrs(put)
	b.WriteByte('\n')
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.w, b.String())
	return err
}

func (c *consoleLog) WithAttrs(a []slog.Attr) slog.Handler {
	d := *c
	d.attrs = append(slices.Clip(c.attrs), a...)
	return &d
}

func (c *consoleLog) WithGroup(string) slog.Handler { return c }

func size(n int64) string {
	switch {
	case n >= 1e12:
		return fmt.Sprintf("%.1f TB", float64(n)/1e12)
	case n >= 1e9:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%d bytes", n)
}

// maxNotes is how many of a node's notes are printed; the report has them all.
const maxNotes = 20

// finish prints and writes how it came out.
func (o *common) finish(r golden.Result, err error) error {
	for _, n := range r.Notes {
		fmt.Fprintln(o.stderr(), "note:", n)
	}
	for _, name := range r.Torn {
		fmt.Fprintln(o.stderr(), "torn:", name)
	}
	for _, n := range r.Nodes {
		fmt.Fprintf(o.stderr(), "node %d %s %s: %s", n.Number, n.Hostname, n.Address, n.State)
		if n.Rejoined {
			fmt.Fprint(o.stderr(), ", rejoined")
		}
		if n.Error != "" {
			fmt.Fprintf(o.stderr(), ", %s: %s", n.Stage, n.Error)
		}
		fmt.Fprintln(o.stderr())
		for i, note := range n.Notes {
			if i == maxNotes {
				fmt.Fprintf(o.stderr(), "  and %d notes more\n", len(n.Notes)-i)
				break
			}
			fmt.Fprintf(o.stderr(), "  note: %s\n", note)
		}
		touched(o.stderr(), n, o.report)
	}
	if r.Verdict != "" {
		fmt.Fprintln(o.stderr(), "verdict:", r.Summary())
	}
	if werr := o.write(r); err == nil && werr != nil {
		err = failed{werr}
	}
	if n := r.Failed(); err == nil && n > 0 {
		return failed{fmt.Errorf("%d of %d nodes failed", n, len(r.Nodes))}
	}
	if n := len(r.Torn); err == nil && n > 0 && !o.allowTorn {
		return failed{fmt.Errorf("all nodes are done, but %d files changed all the time while they were copied (--allow-torn lets that be)", n)}
	}
	if err == nil {
		fmt.Fprintf(o.stderr(), "all %d nodes are done: %s each, %.0f s in all\n", len(r.Nodes), size(r.Bytes), r.Seconds)
	}
	if err != nil && r.Touched && !errors.As(err, new(failed)) {
		return failed{err}
	}
	return err
}

func (o *common) write(r golden.Result) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	b = append(b, '\n')
	if o.output == "json" {
		os.Stdout.Write(b)
	}
	if o.report != "" {
		return os.WriteFile(o.report, b, 0o644)
	}
	return nil
}
