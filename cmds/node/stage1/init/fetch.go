package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/handover"
)

// The manual's number of tries; between them the golden node may come up.
const (
	maxTries = 5
	tryPause = 3 * time.Second
)

// errUnreachable ends stage 1 with a reboot: nothing is wrong with this node.
var errUnreachable = errors.New("can't reach a KA server")

// fetch gets stage 2 into memory, by the method of the command line.
func (s *stage1) fetch(ctx context.Context) error {
	if err := s.checkMethod(); err != nil {
		return err
	}
	if err := s.takePin(); err != nil {
		return err
	}
	s.state = handover.State{
		Server: s.firstServer(), Session: s.params.Session, Token: s.params.KaToken, Plain: s.params.KaPlain,
		Interface: s.lease.Interface, MAC: s.lease.MAC, NodeID: s.params.NodeID, Lease: s.lease,
		KeyFile: handover.KeyFile, PinFile: handover.PinFile,
		Rescue: s.params.Rescue && !s.params.Clones(), Break: s.params.KaBreak, Shell: s.params.KaShell,
	}
	return s.tryFetch(ctx, maxTries, tryPause, s.fetchOnce)
}

// tryFetch repeats once while no server can be found. Any other failure is a
// real one and isn't repeated.
func (s *stage1) tryFetch(ctx context.Context, tries int, wait time.Duration, once func(context.Context) error) error {
	for n := 1; ; n++ {
		err := once(ctx)
		if !errors.Is(err, errUnreachable) {
			return err
		}
		s.con.Line("Can't reach a valid KA server") // the manual's words; people search for them
		s.con.Line("%s: try %d of %d: %v", title, n, tries, err)
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

// firstServer is where to look first: the command line, else who the DHCP
// server says has the boot files.
func (s *stage1) firstServer() string {
	if s.params.KaServer != "" {
		return s.params.KaServer
	}
	if s.params.Server != "" {
		return s.params.Server
	}
	if s.lease.NextServer.IsValid() {
		return s.lease.NextServer.String()
	}
	return ""
}
