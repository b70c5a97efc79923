package pid1

import (
	"bytes"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// Shield keeps signals from ending the process: as PID 1 that would be a
// kernel panic. They are taken, not ignored, for a child would inherit the
// ignoring.
func Shield() {
	c := make(chan os.Signal, 1)
	signal.Notify(c, unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGPIPE)
}

// Reap buries orphans that the kernel gave to this process, until ctx ends.
//
// A child that init itself started is waited for by whoever started it, and
// must not be taken away from them. They wait in the kernel and are quicker
// than any signal, so only what has been dead for a whole interval is an
// orphan.
func Reap(ctx context.Context, interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	seen := map[int]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		seen = reapOnce(seen)
	}
}

// reapOnce buries the dead that were dead before and returns those that
// weren't.
func reapOnce(before map[int]bool) map[int]bool {
	now := map[int]bool{}
	if !anyDead() {
		return now // most of the time: a look at each process costs a slow machine a tenth of a second
	}
	for _, pid := range zombies("/proc", os.Getpid()) {
		if !before[pid] {
			now[pid] = true
			continue
		}
		var status unix.WaitStatus
		_, _ = unix.Wait4(pid, &status, unix.WNOHANG, nil) // ECHILD: its own waiter came first
	}
	return now
}

// anyDead tells whether this process has a dead child, whosever it is.
func anyDead() bool {
	var info unix.Siginfo // all zero when there is none: waitid(2)
	err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

// zombies are the dead children of parent.
func zombies(proc string, parent int) []int {
	paths, err := filepath.Glob(filepath.Join(proc, "[0-9]*/stat"))
	if err != nil {
		return nil
	}
	var out []int
	for _, p := range paths {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(p)))
		if err != nil {
			continue
		}
		b, err := os.ReadFile(p)
		if err != nil { // gone
			continue
		}
		if state, ppid := stateOf(b); state == "Z" && ppid == parent {
			out = append(out, pid)
		}
	}
	return out
}

// stateOf reads proc(5)'s "pid (name) state ppid …"; the name may hold
// anything, parentheses too.
func stateOf(stat []byte) (state string, ppid int) {
	i := bytes.LastIndexByte(stat, ')')
	if i < 0 {
		return "", 0
	}
	f := bytes.Fields(stat[i+1:])
	if len(f) < 2 {
		return "", 0
	}
	ppid, err := strconv.Atoi(string(f[1]))
	if err != nil {
		return "", 0
	}
	return string(f[0]), ppid
}
