package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// run is one program, of one exec. It outlasts those who ask for its output: a
// node on the way may die, and golden asks itself then.
type run struct {
	serial uint64
	spool  *spool
	asked  context.Context    // ends with the agent
	leave  context.CancelFunc // ends that
	going  context.Context    // ends when the program is to end; its cause says why
	stop   context.CancelCauseFunc

	mu     sync.Mutex
	asking int       // who waits for its output
	since  time.Time // when the last one went
	ended  time.Time
}

// errOld is an order that may have been carried out.
var errOld = errors.New("exec order: an old one")

// take finds the run of an order, or starts it: once, however often the order
// comes.
func (a *Agent) take(o wire.ExecOrder) (*run, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if r := a.runs[o.Serial]; r != nil {
		return r, nil
	}
	if o.Serial <= a.floor {
		return nil, errOld
	}
	a.forget()
	r := a.newRun(o.Serial)
	going := 0
	for _, other := range a.runs {
		if !other.isOver() {
			going++
		}
	}
	if going > maxRuns {
		return r, a.refuse(r, fmt.Sprintf("%d programs run here already", maxRuns))
	}
	a.tasks.Go(func() { // ends with the program, which has a limit
		limit := time.Duration(o.Limit) * time.Second
		ctx, cancel := context.WithTimeoutCause(r.going, limit, fmt.Errorf("ended: it took longer than %s", limit))
		defer cancel()
		stop := r.watch(ctx)
		runProgram(ctx, o.Argv, r.spool)
		stop()
		r.mu.Lock()
		r.ended = time.Now()
		r.mu.Unlock()
	})
	return r, nil
}

// newRun has the lock held.
func (a *Agent) newRun(serial uint64) *run {
	r := &run{serial: serial, spool: newSpool(), since: time.Now()}
	r.asked, r.leave = context.WithCancel(context.Background())
	r.going, r.stop = context.WithCancelCause(context.Background())
	a.runs[serial] = r
	return r
}

// refuse has a run end before it has begun.
func (a *Agent) refuse(r *run, why string) error {
	r.ended = time.Now()
	return r.spool.put(context.Background(), wire.ExecFrame{Exit: &wire.ExecExit{Code: 126, Error: why}})
}

// cancelRun ends a program, also one whose order is still on its way.
func (a *Agent) cancelRun(serial uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	r := a.runs[serial]
	switch {
	case r != nil:
		r.stop(errCancelled)
	case serial > a.floor:
		a.forget()
		if err := a.refuse(a.newRun(serial), errCancelled.Error()); err != nil {
			a.Log.Warn("cancel", "exec", serial, "err", err)
		}
	}
}

// forget drops runs that ended long ago, and the oldest of too many.
func (a *Agent) forget() {
	var over []*run
	for _, r := range a.runs {
		if r.isOver() {
			over = append(over, r)
		}
	}
	slices.SortFunc(over, func(x, y *run) int { return cmp.Compare(x.serial, y.serial) })
	for i, r := range over {
		if time.Since(r.endedAt()) > keepAfter || len(over)-i > maxKept {
			r.leave()
			delete(a.runs, r.serial)
			a.floor = max(a.floor, r.serial)
		}
	}
}

func (r *run) endedAt() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ended
}

func (r *run) isOver() bool { return !r.endedAt().IsZero() }

// ask counts who waits for the output.
func (r *run) ask(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asking += by
	r.since = time.Now()
}

// watch ends a program that nobody asks for any more.
func (r *run) watch(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(orphanAfter / 12)
		defer t.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
			r.mu.Lock()
			orphan := r.asking == 0 && time.Since(r.since) > orphanAfter
			r.mu.Unlock()
			if orphan {
				r.stop(errOrphan)
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}
