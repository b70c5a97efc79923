package nodelog

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func keeper(t *testing.T, c Config) *Keeper {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	if c.Session == "" {
		c.Session = "room1"
	}
	if c.Begun.IsZero() {
		c.Begun = time.Date(2026, 11, 21, 10, 32, 0, 0, time.UTC)
	}
	k := Open(c)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		k.Close(ctx)
	})
	return k
}

// written waits until all that was added is on the disk.
func written(t *testing.T, k *Keeper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := k.disk.wait(ctx, func() {}); err != nil {
		t.Fatal(err)
	}
}

func lines(t *testing.T, dir, session string, choose func(int, string) bool) []string {
	t.Helper()
	var out []string
	err := Read(t.Context(), dir, session, choose, nil, func(l Line) error {
		out = append(out, fmt.Sprintf("%d %s", l.Node, l.Text))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var one = Who{Number: 1, MAC: "52:54:00:00:00:01", Name: "node1", Addr: "10.0.1.111", Arrived: time.Date(2010, 5, 7, 10, 32, 0, 0, time.Local)}

func TestKeepsLines(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, Config{Dir: dir})
	k.Add(one, slog.LevelInfo, "partition table", "formatting")
	k.Add(Who{Number: 2, MAC: "../../x\x1b[2J"}, slog.LevelInfo, "a\nb\x1b[2Jc\xff")
	written(t, k)
	if got, want := lines(t, dir, "room1", nil), []string{"1 partition table", "1 formatting", "2 a b [2Jc\ufffd"}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := lines(t, dir, "room1", func(_ int, mac string) bool { return mac == one.MAC }); len(got) != 2 {
		t.Errorf("of one network card: %q", got)
	}
	var names []string
	filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if want := "[room1/20261121T103200Z/node1-525400000001.log room1/20261121T103200Z/node2.log]"; fmt.Sprint(names) != want {
		t.Errorf("files %q, want %s", names, want)
	}
	if err := Read(t.Context(), dir, "other", nil, nil, func(Line) error { return nil }); !errors.Is(err, ErrNone) {
		t.Errorf("a session without logs: %v", err)
	}
	if err := Read(t.Context(), dir, "room1", func(n int, _ string) bool { return n == 7 }, nil, func(Line) error { return nil }); !errors.Is(err, ErrNone) {
		t.Errorf("a node without a log: %v", err)
	}
}

// A session's name is one name on the disk, whatever it is.
func TestNamesOfSessions(t *testing.T) {
	for _, name := range []string{"../../etc", "a/b", "..", "", "."} {
		got := sessionDir("/logs", name)
		if filepath.Dir(got) != "/logs" || strings.HasPrefix(filepath.Base(got), ".") {
			t.Errorf("%q is kept in %s", name, got)
		}
	}
}

func TestBounded(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, Config{Dir: dir})
	text := strings.Repeat("x", 1000)
	var big []string
	for i := range 100 {
		big = append(big, fmt.Sprintf("%d %s", i, text))
	}
	for range 40 { // 4 MB
		k.Add(one, slog.LevelInfo, big...)
	}
	written(t, k)
	all := int64(0)
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if i, err := d.Info(); err == nil && !d.IsDir() {
			all += i.Size()
		}
		return err
	})
	if all > 2*maxFile+200_000 || all < maxFile {
		t.Errorf("%d bytes are kept", all)
	}
	got := lines(t, dir, "room1", nil)
	if len(got) < 1000 || !strings.HasPrefix(got[len(got)-1], "1 99 x") {
		t.Errorf("%d lines, the last %.20q", len(got), got[len(got)-1])
	}
}

func TestRunsOfASession(t *testing.T) {
	dir := t.TempDir()
	for i := range keepRuns + 3 {
		k := keeper(t, Config{Dir: dir, Begun: time.Date(2026, 1, 1+i, 0, 0, 0, 0, time.UTC)})
		k.Add(one, slog.LevelInfo, fmt.Sprintf("run %d", i))
		written(t, k)
	}
	if got := lines(t, dir, "room1", nil); len(got) != 1 || got[0] != fmt.Sprintf("1 run %d", keepRuns+2) {
		t.Errorf("the latest run: %q", got)
	}
	if runs, err := runsOf(filepath.Join(dir, "room1")); err != nil || len(runs) != keepRuns {
		t.Errorf("%d runs are kept: %v", len(runs), err)
	}
}

// What comes is followed, over a file that is set aside, to the session's end.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, Config{Dir: dir})
	k.Add(one, slog.LevelInfo, "first")
	const n = 3000
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		text := strings.Repeat("y", 500)
		for i := range n {
			k.Add(one, slog.LevelInfo, fmt.Sprintf("%d %s", i, text))
			if i%500 == 0 {
				time.Sleep(3 * followEvery)
			}
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		k.Close(ctx) // as the session's end does
	}()
	going := func() bool {
		select {
		case <-wrote:
			return false
		default:
			return true
		}
	}
	next := -1
	err := Read(t.Context(), dir, "room1", nil, going, func(l Line) error {
		if next >= 0 && !strings.HasPrefix(l.Text, fmt.Sprintf("%d y", next)) {
			return fmt.Errorf("line %d is %.20q", next, l.Text)
		}
		next++
		return nil
	})
	if err != nil || next != n {
		t.Errorf("%d lines: %v", next, err)
	}
}

// No room on golden's disk, or no right to write there, is said once and is
// nobody else's trouble.
func TestDiskFull(t *testing.T) {
	var said strings.Builder
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	k := keeper(t, Config{Dir: file, Log: slog.New(slog.NewTextHandler(&said, nil))})
	k.Add(one, slog.LevelInfo, "a")
	k.Add(one, slog.LevelInfo, "b")
	written(t, k)
	if strings.Count(said.String(), "not kept") != 1 {
		t.Errorf("said: %s", said.String())
	}
}

// A disk that hangs holds nobody up, the end of the session for as long as it
// allows; what doesn't fit is lost, and counted. The rest is there when the
// disk answers.
func TestDiskHangs(t *testing.T) {
	var said locked
	dir := t.TempDir()
	k := Open(Config{Dir: dir, Session: "s", Begun: time.Now(), Log: slog.New(slog.NewTextHandler(&said, nil))})
	path := filepath.Join(k.disk.dir, fileName(one))
	if err := unix.Mkfifo(path, 0o600); err != nil { // its open waits for a reader
		t.Fatal(err)
	}
	const n = diskQueue + 100
	for i := range n {
		k.Add(one, slog.LevelInfo, fmt.Sprint(i))
	}
	for _, d := range []time.Duration{time.Second, time.Minute} {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		if d == time.Second {
			if _, err := k.read(ctx, one); err == nil {
				t.Error("a log is read behind what isn't written")
			}
			k.Close(ctx)
			continue
		}
		if !strings.Contains(said.String(), "doesn't answer") || k.disk.lost.Load() < 99 || !strings.Contains(said.String(), "were lost") {
			t.Errorf("%d lines are lost, said: %s", k.disk.lost.Load(), said.String())
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		in := bufio.NewScanner(f)
		for i := range 1000 {
			if !in.Scan() || !strings.HasSuffix(in.Text(), fmt.Sprintf("Z %d", i)) {
				t.Fatalf("line %d is %q: %v", i, in.Text(), in.Err())
			}
		}
		go io.Copy(io.Discard, f) // ends with f
		select {
		case <-k.disk.task:
		case <-ctx.Done():
			t.Error("the rest isn't written")
		}
	}
}

// Lines are there when the session has ended.
func TestCloseWritesAll(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, Config{Dir: dir})
	for i := range 5000 {
		k.Add(one, slog.LevelInfo, fmt.Sprint(i))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	k.Close(ctx)
	if got := lines(t, dir, "room1", nil); len(got) != 5000 || got[4999] != "1 4999" {
		t.Errorf("%d lines", len(got))
	}
}

// A log that was just set aside is found, and read once.
func TestSetAside(t *testing.T) {
	dir := t.TempDir()
	k := keeper(t, Config{Dir: dir})
	var big []string
	for i := range 1100 {
		big = append(big, fmt.Sprintf("%d %s", i, strings.Repeat("x", 1000)))
	}
	k.Add(one, slog.LevelInfo, big...)
	written(t, k)
	if _, err := os.Stat(filepath.Join(k.disk.dir, fileName(one))); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("it isn't set aside: %v", err)
	}
	r, err := latest(dir, "room1", nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1100, 0, 1, 0} {
		if i == 2 {
			k.Add(one, slog.LevelInfo, "next")
			written(t, k)
		}
		if got, known, err := r.more(); err != nil || known != 1 || len(got) != want {
			t.Errorf("look %d: %d lines of %d nodes, want %d: %v", i, len(got), known, want, err)
		}
	}
}

// A line that doesn't fit into the queue for the syslog server is counted like
// one that the server didn't take.
func TestSyslogCountsAll(t *testing.T) {
	s, err := ParseSyslog("tcp://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	var said locked
	p := &poster{s: s, log: slog.New(slog.NewTextHandler(&said, nil)), queue: make(chan string, 2), done: make(chan struct{})}
	p.ctx, p.stop = context.WithCancel(t.Context())
	p.stop() // it connects to nothing
	for range 5 {
		p.put(one, slog.LevelInfo, time.Now(), "x")
	}
	p.task.Go(p.run)
	p.close(t.Context())
	if !strings.Contains(said.String(), "lines=5") {
		t.Errorf("said: %s", said.String())
	}
}

func TestBadPlaces(t *testing.T) {
	for _, s := range []string{"", "http://h/", "ftp://", "ftp://user:secret@", "://x", "ftp://h/?x=secret", "ftp://u:secret\n@h/", "ftp://u:sec%0aret@h/"} {
		if _, err := ParseFTP(s, ""); err == nil || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "sec%0aret") {
			t.Errorf("%q: %v", s, err)
		}
	}
	for _, s := range []string{"", "ftp://h", "h:x", "tcp://", "h/path", "u@h"} {
		if _, err := ParseSyslog(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	f, err := ParseFTP("ftp://joe@h/a/b", "pw")
	if err != nil || f.addr != "h:21" || f.user != "joe" || f.password != "pw" || f.dir != "a/b" {
		t.Errorf("%+v, %v", f, err)
	}
	if s, err := ParseSyslog("tcp://[fe80::1]:601"); err != nil || s.addr != "[fe80::1]:601" || s.network != "tcp" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestMessage(t *testing.T) {
	at := time.Date(2026, 11, 21, 14, 0, 0, 5000, time.UTC)
	if got, want := message(one, slog.LevelError, at, "failed"), "<131>1 2026-11-21T14:00:00.000005Z node1 kamethod 1 - - failed"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	w := Who{Number: 4, Name: "a b\n<1>"}
	if got := message(w, slog.LevelInfo, at, strings.Repeat("ä", maxMessage)); len(got) > maxMessage || !strings.Contains(got, "Z ab<1> kamethod 4 ") {
		t.Errorf("%.100q, %d bytes", got, len(got))
	}
}

// FuzzLines reads files that others may have written to.
func FuzzLines(f *testing.F) {
	f.Add("2026-11-21T14:20:51.123Z text", "node1-525400000001.log")
	f.Add("x", "node999999999999.log")
	f.Add("2026-11-21T14:20:51.123Z \x1b[2J", "node1-.log")
	f.Fuzz(func(t *testing.T, line, name string) {
		if l, ok := parseLine(line); ok && strings.ContainsAny(l.Text, "\x1b\n") {
			t.Errorf("%q", l.Text)
		}
		if n, _, ok := parseName(name); ok && n < 0 {
			t.Errorf("%q is node %d", name, n)
		}
	})
}
