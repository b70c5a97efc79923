package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kamethod/kamethod/cmds/node/internal/agent"
	"github.com/kamethod/kamethod/cmds/node/internal/download"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/golden/wire"
)

// places are where to look for the golden node; "" asks the network. The
// command line's ka.server is an order. A DHCP server names itself as the
// boot server if nobody told it otherwise, so its word is only a hint. server:
// is the file server, where stage 2 comes from one.
func (s *stage1) places() []string {
	if s.params.KaServer != "" {
		return []string{s.params.KaServer}
	}
	if s.params.Server != "" && !download.Does(s.params.Method) {
		return []string{s.params.Server, ""}
	}
	if s.lease.NextServer.IsValid() {
		return []string{s.lease.NextServer.String(), ""}
	}
	return []string{""}
}

// fetchOnce looks for the golden node in each place once and gets the image
// from the first that is one.
func (s *stage1) fetchOnce(ctx context.Context) error {
	var errs []error
	for _, place := range s.places() {
		err := s.fetchFrom(ctx, place)
		if err == nil || !errors.Is(err, join.ErrNoServer) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s *stage1) fetchFrom(ctx context.Context, server string) error {
	cfg := join.Config{
		Server: server, Session: s.state.Session, Token: s.state.Token, PinFile: s.state.PinFile, KeyFile: s.state.KeyFile,
		Stage: wire.Stage1, MAC: s.state.MAC, Hostname: s.lease.Hostname, UUID: join.SystemUUID(), Log: s.con.Logger(),
		Replication: s.state.Replication,
	}
	cfg.Say = func(line string) { s.con.Line("%s: %s", title, line) }
	addr, err := join.Find(ctx, cfg)
	if err != nil {
		return err
	}
	cfg.Server, s.state.Server = addr, addr
	err = join.FetchImage(ctx, cfg, image, cfg.Say)
	if !errors.Is(err, join.ErrNoServer) { // for as long as stage 1 lasts, for the worse
		go agent.TellConsole(ctx, agent.Place{KeyFile: cfg.KeyFile, PinFile: cfg.PinFile, Server: addr}, "/dev/kmsg",
			handover.Dir+"/"+handover.ConsoleName, cfg.Log)
	}
	if err != nil {
		return fmt.Errorf("get stage 2: %w", err)
	}
	return s.lookAt(image)
}

// lookAt says what golden sent: it may be another than ours.
func (s *stage1) lookAt(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if s.kind, _, err = download.KindOf(f); err != nil {
		return fmt.Errorf("stage 2 of golden node %s %w", s.state.Server, err)
	}
	return nil
}
