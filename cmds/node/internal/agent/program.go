package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/kamethod/kamethod/golden/wire"
)

// Times of a program.
const (
	killAfter  = 2 * time.Second        // from SIGTERM to SIGKILL
	stuckAfter = 5 * time.Second        // from SIGKILL until a program that is still there is given up: it hangs in the kernel
	drainQuiet = 500 * time.Millisecond // a child that it leaves behind may hold its output open: so long without a word ends that
)

// Why a program was ended.
var (
	errCancelled = errors.New("ended by the administrator")
	errOrphan    = fmt.Errorf("ended: nobody has asked for its output for %s", orphanAfter)
)

// runProgram runs a program to its end, and spools what it says. It has no
// standard input, and is ended with its children when ctx is.
func runProgram(ctx context.Context, argv []string, out *spool) {
	exit := execute(ctx, argv, out)
	_ = out.put(context.WithoutCancel(ctx), wire.ExecFrame{Exit: &exit}) // the last one always has room
}

func execute(ctx context.Context, argv []string, out *spool) wire.ExecExit {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = environ()
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var exited atomic.Bool
	var readers sync.WaitGroup
	var ends []*os.File
	for _, stream := range []struct {
		to  *io.Writer
		err bool
	}{{&cmd.Stdout, false}, {&cmd.Stderr, true}} {
		r, w, err := os.Pipe()
		if err != nil {
			return wire.ExecExit{Code: 126, Error: err.Error()}
		}
		defer r.Close()
		defer w.Close()
		*stream.to = w
		ends = append(ends, r, w)
		readers.Go(func() { spoolFrom(ctx, r, stream.err, &exited, out) }) // ends with the pipe, or with ctx
	}
	closeAll := func(from int) {
		for i := from; i < len(ends); i += 2 {
			ends[i].Close()
		}
	}
	if err := cmd.Start(); err != nil {
		closeAll(1)
		readers.Wait()
		return wire.ExecExit{Code: startCode(err), Error: err.Error()}
	}
	closeAll(1)
	ended := make(chan struct{})
	var killer sync.WaitGroup
	killer.Go(func() { end(ctx, cmd.Process.Pid, ended) })
	waited := make(chan error, 1)
	go func() { waited <- cmd.Wait() }() // ends with the program, whenever the kernel lets it
	over, err := await(ctx, waited)
	close(ended)
	killer.Wait()
	exited.Store(true)
	for i := 0; i < len(ends); i += 2 {
		_ = ends[i].SetReadDeadline(time.Now().Add(drainQuiet)) // a pipe of ours has deadlines
	}
	readers.Wait()
	if !over {
		return wire.ExecExit{Code: 128 + int(syscall.SIGKILL), Error: fmt.Sprintf("%v; process %d does not end, even when it is killed", context.Cause(ctx), cmd.Process.Pid)}
	}
	return howEnded(ctx, cmd, err)
}

// await waits for a program's end, or until it should long have ended.
func await(ctx context.Context, waited <-chan error) (over bool, err error) {
	select {
	case err = <-waited:
		return true, err
	case <-ctx.Done():
	}
	select {
	case err = <-waited:
		return true, err
	case <-time.After(killAfter + stuckAfter):
		return false, nil
	}
}

// environ is init's, or what init would give.
func environ() []string {
	if os.Getenv("PATH") != "" {
		return os.Environ()
	}
	return console.Environ()
}

// startCode is a shell's for a program that doesn't start (POSIX, 2.8.2).
func startCode(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
		return 127
	}
	return 126
}

func howEnded(ctx context.Context, cmd *exec.Cmd, err error) wire.ExecExit {
	var x wire.ExecExit
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && st.Signaled() {
		x.Signal = st.Signal().String()
		x.Code = 128 + int(st.Signal()) // as a shell has it
	} else {
		x.Code = cmd.ProcessState.ExitCode()
	}
	var status *exec.ExitError
	switch cause := context.Cause(ctx); {
	case cause != nil:
		x.Error = cause.Error()
		if x.Code == 0 {
			x.Code = 1
		}
	case err != nil && !errors.As(err, &status):
		x.Error = err.Error()
	}
	return x
}

// end kills the program and its children when ctx ends before it has.
func end(ctx context.Context, pid int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-ctx.Done():
	}
	_ = syscall.Kill(-pid, syscall.SIGTERM) // it may have ended just now
	select {
	case <-ended:
	case <-time.After(killAfter):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// spoolFrom reads what a program says until it closes its end, or has ended and
// left the end to a child that says nothing.
func spoolFrom(ctx context.Context, r *os.File, isErr bool, exited *atomic.Bool, out *spool) {
	for {
		if exited.Load() {
			_ = r.SetReadDeadline(time.Now().Add(drainQuiet))
		}
		b := make([]byte, wire.MaxExecOut)
		began := time.Now()
		n, err := r.Read(b)
		if n > 0 && out.put(ctx, wire.ExecFrame{Out: b[:n], Err: isErr}) != nil {
			return
		}
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !late || late && time.Since(began) >= drainQuiet/2 {
			return
		}
	}
}
