package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/kamethod/kamethod/cmds/node/internal/download"
	"github.com/kamethod/kamethod/cmds/node/internal/drivers"
	"github.com/kamethod/kamethod/cmds/node/internal/handover"
	"github.com/kamethod/kamethod/cmds/node/internal/join"
	"github.com/kamethod/kamethod/cmds/node/internal/nic"
	"github.com/kamethod/kamethod/cmds/node/internal/pid1"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

const title = "kamethod stage 1"

// stage1 is one boot.
type stage1 struct {
	con    *console.Console
	params wire.Params
	loader *drivers.Loader
	lease  *nic.Lease
	state  handover.State
	kind   download.Kind // of the image that came
}

// boot doesn't return: it ends in the next init, a reboot or a shell.
func boot(ctx context.Context) {
	mounted := pid1.Mounts()
	s := &stage1{con: console.Open()}
	if mounted != nil {
		s.con.Line("%s: %v", title, mounted)
	}
	go pid1.Reap(ctx, time.Second)
	s.readCmdline()
	stages := []pid1.Stage{
		{Name: "drivers", Run: s.drivers},
		{Name: "network", Run: s.network},
		{Name: "fetch", Run: s.fetch},
		{Name: "mount", Run: s.mount},
		{Name: "switch", Run: s.stepOver},
	}
	if s.params.KaRun == wire.RunRAM {
		stages = s.diskless()
	}
	err := pid1.Sequence{Title: title, Console: s.con, BreakAt: s.breakAt, Stages: stages}.Run(ctx)
	if errors.Is(err, join.ErrNoServer) || errors.Is(err, download.ErrUnreachable) {
		s.rebootSoon(ctx)
	}
	s.con.Rescue(ctx, fmt.Sprintf("%s: %v", title, err))
}

// rebootDelay is for a person to read why.
const rebootDelay = 10 * time.Second

func (s *stage1) rebootSoon(ctx context.Context) {
	p := s.patience()
	s.con.Line("%s: no %s server after %d tries, reboot in %s", title, p.server, p.tries, rebootDelay)
	select {
	case <-ctx.Done():
	case <-time.After(rebootDelay):
	}
	if err := pid1.Reboot(s.con); err != nil {
		s.con.Line("%s: %v", title, err)
	}
}

func (s *stage1) readCmdline() {
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		s.con.Line("%s: read the kernel command line: %v", title, err)
	}
	var errs []error
	s.params, errs = wire.ParseCmdline(string(line))
	for _, err := range errs {
		s.con.Line("%s: %v", title, err)
	}
}

// breakAt honours ka.break=STAGE and ka.shell.
func (s *stage1) breakAt(stage string) (string, bool) {
	if s.params.KaBreak == stage {
		return "ka.break=" + stage, true
	}
	return "ka.shell", s.params.KaShell && stage == "fetch"
}

func (s *stage1) drivers(ctx context.Context) error {
	var err error
	if s.loader, err = drivers.OpenRunning(); err != nil {
		return err
	}
	tell := func(r drivers.Report) {
		s.loader.Tell("/", "/sys", r, func(line string) { s.con.Line("%s: %s", title, line) })
	}
	if _, err := s.loader.Watch(ctx, tell); err != nil {
		s.con.Line("%s: devices that come late get no driver: %v", title, err)
	}
	r, err := s.loader.Coldplug(ctx)
	tell(r)
	if err != nil {
		return err
	}
	s.con.Line("%s: %d modules loaded", title, len(r.Loaded))
	return nil
}

const resolvConf = "/etc/resolv.conf"

func (s *stage1) network(ctx context.Context) error {
	log := s.con.Logger()
	var err error
	s.lease, err = nic.Up(ctx, nic.Config{BootIF: s.params.BootIF, Interface: s.params.Interface, ResolvConf: resolvConf, Log: log})
	if err != nil {
		return err
	}
	s.con.Line("%s: %s", title, s.lease)
	if s.lease.Hostname != "" {
		if err := unix.Sethostname([]byte(s.lease.Hostname)); err != nil {
			s.con.Line("%s: set host name %s: %v", title, s.lease.Hostname, err)
		}
	}
	go nic.Keep(ctx, s.lease, resolvConf, log, nil)
	if s.params.Rescue && !s.params.Clones() && s.params.Method == "" && s.params.KaRun == "" {
		s.con.Rescue(ctx, title+": rescue, as the command line says")
	}
	return nil
}
