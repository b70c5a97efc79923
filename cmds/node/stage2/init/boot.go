package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/cmds/node/internal/pid1"
)

const title = "kamethod stage 2"

// stage2 is one boot.
type stage2 struct {
	con   *console.Console
	state *handover.State
}

// boot doesn't return: it ends in a reboot or a shell.
func boot(ctx context.Context) {
	setEnviron()
	mounted := pid1.Mounts()
	s := &stage2{con: console.Open(), state: &handover.State{}}
	if mounted != nil {
		s.con.Line("%s: %v", title, mounted)
	}
	go pid1.Reap(ctx, time.Second)
	err := pid1.Sequence{
		Title: title, Console: s.con, BreakAt: s.breakAt,
		Stages: []pid1.Stage{
			{Name: "handover", Run: s.handover},
			{Name: "drivers", Run: s.drivers},
			{Name: "network", Run: s.network},
			{Name: "clone", Run: s.clone},
		},
	}.Run(ctx)
	if err == nil {
		err = pid1.Reboot(s.con)
	}
	s.con.Rescue(ctx, fmt.Sprintf("%s: %v", title, err))
}

// breakAt honours ka.break=STAGE and ka.shell.
func (s *stage2) breakAt(stage string) (string, bool) {
	if s.state.Break == stage {
		return "ka.break=" + stage, true
	}
	return "ka.shell", s.state.Shell && stage == "clone"
}

// handover reads what stage 1 knew.
func (s *stage2) handover(context.Context) error {
	if err := os.MkdirAll("/mnt/disk", 0o755); err != nil {
		return fmt.Errorf("make the folder for the disk: %w", err)
	}
	state, err := handover.Load(handover.Path)
	if err != nil {
		return err
	}
	s.state = state
	return nil
}

// drivers waits for disks too: their buses are probed in the background.
func (s *stage2) drivers(ctx context.Context) error {
	l, err := drivers.OpenRunning()
	if err != nil {
		return err
	}
	tell := func(r drivers.Report) {
		l.Tell("/", "/sys", r, func(line string) { s.con.Line("%s: %s", title, line) })
	}
	if _, err := l.Watch(ctx, tell); err != nil {
		s.con.Line("%s: devices that come late get no driver: %v", title, err)
	}
	// What a SATA or SCSI disk needs beyond its controller; asking early
	// saves a round.
	if _, err := l.Load("sd_mod"); err != nil && !errors.Is(err, drivers.ErrNotFound) {
		s.con.Line("%s: %v", title, err)
	}
	r, err := l.Settle(ctx, time.Second, 15*time.Second)
	tell(r)
	if err != nil {
		return err
	}
	s.con.Line("%s: %d modules loaded", title, len(r.Loaded))
	return nil
}

// network goes on renewing the lease that stage 1 got.
func (s *stage2) network(ctx context.Context) error {
	if s.state.Lease == nil {
		return errors.New("stage 1 left no lease")
	}
	save := func(l *nic.Lease) {
		state := *s.state
		state.Lease = l
		if err := state.Save(handover.Path); err != nil {
			s.con.Line("%s: %v", title, err)
		}
	}
	go nic.Keep(ctx, s.state.Lease, "/etc/resolv.conf", s.con.Logger(), save)
	go s.keepAgent(ctx)
	return nil
}

// clone runs the replication as a process of its own: whatever becomes of it,
// init is there to say so.
func (s *stage2) clone(ctx context.Context) error {
	if s.state.Rescue {
		s.con.Rescue(ctx, title+": rescue system, as the command line says")
	}
	err := s.con.Run(ctx, "/bbin/clone")
	if e, ok := errors.AsType[*exec.ExitError](err); ok && e.ExitCode() == exitNoServer {
		s.con.Line("%s: reboot in %s", title, rebootDelay)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rebootDelay):
		}
		return nil
	}
	return err
}

// exitNoServer is clone's word for a golden node that isn't there: as in stage
// 1 the machine boots again, since nothing has been touched. rebootDelay is for
// a person to read why.
const (
	exitNoServer = 75
	rebootDelay  = 10 * time.Second
)

// setEnviron gives this process and its children an environment: stage 1's
// exec gave none.
func setEnviron() {
	for _, kv := range console.Environ() {
		if name, value, ok := strings.Cut(kv, "="); ok {
			os.Setenv(name, value)
		}
	}
}
