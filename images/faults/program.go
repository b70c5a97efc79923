package faults

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// build makes the programs, in a folder.
func build(dir, tags string) error {
	args := []string{"build", "-o", dir + "/"}
	if tags != "" {
		args = append(args, "-tags", tags)
	}
	out, err := exec.Command("go", append(args, "github.com/kamethod/kamethod/cmds/admin/golden-serve",
		"github.com/kamethod/kamethod/cmds/node/stage1/karecv")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	return nil
}

// Program is one that runs in a namespace.
type Program struct {
	cmd   *exec.Cmd
	Out   *Output
	began time.Time
	done  chan struct{}
}

func start(s *Space, dir string, env []string, prog string, args ...string) (*Program, error) {
	p := &Program{cmd: exec.Command(prog, args...), Out: &Output{}, began: time.Now(), done: make(chan struct{})}
	p.cmd.Env, p.cmd.Dir = append(os.Environ(), env...), dir
	p.cmd.Stdout, p.cmd.Stderr = p.Out, p.Out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.Do(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", prog, err)
	}
	go func() { p.cmd.Wait(); close(p.done) }() // ends with the program
	return p, nil
}

// Pid of the program.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal; to a program that has ended it is none.
func (p *Program) Signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

// Ended tells whether the program has.
func (p *Program) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// Wait gives the exit status, -1 of a program that a signal killed; ok is
// false when it hasn't ended in time.
func (p *Program) Wait(limit time.Duration) (status int, ok bool) {
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode(), true
	case <-time.After(limit):
		return 0, false
	}
}

func (p *Program) kill() {
	p.cmd.Process.Kill()
	<-p.done
}

// Output is what a program says, each line with its time.
type Output struct {
	mu    sync.Mutex
	rest  []byte
	lines []line
}

type line struct {
	at   time.Time
	text string
}

func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.rest = append(o.rest, b...)
	for {
		i := bytes.IndexByte(o.rest, '\n')
		if i < 0 {
			return len(b), nil
		}
		o.lines = append(o.lines, line{time.Now(), string(o.rest[:i])})
		o.rest = o.rest[i+1:]
	}
}

// Said is when a text first came, after a time.
func (o *Output) Said(text string, after time.Time) (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.lines {
		if !l.at.Before(after) && strings.Contains(l.text, text) {
			return l.at, true
		}
	}
	return time.Time{}, false
}

// each calls f with every line so far.
func (o *Output) each(f func(time.Time, string)) {
	o.mu.Lock()
	lines := o.lines
	o.mu.Unlock()
	for _, l := range lines {
		f(l.at, l.text)
	}
}

// log prints the lines with seconds since a time.
func (o *Output) log(name string, since time.Time) string {
	var b strings.Builder
	o.each(func(at time.Time, text string) {
		fmt.Fprintf(&b, "%8.3f %s: %s\n", at.Sub(since).Seconds(), name, text)
	})
	return b.String()
}
