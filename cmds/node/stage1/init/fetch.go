package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/download"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/status"
)

// patience is how often and how long a server is looked for, and what is said
// then.
type patience struct {
	server string        // "KA"
	none   string        // the manual's words where it has some; people search for them
	tries  int           // then the machine boots again
	each   time.Duration // of each try; 0: as long as it takes to look once
	pause  time.Duration // between looking
}

// tryPause is between two looks: meanwhile the server may come up.
const tryPause = 3 * time.Second

// The manual's time limits for Dolly's server: for stage 2, and for what the
// replication sends.
const (
	dollyStage2 = 120 * time.Second
	dollyClone  = 300 * time.Second
)

// patience is the manual's; about file servers it says nothing, and they get
// as many tries as ka.
func (s *stage1) patience() patience {
	p := s.params
	if p.KaRun != "" {
		p.Method = "ka" // golden sends what is run
	}
	if p.Method == "dolly" {
		return patience{"Dolly", status.NoDolly, 3, cmp.Or(p.DollyTimeout, dollyStage2), tryPause}
	}
	if download.Does(p.Method) {
		server := strings.ToUpper(p.Method)
		return patience{server, "Can't reach a valid " + server + " server: " + s.fileServer(), 5, 0, tryPause}
	}
	return patience{"KA", status.NoServer, 5, 0, tryPause}
}

// fetch gets stage 2 into memory, by the method of the command line.
func (s *stage1) fetch(ctx context.Context) error {
	if err := s.checkMethod(); err != nil {
		return err
	}
	if err := s.takePin(); err != nil {
		return err
	}
	p := s.params
	s.state = handover.State{
		Session: cmp.Or(p.Session, join.DefaultSession), Token: p.KaToken, NodeID: p.NodeID,
		Interface: s.lease.Interface, MAC: s.lease.MAC, Lease: s.lease, KeyFile: handover.KeyFile, PinFile: handover.PinFile,
		Method: cmp.Or(p.Method, "ka"), Replication: p.Replication(), DollyTimeout: cmp.Or(p.DollyTimeout, dollyClone),
		Rescue: !p.Clones(), Break: p.KaBreak, Shell: p.KaShell,
	}
	once := s.fetchOnce
	if download.Does(p.Method) {
		s.state.Places = s.places()
		once = s.download
	}
	return s.tryFetch(ctx, s.patience(), once)
}

// tryFetch repeats once while no server can be found. Any other failure is a
// real one and isn't repeated.
func (s *stage1) tryFetch(ctx context.Context, p patience, once func(context.Context) error) error {
	for n := 1; ; n++ {
		if p.each > 0 {
			s.con.Line("Waiting for rescue from %s server (timeout %d) (Try %d/%d)", p.server, int(p.each.Seconds()), n, p.tries)
		}
		err := s.look(ctx, p, once)
		if !errors.Is(err, join.ErrNoServer) && !errors.Is(err, download.ErrUnreachable) {
			return err
		}
		s.con.Line("%s", p.none)
		s.con.Line("%s: try %d of %d: %s", title, n, p.tries, strings.ReplaceAll(err.Error(), "\n", "; "))
		if n == p.tries {
			return err
		}
		if err := wait(ctx, p.pause); err != nil {
			return err
		}
	}
}

// look is one try: until its time is over, where it has one. A server that has
// been found may then take longer.
func (s *stage1) look(ctx context.Context, p patience, once func(context.Context) error) error {
	for until := time.Now().Add(p.each); ; {
		err := once(ctx)
		if !errors.Is(err, join.ErrNoServer) || time.Now().Add(p.pause).After(until) {
			return err
		}
		if err := wait(ctx, p.pause); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// checkMethod refuses a line that leaves open what is meant, rather than doing
// something with the disks.
func (s *stage1) checkMethod() error {
	p := s.params
	if p.Method == "" && !p.Clones() {
		return errors.New("nothing to do: the command line has neither automatic=method:… nor kamethod nor rescue")
	}
	if download.Does(p.Method) && s.fileServer() == "" {
		return fmt.Errorf("method:%s on the command line without server:HOST, and DHCP named no boot server", p.Method)
	}
	return nil
}

// fileServer is the command line's, else who has the boot files.
func (s *stage1) fileServer() string {
	if s.params.Server == "" && s.lease.NextServer.IsValid() {
		return s.lease.NextServer.String()
	}
	return s.params.Server
}

// download gets stage 2 from a file server.
func (s *stage1) download(ctx context.Context) error {
	sums, err := download.BuiltSums()
	if err != nil {
		return fmt.Errorf("read which stage 2 was built with this stage 1: %w", err)
	}
	p := s.params
	got, err := download.Get(ctx, download.Config{
		Method: p.Method, Server: s.fileServer(), Directory: p.Directory, Path: image, Name: s.lease.MAC,
		Sums: sums, Unsigned: p.KaUnsigned, Load: s.loadFor,
		Say: func(line string) { s.con.Line("%s: %s", title, line) },
	})
	if err != nil {
		return fmt.Errorf("get stage 2: %w", err)
	}
	s.kind = got.Kind
	s.con.Line("%s: stage 2 is %s, %d bytes, %s, SHA-256 %s", title, got.URL, got.Bytes, got.Kind, got.SHA256)
	return nil
}

// takePin takes the golden node's key, which is built into stage 1, along to
// where stage 2 finds it. A rescue system from a file server needs none.
func (s *stage1) takePin() error {
	b, err := os.ReadFile(handover.BuiltPinFile)
	if errors.Is(err, os.ErrNotExist) && download.Does(s.params.Method) && !s.params.Clones() {
		return nil
	}
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
