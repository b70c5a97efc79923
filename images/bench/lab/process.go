package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Command is a program to run on a host.
type Command struct {
	Prog   string
	Args   []string
	Env    []string // beside this process's own
	Stdin  *os.File // closed here once the program has it
	Stdout *os.File // the same; nil: kept with stderr
	Limit  time.Duration
	// Ask it to end (SIGTERM), and kill it after a second only: it has
	// children that it ends itself.
	Ask bool
}

// Process is a program that runs.
type Process struct {
	Name  string
	Begun time.Time
	Ended time.Time // valid when Wait has returned

	cmd    *exec.Cmd
	cancel context.CancelFunc
	out    *transcript
	done   chan struct{}
	err    error
}

// defaultLimit is when a program that doesn't end is killed.
const defaultLimit = 10 * time.Minute

// Start runs a program on a host. It is killed when the context ends, when
// its time is over, or when this process dies.
func (r *Room) Start(ctx context.Context, host int, c Command) (*Process, error) {
	if c.Limit == 0 {
		c.Limit = defaultLimit
	}
	ctx, cancel := context.WithTimeout(ctx, c.Limit)
	p := &Process{Name: c.Prog, cancel: cancel, out: &transcript{}, done: make(chan struct{})}
	// ip netns exec replaces itself by the program: the process is the program.
	p.cmd = exec.CommandContext(ctx, "ip", append([]string{"netns", "exec", r.hosts[host], c.Prog}, c.Args...)...)
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Dir, p.cmd.Stderr, p.cmd.Stdout = r.Dir, p.out, p.out
	p.cmd.WaitDelay = time.Second
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if c.Ask {
		p.cmd.Cancel = func() error { return p.cmd.Process.Signal(syscall.SIGTERM) }
	}
	if c.Stdin != nil {
		p.cmd.Stdin = c.Stdin
		defer c.Stdin.Close()
	}
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
		defer c.Stdout.Close()
	}
	p.Begun = time.Now()
	if err := p.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", c.Prog, err)
	}
	go p.watch() // ends with done
	go func() {
		err := p.cmd.Wait()
		p.Ended = time.Now()
		if ctx.Err() != nil {
			err = errors.Join(err, fmt.Errorf("after %v: %w", p.Ended.Sub(p.Begun).Round(time.Second), ctx.Err()))
		}
		p.err = err
		cancel()
		close(p.done)
	}()
	return p, nil
}

// watch keeps the largest resident memory. It is asked again and again since
// it is gone with the process, and rusage's figure has this process's in it.
func (p *Process) watch() {
	// Often at first, so that a short life is seen; then so seldom that asking
	// costs nothing.
	for every := 5 * time.Millisecond; ; every = min(2*every, 50*time.Millisecond) {
		select {
		case <-p.done:
			return
		case <-time.After(every):
			if n, err := field(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid), "VmHWM:"); err == nil {
				p.out.setPeak(n)
			}
		}
	}
}

// Expect waits until the program has printed a text and says when it did.
func (p *Process) Expect(ctx context.Context, text string, limit time.Duration) (time.Time, error) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	for end := time.Now().Add(limit); ; {
		if at, ok := p.out.when(text); ok {
			return at, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, ctx.Err()
		case <-p.done:
			if at, ok := p.out.when(text); ok {
				return at, nil
			}
			return time.Time{}, fmt.Errorf("%s ended without %q: %w:\n%s", p.Name, text, p.err, p.Output())
		case <-t.C:
		}
		if time.Now().After(end) {
			return time.Time{}, fmt.Errorf("%s has not said %q within %v:\n%s", p.Name, text, limit, p.Output())
		}
	}
}

// Wait waits for the program's end. Its time limit bounds it.
func (p *Process) Wait() error {
	<-p.done
	if p.err != nil {
		return fmt.Errorf("%s: %w:\n%s", p.Name, p.err, p.Output())
	}
	return nil
}

// Stop kills the program unless it has ended, and waits.
func (p *Process) Stop() {
	p.cancel()
	<-p.done
}

// Output is what the program has printed.
func (p *Process) Output() string { return strings.TrimSpace(p.out.text()) }

// CPU is what the program used, user and system, and the children that it
// waited for; valid when Wait has returned.
func (p *Process) CPU() time.Duration {
	s := p.cmd.ProcessState
	return s.UserTime() + s.SystemTime()
}

// Peak is the largest resident memory that was seen, in bytes.
func (p *Process) Peak() int64 {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	return p.out.peak
}

// transcript is what a program printed, and when.
type transcript struct {
	mu     sync.Mutex
	b      bytes.Buffer
	chunks []chunk
	peak   int64
}

type chunk struct {
	end int
	at  time.Time
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := t.b.Write(p)
	t.chunks = append(t.chunks, chunk{t.b.Len(), time.Now()})
	return n, err
}

func (t *transcript) when(text string) (time.Time, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := bytes.Index(t.b.Bytes(), []byte(text))
	if i < 0 {
		return time.Time{}, false
	}
	for _, c := range t.chunks {
		if c.end > i {
			return c.at, true
		}
	}
	return time.Time{}, false
}

func (t *transcript) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func (t *transcript) setPeak(n int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.peak = max(t.peak, n)
}

// Run runs a short program on a host.
func (r *Room) Run(ctx context.Context, host int, prog string, args ...string) error {
	return run(ctx, "ip", append([]string{"netns", "exec", r.hosts[host], prog}, args...)...)
}
