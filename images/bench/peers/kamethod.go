package peers

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kamethod/kamethod/images/bench/lab"
)

// Kamethod is golden-serve send and karecv.
type Kamethod struct {
	Bin      string // folder of both
	Plain    bool
	Compress string // golden-serve's option; empty: its default
}

// joinLimit is how long a program may take to say its first words, also on a
// busy machine.
const joinLimit = 30 * time.Second

// Send starts the receivers one after another, so that receiver i is the
// i-th of the chain.
func (k Kamethod) Send(ctx context.Context, room *lab.Room, src Source, n int) (r Result, err error) {
	keys := filepath.Join(room.Dir, "keys")
	env := []string{"KAMETHOD_ETC=" + keys, "KAMETHOD_STATE=" + filepath.Join(room.Dir, "state")}
	c := &crew{ctx: ctx, room: room}
	defer c.dismiss()
	golden, err := c.start(lab.Golden, lab.Command{Prog: filepath.Join(k.Bin, "golden-serve"), Args: k.golden(src, n), Env: env})
	if err != nil {
		return r, err
	}
	if _, err := golden.Expect(ctx, "waiting for nodes", joinLimit); err != nil {
		return r, err
	}
	for i := range n {
		// All see one file system, so the keys are where golden has them.
		p, err := c.start(i+1, lab.Command{Prog: filepath.Join(k.Bin, "karecv"), Args: k.receiver(room, i+1), Env: env})
		if err != nil {
			return r, err
		}
		if _, err := p.Expect(ctx, "this is receiver", joinLimit); err != nil {
			return r, err
		}
	}
	begun, err := golden.Expect(ctx, "phase: sending", joinLimit)
	if err != nil {
		return r, err
	}
	if _, err := c.wait(); err != nil {
		return r, err
	}
	return c.measured(golden.Begun, begun), os.RemoveAll(filepath.Join(room.Dir, "state"))
}

func (k Kamethod) golden(src Source, n int) []string {
	args := []string{"send", "-n", fmt.Sprint(n)}
	if k.Plain {
		args = append(args, "--plain")
	}
	if k.Compress != "" {
		args = append(args, "--compress", k.Compress)
	}
	return append(args, src.Path)
}

func (k Kamethod) receiver(room *lab.Room, host int) []string {
	args := []string{"-h", room.Addr(lab.Golden), "--out", copyPath(room, host)}
	if k.Plain {
		args = append(args, "--plain")
	}
	return args
}

// measured: golden is the first of the crew, the others are the receivers. How
// long golden stays to say goodbye is nobody's loss.
func (c *crew) measured(start, begun time.Time) (r Result) {
	var received time.Time
	for i, p := range c.procs {
		r.CPU = append(r.CPU, p.CPU())
		r.Peak = append(r.Peak, p.Peak())
		if i > 0 && p.Ended.After(received) {
			received = p.Ended
		}
	}
	r.Transfer, r.Whole = received.Sub(begun), received.Sub(start)
	return r
}
