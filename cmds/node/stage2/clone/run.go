package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/cmds/node/internal/fixup"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// replica is one replication.
type replica struct {
	root string
	s    *join.Session
	log  *slog.Logger
	mac  string // of the card that booted
	plan wire.Plan
	made wire.DiskResult
	did  fixup.Report

	whole bool // all is on the disks, and may boot
}

func run(ctx context.Context, stateFile, root string, out io.Writer) error {
	state, err := handover.Load(stateFile)
	if err != nil {
		return err
	}
	if state.Replication == wire.DollyCMethod {
		fmt.Fprintln(out, dollyPlus)
	}
	r := &replica{root: root, mac: state.MAC, log: console.Warnings(out)}
	if r.s, err = register(ctx, state, r.log, func(line string) { fmt.Fprintln(out, line) }); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	defer r.s.Close()
	if err := renameio.WriteFile(filepath.Join(filepath.Dir(stateFile), handover.ServerName), []byte(r.s.Server), 0o600); err != nil {
		r.log.Warn("tell the agent where golden is", "err", err)
	}
	for _, stage := range []struct {
		state status.State
		run   func(context.Context) error
	}{
		{status.Stage2, r.awaitPlan},
		{status.Preparing, r.prepare},
		{status.Ready, r.receive}, // reports its own states: several go on at once
		{status.Done, r.await},
	} {
		r.s.Report(wire.Report{State: string(stage.state)})
		if err := stage.run(ctx); err != nil {
			return r.fail(stage.state, err)
		}
	}
	fmt.Fprintln(out, status.NodeIsClone)
	return nil
}

// failure is an error that knows in which stage it came about.
type failure struct {
	state status.State
	error
}

func (f failure) Unwrap() error { return f.error }

func (r *replica) fail(state status.State, err error) error {
	var f failure
	if errors.As(err, &f) {
		state = f.state
	}
	r.s.Fail(string(state), err)
	if !r.whole { // the firmware mustn't start what is half a system
		if serr := disk.Seal(r.plan, r.made, handover.Dir); serr != nil {
			r.log.Warn("hide the clone from the firmware", "err", serr)
		}
	}
	if uerr := disk.Unmount(r.root, r.made.Disks...); uerr != nil {
		r.log.Warn("unmount the clone", "err", uerr)
	}
	return fmt.Errorf("%s: %w", state, err)
}

func register(ctx context.Context, st *handover.State, log *slog.Logger, say func(string)) (*join.Session, error) {
	c := join.Config{
		Server: st.Server, Session: st.Session, Token: st.Token, PinFile: st.PinFile, KeyFile: st.KeyFile,
		Stage: wire.Stage2, MAC: st.MAC, UUID: join.SystemUUID(), Log: log, Say: say,
		Replication: st.Replication,
	}
	if st.Lease != nil {
		c.Hostname = st.Lease.Hostname // a Dolly file may name machines so
	}
	devs, err := disk.Inventory("/sys")
	if err != nil {
		return nil, err
	}
	for _, d := range devs {
		c.Disks = append(c.Disks, wire.Device{Name: d.Name, Bytes: d.Bytes, Model: d.Model, Serial: d.Serial})
	}
	return patienceOf(st).find(ctx, c, placesOf(st), say)
}

// awaitPlan takes no plan of another kind than the machine was booted for.
func (r *replica) awaitPlan(ctx context.Context) error {
	plan, err := r.s.NextPlan(ctx)
	if err == nil {
		err = plan.Suits(r.s.Replication)
	}
	if err != nil {
		return err
	}
	r.plan = plan
	return nil
}

func (r *replica) prepare(ctx context.Context) error {
	if len(r.plan.Copies) > 0 {
		return r.lookForRoom()
	}
	var err error
	r.made, err = disk.Prepare(ctx, r.plan, r.root, disk.Options{Seal: handover.Dir, Progress: func(step string) { r.s.Line("%s", step) }})
	if err != nil {
		return err
	}
	if err := r.keep(); err != nil {
		r.log.Warn("keep the plan for nodefix", "err", err)
	}
	r.s.Report(wire.Report{State: string(status.Ready), Ready: &r.made})
	return nil
}

// keep leaves plan and disks where a person in the rescue shell, and nodefix,
// find them.
func (r *replica) keep() error {
	plan := r.plan
	plan.Secrets = nil // no step of nodefix needs a passphrase
	for name, v := range map[string]any{"plan.json": plan, "disks.json": r.made} {
		b, err := json.MarshalIndent(v, "", "\t")
		if err != nil {
			return err
		}
		if err := renameio.WriteFile(filepath.Join(handover.Dir, name), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// receive fills the disks, and fixes them up as soon as all is there, while
// the chain goes on.
func (r *replica) receive(ctx context.Context) error {
	o, err := r.s.NextTransfer(ctx)
	if err != nil {
		return err
	}
	r.s.Report(wire.Report{State: string(status.Receiving)})
	if len(r.plan.Copies) > 0 {
		return r.receiveCopies(ctx, o)
	}
	if err := restore.FlushEarly(); err != nil {
		r.log.Warn("the disk may be given much at once", "err", err)
	}
	all, err := restore.NewWhole(r.root, o.Streams, r.plan, r.made, restore.Options{Log: r.log, Update: r.made.Kept})
	if err != nil {
		return failure{status.Receiving, err}
	}
	defer all.Close()
	var holder chain.Holder
	if r.made.Kept { // golden knows by the report, and waits for what it says
		holder = all
	}
	err = r.s.Receive(ctx, o, all, holder, func(ctx context.Context) error {
		if err := all.Finish(ctx); err != nil {
			return err
		}
		for _, w := range all.Warnings() {
			r.s.Line("%s (%d times, first %q)", w.What, w.Count, w.First)
		}
		if err := all.Close(); err != nil {
			return err
		}
		if err := r.own(ctx); err != nil {
			return err
		}
		return r.fixup(ctx, all.Tree != nil)
	})
	if errors.As(err, new(failure)) { // of the fix-up
		return err
	}
	if err != nil {
		return failure{status.Receiving, err}
	}
	return nil
}

// own makes what came as blocks this machine's.
func (r *replica) own(ctx context.Context) error {
	if len(r.plan.Blocks) == 0 {
		return nil
	}
	if err := restore.Own(ctx, r.plan, &r.made, func(step string) { r.s.Line("%s", step) }); err != nil {
		return err
	}
	if err := r.keep(); err != nil {
		r.log.Warn("keep the plan for nodefix", "err", err)
	}
	return nil
}

// fixup makes the files that came those of this machine, if there are any, and
// reports that all is done.
func (r *replica) fixup(ctx context.Context, files bool) error {
	r.s.Report(wire.Report{State: string(status.Fixing)})
	if files {
		if err := r.fixFiles(ctx); err != nil {
			return failure{status.Fixing, err}
		}
	}
	if err := disk.WriteBootCode(r.plan, r.made); err != nil {
		return failure{status.Fixing, err}
	}
	if err := disk.Unmount(r.root, r.made.Disks...); err != nil { // nothing may be lost after "done"
		return failure{status.Fixing, err}
	}
	r.whole = true
	done := r.did.Done()
	r.s.Report(wire.Report{State: string(status.Done), Done: &done})
	return nil
}

func (r *replica) fixFiles(ctx context.Context) error {
	var err error
	r.did, err = fixup.Run(ctx, fixup.Env{
		Root: r.root, Plan: r.plan, Disks: r.made, Firmware: join.Firmware(), Number: r.s.Number(), Hostname: r.plan.Identity.Hostname,
		BeforeLoader: func() error { return disk.Unseal(r.plan, r.made, handover.Dir) },
		MAC:          r.mac, MACs: fixup.Cards("/sys"), Log: r.log, Progress: func(step string) { r.s.Line("fix-up: %s", step) },
	})
	return err
}

func (r *replica) await(ctx context.Context) error {
	_, err := r.s.NextRelease(ctx)
	if errors.Is(err, join.ErrGoldenLost) || errors.Is(err, join.ErrStopped) || errors.Is(err, join.ErrRefused) {
		r.log.Warn("golden is gone before the release; the clone is whole", "err", err)
		return nil
	}
	return err
}
