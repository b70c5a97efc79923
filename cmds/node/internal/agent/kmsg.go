package agent

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// Times and bounds of the console.
const (
	consoleEvery = 500 * time.Millisecond
	consoleLimit = 15 * time.Second
	maxRecord    = 8 << 10 // of /dev/kmsg, CONSOLE_EXT_LOG_MAX in kernel/printk/internal.h
)

// record is one of the kernel's log (Documentation/ABI/testing/dev-kmsg):
//
//	priority,sequence,microseconds,flags;text
//	 KEY=value
type record struct {
	facility, level int
	seq             uint64
	text            string
}

var errRecord = errors.New("this is no record of the kernel's log")

func parseRecord(b []byte) (record, error) {
	var r record
	head, text, ok := bytes.Cut(b, []byte(";"))
	fields := strings.Split(string(head), ",")
	if !ok || len(fields) < 3 || len(b) > maxRecord {
		return r, errRecord
	}
	prio, err := strconv.ParseUint(fields[0], 10, 31)
	if err != nil {
		return r, errRecord
	}
	if r.seq, err = strconv.ParseUint(fields[1], 10, 64); err != nil {
		return r, errRecord
	}
	r.facility, r.level = int(prio>>3), int(prio&7)
	line, _, _ := bytes.Cut(text, []byte("\n"))
	r.text = string(line)
	return r, nil
}

// shown tells whether golden is told of a record: of what our programs say,
// all; of what the kernel says, its warnings and worse (RFC 5424: level 4).
func (r record) shown() bool { return r.facility != 0 || r.level <= 4 }

// TellConsole tells golden what is on this machine's console, from what was
// not told yet on, until the context ends. In the file done it is written down
// how far that is: stage 1 and stage 2 each have a part.
func (a *Agent) TellConsole(ctx context.Context, kmsg, done string) {
	f, err := os.OpenFile(kmsg, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		a.Log.Warn("golden isn't told of the console", "err", err)
		return
	}
	defer f.Close()
	next := readSeq(done)
	var lines []string
	t := time.NewTicker(consoleEvery)
	defer t.Stop()
	for {
		for len(lines) < wire.MaxConsole {
			r, err := readRecord(f)
			if errors.Is(err, errRecord) {
				continue
			}
			if err != nil {
				break
			}
			if r.seq >= next {
				next = r.seq + 1
				if r.shown() {
					lines = append(lines, r.text)
				}
			}
		}
		if len(lines) > 0 && a.postConsole(ctx, lines) == nil {
			lines = nil
			if err := renameio.WriteFile(done, []byte(strconv.FormatUint(next, 10)), 0o600); err != nil {
				a.Log.Debug("some lines may be told twice", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

func readSeq(file string) uint64 {
	b, err := os.ReadFile(file)
	if err != nil || len(b) > 20 {
		return 0
	}
	n, _ := strconv.ParseUint(string(b), 10, 64) // 0: from the first
	return n
}

// readRecord reads one; EPIPE says that some were overwritten before.
func readRecord(f *os.File) (record, error) {
	b := make([]byte, maxRecord)
	raw, err := f.SyscallConn()
	if err != nil {
		return record{}, err
	}
	n, rerr := 0, error(nil)
	err = raw.Read(func(fd uintptr) bool {
		n, rerr = unix.Read(int(fd), b)
		return true // it doesn't wait
	})
	switch {
	case err != nil:
		return record{}, err
	case errors.Is(rerr, unix.EPIPE), errors.Is(rerr, unix.EINTR):
		return record{}, errRecord
	case rerr != nil:
		return record{}, rerr
	case n == 0:
		return record{}, io.EOF
	}
	return parseRecord(b[:n])
}

func (a *Agent) postConsole(ctx context.Context, lines []string) error {
	ctx, cancel := context.WithTimeout(ctx, consoleLimit)
	defer cancel()
	b, err := json.Marshal(wire.ConsoleLines{Lines: lines})
	if err != nil {
		return fmt.Errorf("encode the console's lines: %w", err)
	}
	return a.post(ctx, wire.ConsolePath, bytes.NewReader(b))
}
