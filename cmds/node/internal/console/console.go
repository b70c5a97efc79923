// Package console is how a node speaks to the person in front of it: lines
// on every kernel console and in the kernel log, and a shell when something
// went wrong. It draws nothing and asks nothing.
//
//	Line("…") ──┬──▶ /dev/ttyS0, /dev/tty0 …   (all of console=)
//	            └──▶ /dev/kmsg                 (dmesg in the rescue shell)
//	Shell     ─────▶ the console that /dev/console stands for
package console

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Console writes lines to all consoles. Its methods may be called from
// several goroutines.
type Console struct {
	mu   sync.Mutex
	outs []io.Writer
	kmsg io.Writer
	tty  string // where the shell goes
}

// kmsgPrefix is facility user, level debug (Documentation/ABI/testing/dev-kmsg):
// in the log, but not once more on the console.
const kmsgPrefix = "<15>"

// maxLine is what /dev/kmsg takes in one write, LOG_LINE_MAX in
// kernel/printk/printk.c, less the prefix.
const maxLine = 976

// Open finds the consoles. /proc, /sys and /dev must be mounted; what can't
// be opened is done without, and in the end there is always standard error.
func Open() *Console {
	c := &Console{tty: "/dev/console"}
	names := active("/sys/class/tty/console/active")
	for _, name := range names {
		t, err := openTTY(filepath.Join("/dev", name))
		if err != nil {
			continue
		}
		c.outs = append(c.outs, t)
		c.tty = t.path // the last one is what /dev/console is
	}
	if len(c.outs) == 0 {
		c.outs = append(c.outs, os.Stderr)
	}
	// Else the kernel takes ten lines in five seconds and drops the rest, in
	// which may be why it went wrong (printk_devkmsg, Documentation/admin-guide/sysctl/kernel.rst).
	_ = os.WriteFile("/proc/sys/kernel/printk_devkmsg", []byte("on\n"), 0o644)
	if f, err := os.OpenFile("/dev/kmsg", os.O_WRONLY, 0); err == nil {
		c.kmsg = f
	}
	return c
}

// active reads "tty0 ttyS0", the consoles in the order of the command line.
func active(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	var out []string
	for _, name := range strings.Fields(string(b)) {
		if filepath.Base(name) == name {
			out = append(out, name)
		}
	}
	return out
}

// New writes to w alone; for programs that a person started in the shell.
func New(w io.Writer) *Console { return &Console{outs: []io.Writer{w}, tty: "/dev/console"} }

// Line says one line.
func (c *Console) Line(format string, args ...any) {
	c.say(fmt.Sprintf(format, args...))
}

func (c *Console) say(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		line = clean(line)
		for _, w := range c.outs {
			fmt.Fprintf(w, "%s\n", line)
		}
		if c.kmsg != nil {
			fmt.Fprintf(c.kmsg, "%s%s\n", kmsgPrefix, strings.ToValidUTF8(line[:min(len(line), maxLine)], ""))
		}
	}
}

// Drain waits until what was said has left the machine, at most limit: a
// reset doesn't wait for a serial line.
func (c *Console) Drain(limit time.Duration) {
	done := make(chan struct{})
	go func() { // a line that nobody takes may hold this for ever; the machine is about to go
		defer close(done)
		for _, w := range c.outs {
			if t, ok := w.(*tty); ok {
				t.drain()
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// clean takes out what could steer a terminal: parts of a line come from the
// network.
func clean(line string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return ' '
		}
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return -1
		}
		return r
	}, line)
}

// Write makes a Console an io.Writer of whole lines, for a logger.
func (c *Console) Write(b []byte) (int, error) {
	c.say(string(b))
	return len(b), nil
}

// Logger writes to the console in the short form that fits there.
func (c *Console) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(c, &slog.HandlerOptions{ReplaceAttr: short}))
}

// short leaves out the time, which the kernel log has, and the level of plain
// news.
func short(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	if a.Key == slog.TimeKey || a.Key == slog.LevelKey && a.Value.String() == slog.LevelInfo.String() {
		return slog.Attr{}
	}
	return a
}
