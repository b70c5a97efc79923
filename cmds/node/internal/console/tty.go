package console

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// tty is a terminal that is opened again when it was hung up: the kernel
// does that to everybody who has it open when a session leader on it ends,
// and each shell is one (drivers/tty/tty_io.c, __tty_hangup).
type tty struct {
	path string
	f    *os.File
}

func openTTY(path string) (*tty, error) {
	t := &tty{path: path}
	return t, t.open()
}

func (t *tty) open() error {
	f, err := os.OpenFile(t.path, os.O_WRONLY|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open console: %w", err)
	}
	if t.f != nil {
		t.f.Close()
	}
	t.f = f
	return nil
}

// Write writes a whole line, on a fresh file where the old one is dead.
func (t *tty) Write(b []byte) (int, error) {
	n, err := t.f.Write(b)
	if err == nil {
		return n, nil
	}
	if err := t.open(); err != nil {
		return n, err
	}
	m, err := t.f.Write(b[n:])
	return n + m, err
}

// drain waits until all was sent, like tcdrain(3).
func (t *tty) drain() {
	_ = unix.IoctlSetInt(int(t.f.Fd()), unix.TCSBRK, 1) // dead, or no terminal: nothing to wait for
}

// settings are a terminal's, to be put back after a program that is killed
// left it as its line editor wanted it.
func settings(path string) *unix.Termios {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	s, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	if err != nil {
		return nil
	}
	return s
}

func putBack(path string, s *unix.Termios) {
	if s == nil {
		return
	}
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	_ = unix.IoctlSetTermios(int(f.Fd()), unix.TCSETS, s)
}
