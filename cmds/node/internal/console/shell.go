package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Environ is what programs started by init have for an environment.
func Environ() []string {
	return []string{"PATH=/bbin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "TERM=linux", "SHELL=/bbin/gosh"}
}

// shells are tried in this order; stage 2 may bring the machine's own.
func shells() []string { return []string{"/bbin/gosh", "/bin/bash", "/bin/sh"} }

// ErrNoShell says that the image has no shell in it.
var ErrNoShell = errors.New("this image has no shell")

// Shell runs a shell on the console until the person leaves it.
func (c *Console) Shell(ctx context.Context) error {
	for _, path := range shells() {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		return c.run(ctx, path)
	}
	return ErrNoShell
}

// Run runs a program with the console as its terminal, so that Ctrl-C reaches
// it and not init.
func (c *Console) Run(ctx context.Context, path string, args ...string) error {
	return c.run(ctx, path, args...)
}

func (c *Console) run(ctx context.Context, path string, args ...string) error {
	tty, err := os.OpenFile(c.tty, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return fmt.Errorf("open console for %s: %w", path, err)
	}
	defer tty.Close()
	before := settings(c.tty)
	defer putBack(c.tty, before)
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.Env = Environ()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", path, err)
	}
	return nil
}

// Break gives a shell in the middle of things; leaving it goes on.
func (c *Console) Break(ctx context.Context, why string) {
	c.Line("%s: a shell; leave it (exit) to go on", why)
	if err := c.Shell(ctx); err != nil {
		c.Line("the shell ended: %v", err)
	}
}

// Rescue keeps a shell for ever: it comes back when it is left. A console
// that nobody reads makes the shell end at once, so the pauses grow.
func (c *Console) Rescue(ctx context.Context, why string) {
	c.Line("%s", why)
	wait := time.Second
	for ctx.Err() == nil {
		c.Line("rescue shell; to start again type: shutdown -r")
		start := time.Now()
		if err := c.Shell(ctx); err != nil {
			c.Line("the shell ended: %v", err)
		}
		if time.Since(start) > time.Minute {
			wait = time.Second
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, time.Minute)
	}
}
