package agent

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/trust"
)

// Place is where an agent finds out who it is and whom it obeys. Where stage 2
// came from a file server, that is known only when the clone program has
// registered.
type Place struct {
	KeyFile    string // this node's key
	PinFile    string // golden's
	Server     string // golden's control server, if it is known
	ServerFile string // has it, once it is
}

// Await waits until all of that is known, or the context ends.
func Await(ctx context.Context, p Place, log *slog.Logger) (Config, error) {
	t := time.NewTicker(consoleEvery)
	defer t.Stop()
	for {
		c, err := p.look()
		c.Log = log
		if err == nil && c.Server != "" {
			return c, nil
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, trust.ErrNoKey) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return c, ctx.Err()
		case <-t.C:
		}
	}
}

func (p Place) look() (Config, error) {
	c := Config{Server: p.Server}
	var err error
	if c.Golden, err = trust.ReadPin(p.PinFile); err != nil {
		return c, err
	}
	if c.Identity, err = trust.Load(p.KeyFile); err != nil {
		return c, err
	}
	if b, err := os.ReadFile(p.ServerFile); err == nil && len(b) < 300 {
		c.Server = strings.TrimSpace(string(b))
	}
	return c, nil
}

// TellConsole tells golden what is on this machine's console, as soon as
// golden is known, until the context ends. It is for stage 1, which has no
// agent.
func TellConsole(ctx context.Context, p Place, kmsg, done string, log *slog.Logger) {
	c, err := Await(ctx, p, log)
	if err != nil {
		return
	}
	New(c).TellConsole(ctx, kmsg, done)
}
