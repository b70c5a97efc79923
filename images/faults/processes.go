package faults

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

var errNobody = errors.New("no node is left to do it to")

// Killed is count neighbours whose processes are killed at once, from a place
// in the chain (Anywhere, 0 the first, -1 the last). Faults #1 and #11 to #14.
func Killed(name string, from, count int, promise time.Duration) Fault {
	return Fault{Name: name, Promise: promise, Nodes: count + 2, Inject: func(ctx context.Context, r *Run) error {
		nodes := r.Take(from, count, Fails)
		if nodes == nil {
			return errNobody
		}
		for _, n := range nodes {
			n.Signal(syscall.SIGKILL)
			r.Did("%s is killed", n)
		}
		return nil
	}}
}

// KilledHereAndThere is a tenth of all nodes at once, wherever they stand. #12
func KilledHereAndThere() Fault {
	return Fault{Name: "a tenth of all killed at once", Promise: 15 * time.Second, Nodes: 5, Inject: func(ctx context.Context, r *Run) error {
		for range max(2, r.Shape.Nodes/10) {
			nodes := r.Take(Anywhere, 1, Fails)
			if nodes == nil {
				return errNobody
			}
			nodes[0].Signal(syscall.SIGKILL)
			r.Did("%s is killed", nodes[0])
		}
		return nil
	}}
}

// Hung is a process that stands still for ever. #3
func Hung() Fault {
	return Fault{Name: "hung", Promise: 8 * time.Second, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Fails)
		if n == nil {
			return errNobody
		}
		n[0].Left = true
		n[0].Signal(syscall.SIGSTOP)
		r.Did("%s hangs", n[0])
		return nil
	}}
}

// HungAndBack is a process that stands still for so long that it has been cut
// out, and then goes on. #4
func HungAndBack() Fault {
	return Fault{Name: "hung and going on", Promise: 8 * time.Second, To: 0.2, Bytes: 200 << 20, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Finishes)
		if n == nil {
			return errNobody
		}
		n[0].Slow = true
		n[0].Signal(syscall.SIGSTOP)
		r.Did("%s hangs", n[0])
		r.Sleep(ctx, 8*time.Second)
		n[0].Signal(syscall.SIGCONT)
		r.Did("%s goes on", n[0])
		return nil
	}}
}

// HungBriefly is a pause that is shorter than what counts as gone.
func HungBriefly() Fault {
	return Fault{Name: "hung for a second", Promise: 3 * time.Second, Inject: func(ctx context.Context, r *Run) error {
		n := r.Take(Anywhere, 1, Finishes)
		if n == nil {
			return errNobody
		}
		n[0].Signal(syscall.SIGSTOP)
		r.Did("%s hangs", n[0])
		r.Sleep(ctx, time.Second)
		n[0].Signal(syscall.SIGCONT)
		return nil
	}}
}

// Rebooted is a machine that is reset and comes back, with an empty disk or
// with what it had. #10
func Rebooted(blank bool) Fault {
	f := Fault{Name: "rebooted with its disk", Promise: 8 * time.Second, To: 0.5, Bytes: 120 << 20}
	if blank {
		f.Name = "rebooted with an empty disk"
	}
	f.Inject = func(ctx context.Context, r *Run) error {
		nodes := r.Take(Anywhere, 1, Finishes)
		if nodes == nil {
			return errNobody
		}
		n := nodes[0]
		n.Slow = true
		n.Signal(syscall.SIGKILL)
		r.Did("%s is reset", n)
		n.prog.Wait(5 * time.Second)
		if blank {
			n.blank()
		}
		r.Sleep(ctx, time.Duration(r.rand(50).IntN(2000))*time.Millisecond)
		if r.Golden().Ended() {
			return fmt.Errorf("golden did not wait for %s", n)
		}
		r.Did("%s is back", n)
		return r.Start(n)
	}
	return f
}

// GoldenKilled is golden's end without a word: every node says so within 10 s. #15
func GoldenKilled() Fault {
	return Fault{Name: "golden killed for good", Alone: true, Inject: func(ctx context.Context, r *Run) error {
		for _, n := range r.Nodes {
			n.Want, n.Left = Fails, true
		}
		r.NoStart = true // there is no report
		at := time.Now()
		r.Golden().Signal(syscall.SIGKILL)
		r.Did("golden is killed")
		r.Sleep(ctx, 10*time.Second)
		for _, n := range r.Nodes {
			if _, ok := n.prog.Out.Said("golden lost", at); !ok {
				r.Break("%s has not said \"golden lost\" within 10 s", n)
			}
			if n.prog.Ended() && n.prog.cmd.ProcessState.ExitCode() == 0 {
				r.Break("%s says that all is there", n)
			}
		}
		return nil
	}}
}

// GoldenRestarted is golden's end, and golden again a little later: the
// deployment goes on. #15
func GoldenRestarted() Fault {
	return Fault{Name: "golden killed and started again", Alone: true, Promise: 20 * time.Second, Bytes: 120 << 20, Inject: func(ctx context.Context, r *Run) error {
		at := time.Now()
		r.Golden().Signal(syscall.SIGKILL)
		r.Did("golden is killed")
		r.Golden().Wait(5 * time.Second)
		r.Sleep(ctx, time.Duration(1+r.rand(50).IntN(6))*time.Second)
		r.Did("golden starts again")
		if err := r.StartGolden(); err != nil {
			return err
		}
		g := r.Golden()
		for end := time.Now().Add(15 * time.Second); !g.Ended(); time.Sleep(10 * time.Millisecond) {
			if again, ok := g.Out.Said("phase: sending", at); ok {
				r.Did("golden sent again %.1f s after its start", again.Sub(g.began).Seconds())
				return nil
			}
			if time.Now().After(end) {
				r.Break("golden has not gone on within 15 s")
				return nil
			}
		}
		return nil
	}}
}

// Interrupted is the administrator's ^C: all are idle within 5 s. #33
func Interrupted() Fault {
	return Fault{Name: "interrupted by the administrator", Alone: true, Inject: func(ctx context.Context, r *Run) error {
		for _, n := range r.Nodes {
			n.Want = Fails
		}
		r.Exit = 130
		r.Golden().Signal(syscall.SIGINT)
		r.Did("golden is interrupted")
		end := time.Now().Add(5 * time.Second)
		for _, n := range r.Nodes {
			if _, ok := n.prog.Wait(time.Until(end)); !ok {
				r.Break("%s is not idle after 5 s", n)
			}
		}
		return nil
	}}
}

// Late is a machine that comes when the transfer has begun, at a share of it;
// beyond 1 it comes when all others are complete, should golden still be there. #24
func Late(share float64) Fault {
	var late *Node
	return Fault{Name: fmt.Sprintf("late at %.0f %%", share*100), Promise: 3 * time.Second, From: share, To: share, Bytes: 120 << 20,
		Prepare: func(r *Run) error {
			if late = r.victim(Finishes); late == nil {
				return errNobody
			}
			late.Late = true
			here := 0
			for _, n := range r.Nodes {
				if !n.Late {
					here++
				}
			}
			r.GoldenArgs = append(r.GoldenArgs, "--wait", "3s", "--min", fmt.Sprint(here))
			return nil
		},
		Inject: func(ctx context.Context, r *Run) error {
			r.Did("%s comes", late)
			return r.Start(late)
		},
	}
}

// TooMany is one machine more than wanted: it is told so, and nothing of it is
// written. #25
func TooMany() Fault {
	return Fault{Name: "one machine too many", Promise: time.Second, From: 0.1, To: 0.5, Alone: true,
		Prepare: func(r *Run) error {
			r.Nodes[r.Shape.Nodes-1].Late = true
			r.Wanted = r.Shape.Nodes - 1
			return nil
		},
		Inject: func(ctx context.Context, r *Run) error {
			n := r.Nodes[r.Shape.Nodes-1]
			n.Want = Fails
			if err := r.Start(n); err != nil {
				return err
			}
			status, ok := n.prog.Wait(10 * time.Second)
			_, full := n.prog.Out.Said("session is full", r.Begun)
			_, begun := n.prog.Out.Said("has begun without this machine", r.Begun)
			if !ok || status != 2 || !full && !begun {
				r.Break("%s is one too many: exit status %d, and it is not told so", n, status)
			}
			return nil
		},
		Verify: func(r *Run) { r.wantUntouched(r.Nodes[r.Shape.Nodes-1]) },
	}
}

// TooFew is a deployment that never has enough machines: it ends, and nothing
// was written. #26
func TooFew() Fault {
	return Fault{Name: "never enough machines", Alone: true,
		Prepare: func(r *Run) error {
			r.NoStart, r.Exit = true, 2
			r.GoldenArgs = append(r.GoldenArgs, "--wait", "4s", "--min", fmt.Sprint(r.Shape.Nodes))
			r.Nodes[0].Late = true
			for _, n := range r.Nodes {
				n.Want = Fails
			}
			return nil
		},
		Verify: func(r *Run) {
			if status, ok := r.Golden().Wait(time.Second); !ok || status != 2 {
				r.Break("golden's exit status is %d, want 2", status)
			}
			for _, n := range r.Nodes {
				r.wantUntouched(n)
				if n.prog == nil {
					continue
				}
				if status, ok := n.prog.Wait(lastWord); !ok || status == 0 {
					r.Break("%s: ended %v, exit status %d", n, ok, status)
				}
			}
		},
	}
}

// FewButEnough is a deployment that starts with fewer than wanted. #26
func FewButEnough() Fault {
	return Fault{Name: "fewer than wanted but enough", Promise: time.Second, Alone: true,
		Prepare: func(r *Run) error {
			r.GoldenArgs = append(r.GoldenArgs, "--wait", "4s", "--min", fmt.Sprint(r.Shape.Nodes-2))
			for _, n := range r.Nodes[:2] {
				n.Late, n.Want = true, Fails
			}
			return nil
		},
	}
}
