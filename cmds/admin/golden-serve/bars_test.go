package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hinshun/vt10x"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
)

// terminal is a real one of 80 by 24, as the kernel has it, and an emulator
// that says what stands on it.
func terminal(t *testing.T) (tty *os.File, shows vt10x.Terminal) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err := errors.Join(err, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0),
		unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80})); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tty.Close() })
	shows = vt10x.New(vt10x.WithSize(80, 24))
	go io.Copy(shows, master) // ends when both ends are closed
	return tty, shows
}

// sending is a transfer to nodes that have so much of 1000 bytes.
func sending(stored ...int64) golden.Status {
	s := golden.Status{Phase: "sending the golden node", Progress: chain.Progress{Bytes: 1000, Lap: 2}}
	for i, n := range stored {
		s.Nodes = append(s.Nodes, golden.NodeStatus{Number: i + 1, Name: fmt.Sprintf("n%d", i+1), State: status.Receiving, Stored: n})
	}
	return s
}

func waitScreen(t *testing.T, shows vt10x.Terminal, ok func(lines []string) bool) {
	t.Helper()
	var lines []string
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lines = strings.Split(strings.TrimRight(shows.String(), "\n \x00"), "\n")
		for i, l := range lines {
			lines[i] = strings.TrimRight(l, " \x00")
		}
		if ok(lines) {
			return
		}
	}
	t.Errorf("on the terminal is\n%s", strings.Join(lines, "\n"))
}

func last(lines []string, n int) []string { return lines[max(0, len(lines)-n):] }

// Bars stand below what is logged, go while a question is put, and leave
// nothing behind.
func TestBars(t *testing.T) {
	tty, shows := terminal(t)
	s := newScreen(tty, 24)
	s.watch(sending(500, 250))
	waitScreen(t, shows, func(l []string) bool {
		l = last(l, 3)
		return len(l) == 3 && strings.HasPrefix(l[0], "sending the golden node  █") && strings.Contains(l[0], "  37 % lap 2, ") &&
			strings.HasPrefix(l[1], "node 1 n1 ") && strings.HasSuffix(l[1], "50 %") && strings.HasSuffix(l[2], "25 %")
	})
	for i := range 40 {
		fmt.Fprintf(s, "line %d\n", i)
	}
	s.watch(sending(1000, 600))
	waitScreen(t, shows, func(l []string) bool {
		text := strings.Join(l, "\n")
		return strings.Contains(text, "line 38\nline 39\nsending") && strings.HasSuffix(text, "60 %") && strings.Contains(text, "1 of 2 have all")
	})
	_ = s.ask(func() error {
		fmt.Fprint(tty, "Type yes to go on: ")
		s.watch(sending(1000, 700))
		time.Sleep(2 * barEvery)
		waitScreen(t, shows, func(l []string) bool {
			return strings.HasSuffix(strings.Join(l, "\n"), "line 39\nType yes to go on:")
		})
		fmt.Fprintln(tty)
		return nil
	})
	s.watch(sending(1000, 800))
	waitScreen(t, shows, func(l []string) bool { return strings.HasSuffix(l[len(l)-1], "80 %") })
	s.watch(sending(1000, 1000))
	s.stop()
	fmt.Fprintln(s, "all done")
	waitScreen(t, shows, func(l []string) bool { return strings.HasSuffix(strings.Join(l, "\n"), "Type yes to go on:\nall done") })
}

// A room full of nodes has those on the screen that lack most, and only so many.
func TestBarRows(t *testing.T) {
	var stored []int64
	for i := range int64(300) {
		stored = append(stored, 1000-i)
	}
	s := sending(stored...)
	s.Nodes[299].State = status.Failed
	rows := barRows(s, 0, 4)
	want := []string{"sending the golden node", "node 297 n297", "node 298 n298", "node 299 n299"}
	for i, r := range rows {
		if i >= len(want) || r.left != want[i] {
			t.Errorf("row %d is %q", i, r.left)
		}
	}
	if len(rows) != len(want) || !strings.Contains(rows[0].right, "1 of 299 have all") {
		t.Errorf("%d rows, %q", len(rows), rows[0].right)
	}
	for _, empty := range []golden.Status{{}, sending(), sending(1000, 1000)} {
		if rows := barRows(empty, 0, 9); rows != nil {
			t.Errorf("bars for %+v", empty)
		}
	}
	if barRows(s, 0, 0) != nil || barRows(s, 0, -3) != nil {
		t.Error("bars on a terminal without room")
	}
}
