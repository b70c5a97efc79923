package vmlab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// launcher starts programs from one thread that lives as long as the lab.
// Pdeathsig is sent when the *thread* that forked dies (prctl(2)), and the Go
// runtime ends idle threads as it likes.
type launcher struct {
	work chan func()
	done chan struct{}
	once sync.Once
}

func newLauncher() *launcher {
	l := &launcher{work: make(chan func()), done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with us
		for {
			select {
			case f := <-l.work:
				f()
			case <-l.done:
				return
			}
		}
	}()
	return l
}

var errLabClosed = errors.New("the lab is closed")

func (l *launcher) start(cmd *exec.Cmd) error {
	result := make(chan error, 1)
	select {
	case l.work <- func() { result <- cmd.Start() }:
		return <-result
	case <-l.done:
		return errLabClosed
	}
}

func (l *launcher) stop() { l.once.Do(func() { close(l.done) }) }

// Process is a program that runs inside the lab's namespace.
type Process struct {
	Name string
	Log  string // file with all it printed

	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid after done
}

// ProcessSpec says what to run.
type ProcessSpec struct {
	Name string    // of the log file
	Args []string  // program and arguments, never a shell line
	Dir  string    // working directory; empty: ours
	Env  []string  // added to our environment
	Tee  io.Writer // also gets what it prints; nil: only the log file
}

// Start runs a program in the namespace.
func (l *Lab) Start(spec ProcessSpec) (*Process, error) {
	logPath := filepath.Join(l.Config.Dir, spec.Name+".log")
	logFile, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	// ip(8) execs the program: the process id is the program's own.
	cmd := exec.Command("ip", append([]string{"netns", "exec", l.Name}, spec.Args...)...)
	cmd.Dir = spec.Dir
	cmd.Env = append(os.Environ(), spec.Env...)
	cmd.Stdout = logFile
	if spec.Tee != nil {
		cmd.Stdout = io.MultiWriter(logFile, spec.Tee)
	}
	cmd.Stderr = cmd.Stdout
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a Ctrl-C at the terminal is ours to pass on
	}
	cmd.WaitDelay = 5 * time.Second // a grandchild may hold the pipe

	// Under the lock, so that Close either sees the process or forbids it.
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		logFile.Close()
		return nil, errLabClosed
	}
	if err := l.threads.start(cmd); err != nil {
		logFile.Close()
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{Name: spec.Name, Log: logPath, cmd: cmd, done: make(chan struct{})}
	l.procs = append(l.procs, p)
	go func() { // ends when the program does
		p.err = cmd.Wait()
		logFile.Close()
		close(p.done)
	}()
	l.Log.Debug("started", "process", spec.Name, "pid", cmd.Process.Pid, "args", spec.Args)
	return p, nil
}

// Done is closed when the program has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Pid is the program's process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Wait waits for the program's end; nil means exit status 0.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		if p.err != nil {
			return fmt.Errorf("%s: %w", p.Name, p.err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", p.Name, context.Cause(ctx))
	}
}

// Interrupt asks the program to end, as Ctrl-C would, and kills it when it
// has not ended after grace.
func (p *Process) Interrupt(grace time.Duration) {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGINT)
	select {
	case <-p.done:
	case <-time.After(grace):
		p.Kill()
	}
}

// Kill ends the program and what it started in its process group.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done // at most WaitDelay after the kill
}
