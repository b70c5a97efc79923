package fixup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadline is for one program. An initrd takes half a minute on a machine of
// today; an emulated one is 30 times slower.
const deadline = 15 * time.Minute

// searchPath is where the clone's programs are, as Debian's root has it.
const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// chroot runs the clone's own programs in the clone. It is opened by the first
// program and closed once; between the two the clone has a /dev with its own
// disks and no other, the node's /proc and /sys, and an empty /run.
type chroot struct {
	// config
	tree *tree
	log  *slog.Logger
	vols volumes
	stk  stack

	// state
	opened bool
	mounts []string // on the node, in the order made
}

// open makes the mounts, if they aren't made yet: all or none.
func (c *chroot) open() error {
	if c.opened {
		return nil
	}
	if err := c.mount(); err != nil {
		return errors.Join(err, c.close())
	}
	c.opened = true
	return nil
}

func (c *chroot) mount() error {
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
		data                 string
	}{
		{"tmpfs", "/dev", "tmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
		{"/proc", "/proc", "", unix.MS_BIND, ""},
		{"/sys", "/sys", "", unix.MS_BIND, ""},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
	} {
		if err := c.tree.mkdir(m.target); err != nil {
			return err
		}
		p, err := c.tree.resolve(m.target, true)
		if err != nil {
			return err
		}
		on := filepath.Join(c.tree.path, p)
		if err := unix.Mount(m.source, on, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mount %s on %s: %w", m.source, on, err)
		}
		c.mounts = append(c.mounts, on)
	}
	return c.makeNodes(c.mounts[0])
}

// close undoes the mounts, whoever may still use them.
func (c *chroot) close() error {
	var errs []error
	for i := len(c.mounts) - 1; i >= 0; i-- {
		on := c.mounts[i]
		err := unix.Unmount(on, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			c.log.Warn("still in use, detached", "mount", on)
			err = unix.Unmount(on, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("unmount %s: %w", on, err))
		}
	}
	c.mounts, c.opened = nil, false
	return errors.Join(errs...)
}

// run runs a program of the clone to its end. What it says is logged, and the
// end of it is in the error.
func (c *chroot) run(ctx context.Context, program string, args ...string) error {
	_, err := c.ask(ctx, "", program, args...)
	return err
}

// ask is run with something to read for the program, and what it said.
func (c *chroot) ask(ctx context.Context, stdin, program string, args ...string) (said string, err error) {
	bin, ok := c.tree.program(program)
	if !ok {
		return "", fmt.Errorf("run %s: the clone has no such program", program)
	}
	if err := c.open(); err != nil {
		return "", err
	}
	return c.start(ctx, stdin, nil, program, bin, args...)
}

// exec runs a file of the clone, under the name by which it is shown, with
// more in its environment. The chroot is open.
func (c *chroot) exec(ctx context.Context, program string, env []string, bin string, args ...string) error {
	_, err := c.start(ctx, "", env, program, bin, args...)
	return err
}

func (c *chroot) start(ctx context.Context, stdin string, env []string, program, bin string, args ...string) (said string, err error) {
	shown := strings.Join(append([]string{program}, args...), " ")
	ctx, stop := context.WithTimeoutCause(ctx, deadline, fmt.Errorf("not done after %v", deadline))
	defer stop()
	out := &lineLog{log: c.log.With("program", program)}
	cmd := exec.CommandContext(ctx, bin, args...)
	cmd.Dir = "/"
	cmd.Env = []string{
		"PATH=" + searchPath, "HOME=/root", "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive",
		"SYSTEMD_RELAX_ESP_CHECKS=1", // bootctl would ask udev, which isn't here
	}
	cmd.Env = append(cmd.Env, env...)
	if stdin != "" {
		cmd.Stdin = strings.NewReader(stdin)
	}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: c.tree.path, Setpgid: true}
	cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
	cmd.WaitDelay = 10 * time.Second
	c.log.Info("run in the clone", "command", shown)
	err = cmd.Run()
	if cmd.Process != nil { // what it left behind would keep the mounts busy
		_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	}
	out.flush()
	if ctx.Err() != nil {
		return "", fmt.Errorf("run %s: %w%s", shown, context.Cause(ctx), out.end())
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", fmt.Errorf("run %s: %w%s", shown, err, out.end())
	}
	return out.all.String(), nil
}

// program finds an executable of the clone, by its name there.
func (t *tree) program(name string) (string, bool) {
	for dir := range strings.SplitSeq(searchPath, ":") {
		p := path.Join(dir, name)
		if fi, err := t.stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			return p, true
		}
	}
	return "", false
}

const (
	maxLine = 4 << 10 // bytes of a program's line that are kept
	maxTail = 20      // lines of a program that an error quotes
	maxSaid = 1 << 20 // bytes of all that it says
)

// lineLog logs what a program writes, line by line, and remembers the last.
type lineLog struct {
	// config
	log *slog.Logger

	// state
	part []byte
	tail []string
	all  strings.Builder
}

// Write implements io.Writer; exec calls it from one goroutine.
func (l *lineLog) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == '\n' || b == '\r':
			l.flush()
		case len(l.part) < maxLine:
			l.part = append(l.part, b)
		}
	}
	return len(p), nil
}

func (l *lineLog) flush() {
	if len(l.part) == 0 {
		return
	}
	line := string(l.part)
	l.part = l.part[:0]
	l.log.Info(line)
	if l.all.Len() < maxSaid {
		l.all.WriteString(line + "\n")
	}
	if l.tail = append(l.tail, line); len(l.tail) > maxTail {
		l.tail = l.tail[1:]
	}
}

// end is how an error quotes the program.
func (l *lineLog) end() string {
	if len(l.tail) == 0 {
		return ""
	}
	return "; it said:\n\t" + strings.Join(l.tail, "\n\t")
}
