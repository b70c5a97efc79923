package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/kamethod/kamethod/cmds/node/internal/diskless"
	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/cmds/node/internal/pid1"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// diskless is the boot with ka.run=ram: what golden sends is no stage 2, but
// what this machine then runs.
func (s *stage1) diskless() []pid1.Stage {
	return []pid1.Stage{
		{Name: "drivers", Run: s.drivers},
		{Name: "network", Run: s.network},
		{Name: "fetch", Run: s.fetchRoot},
		{Name: "switch", Run: s.enterRoot},
	}
}

func (s *stage1) fetchRoot(ctx context.Context) error {
	if s.params.Clones() || s.params.Rescue {
		s.con.Line("%s: ka.run=ram on the command line: no disk is cloned to or rescued", title)
	}
	if s.params.Rescue {
		s.con.Line("%s: the word rescue on the command line makes systemd start its rescue mode: leave it out", title)
	}
	if err := s.takePin(); err != nil {
		return err
	}
	return s.tryFetch(ctx, s.patience(), func(ctx context.Context) error {
		var errs []error
		for _, place := range s.places() {
			err := s.fetchRootFrom(ctx, place)
			if err == nil || !errors.Is(err, join.ErrNoServer) {
				return err
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// fetchRootFrom takes this machine's place in the chain until golden says that
// it may go.
func (s *stage1) fetchRootFrom(ctx context.Context, server string) error {
	n, err := join.Register(ctx, join.Config{
		Server: server, Session: cmp.Or(s.params.Session, join.DefaultSession), Token: s.params.KaToken,
		PinFile: handover.PinFile, KeyFile: handover.KeyFile, Stage: wire.RunRAM, MAC: s.lease.MAC, Card: s.lease.Interface,
		NodeID: s.params.NodeID, Hostname: s.lease.Hostname, UUID: join.SystemUUID(), Log: s.con.Logger(),
		Say: func(line string) { s.con.Line("%s: %s", title, line) },
	})
	if err != nil {
		return err
	}
	defer n.Close()
	s.con.Line("%s: golden node %s, this is node %d of session %s", title, n.Server, n.Number(), n.Session)
	whole, err := s.receiveRoot(ctx, n)
	if err = s.without(whole, err); err != nil {
		n.Fail("running in memory", err)
		return err
	}
	release, err := n.NextRelease(ctx)
	if err = s.without(whole, err); err != nil {
		return fmt.Errorf("wait for golden's word to go: %w", err)
	}
	if release.Torn != "" {
		s.con.Line("%s: what was received is not one version of what golden has: %s", title, release.Torn)
	}
	return nil
}

// without takes golden's end for nothing that stops a machine which has all.
func (s *stage1) without(whole bool, err error) error {
	if whole && (errors.Is(err, join.ErrGoldenLost) || errors.Is(err, join.ErrStopped) || errors.Is(err, join.ErrRefused)) {
		s.con.Line("%s: golden is gone before the release; what is here is whole: %v", title, err)
		return nil
	}
	return err
}

// receiveRoot has the new root mounted, and this machine's own, in the end:
// then it is whole, also if it didn't end well.
func (s *stage1) receiveRoot(ctx context.Context, n *join.Session) (whole bool, err error) {
	who, err := n.NextRun(ctx)
	if err != nil {
		return false, err
	}
	order, err := n.NextTransfer(ctx)
	if err != nil {
		return false, err
	}
	root, err := diskless.Open(diskless.Config{
		Streams: order.Streams, NewRoot: newRoot, Dir: handover.Dir, Load: s.loadFor, Log: s.con.Logger(),
	})
	if err != nil {
		return false, err
	}
	defer root.Close()
	s.con.Line("%s: receiving %d bytes into memory", title, bytesOf(order.Streams))
	err = n.Receive(ctx, order, root.Sink(), nil, func(ctx context.Context) error { // has ended when Receive returns
		keys, err := s.makeOwn(ctx, root, who)
		if err != nil {
			return err
		}
		whole = true
		n.Report(wire.Report{Done: &wire.Done{HostKeys: keys}})
		return nil
	})
	return whole, err
}

func (s *stage1) makeOwn(ctx context.Context, root *diskless.Root, who wire.Run) (hostKeys []string, err error) {
	say := func(format string, args ...any) { s.con.Line(title+": "+format, args...) }
	if err := root.Finish(ctx); err != nil {
		return nil, err
	}
	if _, err := diskless.Init(newRoot); err != nil {
		return nil, err
	}
	who.NodeID = cmp.Or(s.params.NodeID, who.NodeID)
	hostKeys, err = root.Become(ctx, diskless.Self{Run: who, Lease: s.lease, ResolvConf: resolvConf, RunDir: "/run", Say: say})
	if err != nil {
		return nil, err
	}
	if who.Hostname != "" {
		if err := unix.Sethostname([]byte(who.Hostname)); err != nil {
			say("set host name %s: %v", who.Hostname, err)
		}
	}
	if s.params.KaSwap != wire.SwapLocal {
		return hostKeys, nil
	}
	used, err := root.Swap(ctx, say)
	if err != nil {
		return nil, err
	}
	say("ka.swap=local: %d swap areas: %s", len(used), strings.Join(used, " "))
	return hostKeys, nil
}

// loadFor loads a module that may be part of the kernel.
func (s *stage1) loadFor(name string) error {
	if _, err := s.loader.Load(name); err != nil && !errors.Is(err, drivers.ErrNotFound) {
		return err
	}
	return nil
}

// enterRoot replaces this init by the new root's. Nobody else is to have this
// node's key.
func (s *stage1) enterRoot(context.Context) error {
	init, err := diskless.Init(newRoot)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(handover.Dir); err != nil {
		return fmt.Errorf("remove what stage 1 needed: %w", err)
	}
	s.con.Line("%s: running %s, from memory", title, init)
	return diskless.Enter(newRoot, init)
}

func bytesOf(streams []wire.Stream) (n int64) {
	for _, s := range streams {
		n += s.Bytes
	}
	return n
}
