package fixup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/kamethod/kamethod/golden/wire"
)

// Env is what Run works on.
type Env struct {
	Root     string           // where the clone is mounted: "/mnt/disk"
	Plan     wire.Plan        // as golden made it
	Disks    wire.DiskResult  // the node's devices and new UUIDs
	Firmware string           // of the node: wire.BIOS or wire.UEFI; empty: wire.BIOS
	Number   int              // the node's number, from 1
	Hostname string           // given by golden for this node; empty: Plan.Identity.Hostname with Number
	MAC      string           // of the node's network card that booted
	MACs     []string         // of all its network cards, in the kernel's order
	Now      func() time.Time // nil: time.Now
	Sys      string           // the node's sysfs; empty: "/sys"
	Log      *slog.Logger     // nil: nothing is logged
	Progress func(step string)

	// BeforeLoader is called once, before the boot menu is made and the boot
	// loader written: what hid the disks from the firmware ends. nil: nothing did.
	BeforeLoader func() error
}

// Report is what Run did.
type Report struct {
	Steps     []StepReport `json:"steps"`
	Hostname  string       `json:"hostname,omitempty"`
	HostKeys  []string     `json:"host_keys,omitempty"` // new public ssh host keys, a line each
	Leftovers []string     `json:"leftovers,omitempty"` // "/etc/foo:12: old host name golden"
}

// StepReport is what one step did.
type StepReport struct {
	Name     string        `json:"name"`
	Skipped  string        `json:"skipped,omitempty"` // why, if there was nothing to do
	Files    []Touched     `json:"files,omitempty"`
	Warnings []string      `json:"warnings,omitempty"`
	Took     time.Duration `json:"took"`
}

// Touched is a file that was changed, made or removed.
type Touched struct {
	Path string `json:"path"` // as the clone sees it
	Why  string `json:"why"`
}

func (r *StepReport) touch(path, why string) {
	r.Files = append(r.Files, Touched{Path: path, Why: why})
}

func (r *StepReport) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

// menuStep is the first step whose programs (grub-probe) want to see file
// systems as the firmware sees them.
const menuStep = "boot-menu"

// step is one thing to put right.
type step struct {
	name string
	run  func(context.Context, *clone, *StepReport) error
}

// steps is the order. Everything that the initrd and the menu are made from
// comes before them, and the boot loader is the last that is written: a node
// that stops half-way must not boot half an operating system.
func steps() []step {
	return []step{
		{"fstab", fixFstab},
		{"swap-files", own(fixSwapFiles)},
		{"storage", fixStorage},
		{"machine-id", own(fixMachineID)},
		{"host-name", own(fixHostname)},
		{"ssh-host-keys", own(fixHostKeys)},
		{"net-rules", own(fixNetRules)},
		{"network", own(fixNetwork)},
		{"dhcp-leases", own(fixLeases)},
		{"seeds", own(fixSeeds)},
		{"apps", own(fixApps)},
		{"traces", own(fixTraces)},
		{"resume", fixResume},
		{"uuids", fixUUIDs},
		{"boot-entries", fixEntries},
		{"modprobe", fixModprobe},
		{"initrd", fixInitrd},
		{"hooks", runHooks},
		{menuStep, fixMenu},
		{"selinux", fixLabels},
		{"boot-loader", fixLoader},
		{"leftovers", findLeftovers},
	}
}

// clone is the tree being worked on, shared by the steps of one Run.
type clone struct {
	// config
	env  Env
	host string  // the clone's name, valid
	vols volumes // the plan's file systems, old and new
	stk  stack   // what they are on
	ids  []id    // every UUID that was golden's

	// state
	tree       *tree
	chroot     *chroot
	oldHost    string // the golden node's name, as far as known
	oldMachine string // the golden node's machine-id, as far as known
	report     *Report
}

// Run carries out all steps. On an error the report holds what was done until
// then, the failing step last.
func Run(ctx context.Context, env Env) (report Report, err error) {
	c, err := newClone(env, &report)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	for _, s := range steps() {
		if s.name == menuStep && env.BeforeLoader != nil {
			if err := env.BeforeLoader(); err != nil {
				return report, fmt.Errorf("fix-up before step %s: %w", s.name, err)
			}
		}
		if err := c.do(ctx, s); err != nil {
			return report, fmt.Errorf("fix-up step %s: %w", s.name, err)
		}
	}
	return report, nil
}

func (c *clone) do(ctx context.Context, s step) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	if c.env.Progress != nil {
		c.env.Progress(s.name)
	}
	start := c.env.Now()
	rep := StepReport{Name: s.name}
	err := s.run(ctx, c, &rep)
	rep.Took = c.env.Now().Sub(start)
	c.report.Steps = append(c.report.Steps, rep)
	for _, w := range rep.Warnings {
		c.env.Log.Warn(w, "step", s.name)
	}
	c.env.Log.Info("fix-up step", "step", s.name, "files", len(rep.Files), "skipped", rep.Skipped, "took", rep.Took)
	return err
}

func newClone(env Env, report *Report) (*clone, error) {
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.Firmware == "" {
		env.Firmware = wire.BIOS
	}
	if env.Log == nil {
		env.Log = slog.New(slog.DiscardHandler)
	}
	if err := checkMode(env.Plan.Identity); err != nil {
		return nil, err
	}
	host, err := nodeName(env.Hostname, env.Plan.Identity.Hostname, env.Number)
	if err != nil && !env.same() {
		return nil, err
	}
	t, err := openTree(env.Root)
	if err != nil {
		return nil, err
	}
	env.Plan.Stack.Arrays = learnArrays(t, env.Plan.Stack.Arrays, env.Disks.Stack)
	stk, err := newStack(env.Plan, env.Disks)
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	vols, err := stk.volumes(env.Plan, env.Disks)
	if err != nil {
		return nil, errors.Join(err, t.close())
	}
	c := &clone{env: env, host: host, vols: vols, stk: stk, ids: append(vols.ids(), stk.ids...), tree: t, report: report}
	c.chroot = &chroot{tree: t, log: env.Log, vols: vols, stk: stk}
	c.learnGolden()
	if crypttab, err := t.read("/etc/crypttab"); err == nil {
		vols.learnCrypttab(string(crypttab))
	}
	if fstab, err := t.read("/etc/fstab"); err == nil {
		vols.learn(string(fstab))
	}
	if env.same() {
		c.host = c.oldHost
	}
	report.Hostname = c.host
	return c, nil
}

// learnGolden finds out whose clone this is before any step changes it. What
// the plan says counts; a plan that is silent leaves the files' word for it.
func (c *clone) learnGolden() {
	c.oldHost, c.oldMachine = c.env.Plan.Golden.Hostname, c.env.Plan.Golden.MachineID
	if c.oldHost == "" {
		c.oldHost = c.tree.firstLine("/etc/hostname")
	}
	if c.oldMachine == "" {
		c.oldMachine = c.tree.firstLine("/etc/machine-id")
	}
	if checkHostname(c.oldHost) != nil {
		c.oldHost = ""
	}
	if !isMachineID(c.oldMachine) {
		c.oldMachine = ""
	}
}

func (c *clone) close() error {
	return errors.Join(c.chroot.close(), c.tree.close())
}

// edit changes a text file of the clone, if it is there and if change changes
// it. It says whether the file is there.
func (c *clone) edit(rep *StepReport, name, why string, change func(string) string) (bool, error) {
	old, err := c.tree.read(name)
	if errors.Is(err, errAbsent) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	now := change(string(old))
	if now == string(old) {
		return true, nil
	}
	if err := c.tree.write(name, []byte(now), 0o644); err != nil {
		return true, err
	}
	rep.touch(name, why)
	return true, nil
}

// remove removes every file that a pattern names (see tree.glob).
func (c *clone) remove(rep *StepReport, why string, patterns ...string) error {
	for _, p := range patterns {
		for _, name := range c.tree.glob(p) {
			if !c.tree.isFile(name) {
				continue
			}
			if err := c.tree.remove(name); err != nil {
				return err
			}
			rep.touch(name, why)
		}
	}
	return nil
}
