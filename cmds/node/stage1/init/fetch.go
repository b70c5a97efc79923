package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/status"
)

// The manual's number of tries; between them the golden node may come up.
const (
	maxTries = 5
	tryPause = 3 * time.Second
)

// fetch gets stage 2 into memory, by the method of the command line.
func (s *stage1) fetch(ctx context.Context) error {
	if err := s.checkMethod(); err != nil {
		return err
	}
	if err := s.takePin(); err != nil {
		return err
	}
	s.state = handover.State{
		Session: cmp.Or(s.params.Session, join.DefaultSession), Token: s.params.KaToken, NodeID: s.params.NodeID,
		Interface: s.lease.Interface, MAC: s.lease.MAC, Lease: s.lease, KeyFile: handover.KeyFile, PinFile: handover.PinFile,
		Rescue: s.params.Rescue && !s.params.Clones(), Break: s.params.KaBreak, Shell: s.params.KaShell,
	}
	return s.tryFetch(ctx, maxTries, tryPause, s.fetchOnce)
}

// tryFetch repeats once while no server can be found. Any other failure is a
// real one and isn't repeated.
func (s *stage1) tryFetch(ctx context.Context, tries int, wait time.Duration, once func(context.Context) error) error {
	for n := 1; ; n++ {
		err := once(ctx)
		if !errors.Is(err, join.ErrNoServer) {
			return err
		}
		s.con.Line(status.NoServer) // the manual's words; people search for them
		s.con.Line("%s: try %d of %d: %s", title, n, tries, strings.ReplaceAll(err.Error(), "\n", "; "))
		if n == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// checkMethod refuses what this image can't do, rather than doing something
// else with the disks.
func (s *stage1) checkMethod() error {
	p := s.params
	if p.Method != "" && p.Method != "ka" {
		return fmt.Errorf("method:%s on the command line: this image gets stage 2 by ka only", p.Method)
	}
	if p.DollyMethod || p.DollyCMethod {
		return errors.New("dollymethod on the command line: this image clones by kamethod only")
	}
	if p.Method == "" && !p.KaMethod {
		return errors.New("nothing to do: the command line has neither automatic=method:ka nor kamethod nor rescue")
	}
	return nil
}

// takePin takes the golden node's key, which is built into stage 1, along to
// where stage 2 finds it.
func (s *stage1) takePin() error {
	b, err := os.ReadFile(handover.BuiltPinFile)
	if err != nil {
		return fmt.Errorf("read the golden node's key in this image: %w", err)
	}
	if err := os.MkdirAll(handover.Dir, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", handover.Dir, err)
	}
	if err := os.WriteFile(handover.PinFile, b, 0o600); err != nil {
		return fmt.Errorf("keep the golden node's key: %w", err)
	}
	return nil
}
