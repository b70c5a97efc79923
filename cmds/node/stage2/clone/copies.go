package main

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/cmds/node/internal/cook"
	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// This file is the replication of dollymethod and dollyCmethod: disks and files
// are written as golden has them, or unpacked, and nothing is made of them.

// dollyPlus is the manual's line on the console with dollyCmethod.
const dollyPlus = "I am a dolly+ client"

func (r *replica) say(line string) { r.s.Line("%s", line) }

// lookForRoom sees whether all can go where it shall, before any of it comes.
func (r *replica) lookForRoom() error {
	if err := cook.Check(r.plan, r.root, r.say); err != nil {
		return err
	}
	r.s.Report(wire.Report{State: string(status.Ready), Ready: &r.made})
	return nil
}

// cookMemory is what early pieces may take of the memory: an eighth.
func cookMemory() int64 {
	var si unix.Sysinfo_t
	if unix.Sysinfo(&si) != nil {
		return 32 << 20
	}
	return max(8<<20, min(int64(si.Totalram)*int64(si.Unit)/8, 512<<20))
}

func (r *replica) receiveCopies(ctx context.Context, o wire.LinkOrder) error {
	if err := restore.FlushEarly(); err != nil {
		r.log.Warn("the disk may be given much at once", "err", err)
	}
	all, err := cook.New(ctx, r.plan, o.Streams, cook.Options{Root: r.root, Memory: cookMemory(), Say: r.say, Log: r.log})
	if err != nil {
		return failure{status.Receiving, err}
	}
	defer all.Close()
	err = r.s.Receive(ctx, o, all, nil, func(ctx context.Context) error {
		r.s.Report(wire.Report{State: string(status.Fixing)})
		if err := all.Finish(ctx); err != nil {
			return err
		}
		if err := all.Close(); err != nil {
			return err
		}
		if err := disk.Unmount(r.root); err != nil { // nothing may be lost after "done"
			return err
		}
		r.whole = true
		r.s.Report(wire.Report{State: string(status.Done), Done: &wire.Done{}})
		return nil
	})
	if err != nil {
		return failure{status.Receiving, err}
	}
	return nil
}
