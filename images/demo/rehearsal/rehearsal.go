// Package rehearsal plays the whole job once, on one machine: a golden root,
// golden-serve on a network of its own, machines with empty disks that boot
// from that network, become clones, and boot from their own disks. Then it
// judges the clones from outside. `make demo` shows it to a person, the test
// in images/ runs it on a smaller root. It contains nothing of kamethod: it
// only starts what an administrator would start.
//
//	golden root ─▶ golden-serve ─┬─PXE─▶ node1 ─reset─▶ copy of its disk ─▶ own boot ─▶ login:
//	   │                         └─PXE─▶ node2 ─reset─▶ copy of its disk ─▶ own boot ─▶ login:
//	   └───────────── compare ──────────────────────────────┘
//
// The disk is copied while the machine stands still between the last write of
// the cloning and the first of the clone's own life, so that what is compared
// is what was cloned.
package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/vmlab"
)

// Config says what to play.
type Config struct {
	Top     string          // the repository
	Work    string          // for disks, consoles and logs; must be empty or missing
	Again   bool            // no: the golden root and the machines' disks of an earlier run are there
	Kind    goldenroot.Kind // which golden root
	Nodes   int             // how many machines
	Accel   string          // QEMU's accelerator; empty: tcg
	Out     io.Writer       // progress, for a person
	Timeout time.Duration   // for the cloning and the boots; 0: by Nodes
	Serve   []string        // more arguments for golden-serve
	Rules   []compare.Rule  // more differences that the clones may have, by those
	Saved   bool            // the golden root is saved first, and away while the image of it is deployed; not with Cell
	Cell    *Cell           // a golden root and machines of another make; nil: Kind's and Firmware's own

	Firmware vmlab.Firmware // of the machines; empty: BIOS
	HTTPBoot bool           // UEFI fetches the boot loader by HTTP
	Alone    bool           // at the end each machine is also started from its disk, without the network's help

	// Lab makes the lab what it is to be before golden-serve starts; nil: nothing.
	Lab func(context.Context, *vmlab.Lab) error
}

type rehearsal struct {
	Config
	started time.Time
	golden  string // root directory
	layout  goldenroot.Layout
	before  compare.Tree
	lab     *vmlab.Lab
	serve   *vmlab.Process
	nodes   []*node
}

// ErrDifferent says that all was played to its end, but not all is right.
var ErrDifferent = errors.New("the clones are not all right")

// Run plays. The result is as complete as it got, also with an error.
func Run(ctx context.Context, cfg Config) (*Result, error) {
	if cfg.Timeout == 0 {
		cfg.Timeout = 20*time.Minute + time.Duration(cfg.Nodes)*5*time.Minute // a busy host's; alone two take five minutes
	}
	r := &rehearsal{Config: cfg, started: time.Now(), golden: filepath.Join(cfg.Work, "golden"), layout: goldenroot.BIOS()}
	if cfg.Cell != nil {
		r.Kind, r.Firmware = goldenroot.Lab, cfg.Cell.Firmware
	} else if cfg.Firmware != vmlab.BIOS {
		r.layout = goldenroot.UEFI()
	}
	if err := os.MkdirAll(cfg.Work, 0o755); err != nil {
		return nil, err
	}
	result := &Result{Work: cfg.Work}
	err := r.play(ctx, result)
	if err != nil && !errors.Is(err, ErrDifferent) && !errors.Is(err, context.Canceled) {
		r.showLogs()
	}
	return result, err
}

func (r *rehearsal) play(ctx context.Context, result *Result) error {
	if err := r.prepare(ctx); err != nil {
		return err
	}
	lab, err := vmlab.New(ctx, vmlab.Config{Dir: r.Work, Accel: r.Accel, Log: slog.New(slog.NewTextHandler(r.Out, nil))})
	if err != nil {
		return err
	}
	r.lab = lab
	err = r.cloneAndBoot(ctx)
	// The machines go before the judgement: it needs their processor time.
	if r.serve != nil {
		r.serve.Interrupt(15 * time.Second)
	}
	if err := errors.Join(err, lab.Close()); err != nil {
		return err
	}
	return r.judge(ctx, result)
}

// prepare makes all that doesn't need the lab.
func (r *rehearsal) prepare(ctx context.Context) error {
	var err error
	if !r.Again {
		r.say("making the golden root (%s) in %s", r.Kind, r.golden)
		err = goldenroot.Make(ctx, r.Top, r.Kind, r.golden, r.Out)
		if err == nil && r.layout.ESP != 0 {
			err = goldenroot.ForUEFI(r.golden)
		}
		if err == nil && r.Cell != nil {
			err = goldenroot.Fit(r.golden, r.Cell.Files, r.Cell.Without...)
		}
	}
	if err != nil {
		return err
	}
	if r.before, err = compare.Scan(r.golden); err != nil {
		return err
	}
	r.say("the golden root has %d entries", len(r.before))
	layouts := map[string]string{"sda": r.layout.Desc}
	if r.Cell != nil {
		layouts = maps.Clone(r.Cell.Layouts)
		layouts["passphrase"] = Passphrase + "\n"
	}
	for disk, text := range layouts {
		if err := os.WriteFile(r.layoutFile(disk), []byte(text), 0o644); err != nil {
			return err
		}
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", r.path("golden-serve"), "./cmds/admin/golden-serve")
	build.Dir = r.Top
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build golden-serve: %w\n%s", err, out)
	}
	return nil
}

func (r *rehearsal) path(name string) string { return filepath.Join(r.Work, name) }

func (r *rehearsal) layoutFile(disk string) string { return r.path("layout-" + disk) }

func (r *rehearsal) say(format string, args ...any) {
	fmt.Fprintf(r.Out, "%6.1f s  %s\n", time.Since(r.started).Seconds(), fmt.Sprintf(format, args...))
}

// cloneAndBoot is the part that an administrator would see.
func (r *rehearsal) cloneAndBoot(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, r.Timeout, fmt.Errorf("not done after %s", r.Timeout))
	defer cancel()
	if r.Saved {
		back, err := r.save(ctx)
		if err != nil {
			return err
		}
		defer back()
	}
	if r.Lab != nil {
		if err := r.Lab(ctx, r.lab); err != nil {
			return err
		}
	}
	if err := r.startServe(); err != nil {
		return err
	}
	for i := range r.Nodes {
		n := r.newNode(i + 1)
		r.nodes = append(r.nodes, n)
		if err := n.power(ctx, r.lab); err != nil {
			return err
		}
		r.say("%s is on: %s, %s, disk of %d MiB on %s", n.spec.Name, n.spec.MAC, n.spec.NIC, n.spec.DiskSize>>20, n.spec.Bus)
	}
	if err := r.waitServe(ctx); err != nil {
		return err
	}
	r.say("golden-serve is done, exit status 0")
	for _, n := range r.nodes {
		if err := n.waitLogin(ctx); err != nil {
			return err
		}
		r.say("%s: its own log-in prompt, as %q, after %.1f s", n.spec.Name, n.prompt, n.loginAfter.Seconds())
	}
	for _, n := range r.nodes {
		if err := n.lookInside(ctx); err != nil {
			return err
		}
	}
	for _, n := range r.nodes {
		if !r.Alone {
			break
		}
		if err := n.startAlone(ctx, r.lab); err != nil {
			return err
		}
		r.say("%s: its log-in prompt once more, from its disk alone", n.spec.Name)
	}
	return nil
}

// LabConsole is golden-serve's --console for emulated machines.
const LabConsole = "console=tty0 console=ttyS0,115200 " + vmlab.KernelWords

func (r *rehearsal) startServe() error {
	args := []string{
		r.path("golden-serve"), "clone", "-n", fmt.Sprint(r.Nodes),
		"--interface", vmlab.Bridge, "--dhcp", "full", "--yes", "--report", r.path("report.json"),
		// Emulated machines share this one's processors, with each other and
		// with whatever else it does: they can be silent for longer than real ones.
		"--quiet", "60s", "--console", LabConsole,
	}
	if r.Saved {
		args = append(args, "--image", r.path("images"))
	} else {
		args = append(args, r.capture()...)
	}
	r.say("golden-serve %v", args[1:])
	p, err := r.lab.Start(vmlab.ProcessSpec{
		Name: "golden-serve", Dir: r.Top, Args: append(args, r.Serve...),
		Env: []string{"KAMETHOD_STATE=" + r.path("state")}, // several of us may run at once
		Tee: &prefixer{w: r.Out, prefix: "            golden-serve │ "},
	})
	r.serve = p
	return err
}

// waitServe waits for golden-serve's end, and gives up when a machine dies.
func (r *rehearsal) waitServe(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for _, n := range r.nodes {
		go func() { // ends with ctx
			select {
			case <-n.machine.Done():
				cancel(fmt.Errorf("machine %s ended by itself", n.spec.Name))
			case <-ctx.Done():
			}
		}()
	}
	return r.serve.Wait(ctx)
}
