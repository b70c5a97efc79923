package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
)

// capture is what golden-serve is told of the golden root.
func (r *rehearsal) capture() []string {
	args := []string{"--root", r.golden, "-x", goldenroot.Scratch, "-r", "grub"}
	if r.Cell != nil {
		return append(args, r.Cell.ServeArgs(r.layoutFile)...)
	}
	return append(args, "-p", "sda", r.layoutFile("sda"))
}

// save makes an image of the golden root, checks it, and takes the root away
// until back is called.
func (r *rehearsal) save(ctx context.Context) (back func(), err error) {
	if r.Cell != nil {
		return nil, errors.New("a cell's golden root can't be saved first: its arguments are for clone")
	}
	for _, args := range [][]string{append([]string{"save", r.path("images")}, r.capture()...), {"check", r.path("images")}} {
		r.say("golden-serve %v", args)
		c := exec.CommandContext(ctx, r.path("golden-serve"), args...)
		c.Env = append(os.Environ(), "KAMETHOD_STATE="+r.path("state"))
		c.Stdout, c.Stderr = r.Out, r.Out
		if err := c.Run(); err != nil {
			return nil, fmt.Errorf("golden-serve %s: %w", args[0], err)
		}
	}
	away := r.golden + ".away"
	if err := os.Rename(r.golden, away); err != nil {
		return nil, err
	}
	return func() {
		if err := os.Rename(away, r.golden); err != nil {
			r.say("the golden root stays in %s: %v", away, err)
		}
	}, nil
}
