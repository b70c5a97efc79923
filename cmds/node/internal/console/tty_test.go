package console

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestMain is also the program that hangs its terminal up. On a serial line
// the kernel does so itself when any session leader ends; on a pseudo
// terminal it has to be asked (drivers/tty/tty_jobctrl.c, disassociate_ctty).
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "hangup" {
		signal.Ignore(unix.SIGHUP)
		fmt.Println("hello")
		time.Sleep(100 * time.Millisecond) // what the other end hasn't read is lost
		if _, _, errno := unix.Syscall(unix.SYS_VHANGUP, 0, 0, 0); errno != 0 {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// newPTY is a terminal whose other end the test reads.
func newPTY(t *testing.T) (other *os.File, path string) {
	t.Helper()
	other, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { other.Close() })
	if err := unix.IoctlSetPointerInt(int(other.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(other.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return other, fmt.Sprintf("/dev/pts/%d", n)
}

// A program that had the console for its terminal has it hung up when it
// ends; what init says afterwards must be seen all the same, and so must
// what it runs next.
func TestLinesAfterAProgram(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to hang up a terminal")
	}
	other, path := newPTY(t)
	keep, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0) // a pty without a holder reads as closed
	if err != nil {
		t.Fatal(err)
	}
	defer keep.Close()
	out, err := openTTY(path)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := New(out)
	c.tty = path
	lines := make(chan string, 16)
	go func() { // ends when the test closes the other end
		defer close(lines)
		for in := bufio.NewReader(other); ; {
			line, err := in.ReadString('\n')
			if line != "" {
				lines <- strings.TrimSpace(line)
			}
			if err != nil && line == "" && t.Context().Err() != nil {
				return
			}
			if err != nil {
				time.Sleep(5 * time.Millisecond) // EIO between hang-up and the next open
			}
		}
	}()
	expect := func(want string) {
		t.Helper()
		select {
		case got := <-lines:
			if got != want {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("never saw %q", want)
		}
	}
	c.Line("before")
	expect("before")
	for range 2 {
		if err := c.Run(t.Context(), self, "hangup"); err != nil {
			t.Fatal(err)
		}
		expect("hello")
		if _, err := keep.Write([]byte("x")); err == nil {
			t.Fatal("the terminal wasn't hung up: this test shows nothing")
		}
		c.Line("after")
		expect("after")
	}
	c.Drain(time.Second)
}
