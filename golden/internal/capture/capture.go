// Package capture looks at the golden machine and makes the plan that every
// clone carries out: the layout of its disks, what is made of them, what is
// mounted from where, what starts it and what identifies it. It reads and never
// changes anything, it doesn't walk the files (package golden/stream does), and
// what is copied as blocks is not its own.
//
//	running machine:  mountinfo, /proc/swaps ──▶ wants ◀── DIR/etc/fstab  (--root DIR)
//	      │ sysfs, lvs, mdadm, cryptsetup          │
//	      ▼                                        │
//	stack and disks ◀── desc, layout file (-p)     │
//	      └───────────────── match ◀───────────────┘
//	                           └──▶ wire.Plan
package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// Options says which machine, and what the administrator wants of it.
type Options struct {
	Root      string            // folder that holds the golden system; "" or "/": the running machine
	Descs     map[string]string // disk, "sda", to its desc's or layout file's path (-p)
	Layout    string            // layout file for all disks (-p); empty: none
	SkipDisks []string          // disks that are left out, "sdb" or "sdb|sdc" (-X)
	Excludes  []string          // absolute paths whose contents aren't cloned (-x)
	Blocks    []string          // partitions and volumes that are copied as blocks, "sda3" (-D): somebody else's
	Table     layout.Table      // kind of table that all disks get (--table); empty: as they have

	Passphrases []string // of encrypted containers: FILE, or NAME=FILE (--luks-passphrase)
	Programs    []string // that the nodes' stage 2 has; none: unknown
	Look        bool     // nothing will be cloned: no passphrase is wanted

	Loader wire.Loader  // Kind "auto": what the golden system has
	Log    *slog.Logger // nil: no log
}

// Machine is a golden machine as the clones will be.
type Machine struct {
	Plan   wire.Plan
	Mounts []string // golden's mount points whose files are cloned, "/" first, the plan's all among them
	Notes  []string // what a person should check: which file system goes where, what is left out
}

// want is a file system or swap area of the golden system, and where it lies
// if that is known.
type want struct {
	wire.Filesystem        // without Disk and Part; On where it is on no partition
	source          string // for messages: "DIR/etc/fstab:3", "mounted on /var"
	disk            string // golden's disk, "sda"; empty: unknown
	number          int    // of the partition on it; 0: unknown, or whole
	whole           bool   // the disk has no table
	node            string // path of the running machine's device
	subvol          string // btrfs: which of its subvolumes it is
	bare            bool   // btrfs: none was named
	fixed           bool   // a layout file has said where
}

// device is the path of the want's device on the running machine.
func (w want) device() string {
	if w.node != "" {
		return w.node
	}
	return device(w.disk, w.number)
}

// at sets where a want lies, by a name of the plan.
func (w *want) at(ref string, whole bool) {
	if w.disk, w.number = layout.SplitPartition(ref); w.number > 0 {
		return
	}
	if w.disk = ""; whole {
		w.disk, w.whole = ref, true
		return
	}
	w.On = ref
}

func (w want) swap() bool { return w.Type == "swap" }

func (w want) String() string {
	if w.swap() {
		return "swap"
	}
	return w.MountPoint + " (" + w.Type + ")"
}

// describer gathers a Machine.
type describer struct {
	opt   Options
	skip  []string
	m     machine
	disks []wire.DiskPlan
	facts *LoaderFacts    // of a saved image; nil: the files are here
	real  map[string]bool // disks that are laid out as golden's: whatever a partition's type says, it holds what it holds here
	stack stacked

	laid  laid
	left  []string // mount points of what is left out (-D, -X), until all mounts are read
	notes []string
}

func (d *describer) note(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	d.notes = append(d.notes, s)
	if d.opt.Log != nil {
		d.opt.Log.Info(s)
	}
}

// Describe makes the plan. It starts programs, which ctx can end.
func Describe(ctx context.Context, opt Options) (*Machine, error) {
	if opt.Root == "" {
		opt.Root = "/"
	}
	d := &describer{opt: opt, m: machine{sys: "/sys", run: output}, real: map[string]bool{}, stack: newStacked(), laid: laid{disks: map[string]bool{}}}
	d.skip = DiskNames(opt.SkipDisks)
	var err error
	if d.opt.Root, err = checkRoot(opt.Root); err != nil {
		return nil, err
	}
	excludes, err := cleanExcludes(opt.Excludes)
	if err != nil {
		return nil, err
	}
	d.opt.Excludes = excludes
	if err := d.readDescs(); err != nil {
		return nil, err
	}
	wants, err := d.wants(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.stack.Valid(d.stackDisks()); err != nil {
		return nil, fmt.Errorf("layout: %w", err)
	}
	filesystems, err := d.match(wants)
	if err != nil {
		return nil, err
	}
	if err := mountedOnce(filesystems); err != nil {
		return nil, err
	}
	d.shrinkVolumes(filesystems)
	if err := d.checkPrograms(filesystems); err != nil {
		return nil, err
	}
	var secrets []wire.Secret
	if !opt.Look {
		if secrets, err = d.secrets(); err != nil {
			return nil, err
		}
	}
	if err := d.convert(filesystems); err != nil {
		return nil, err
	}
	loader := d.opt.Loader
	if loader.Lack, err = d.bootable(filesystems); err != nil {
		return nil, err
	}
	loader.Kind = d.opt.Loader.Kind
	mounts, err := d.readable(filesystems)
	if err != nil {
		return nil, err
	}
	return &Machine{Mounts: mounts, Notes: d.notes, Plan: wire.Plan{
		Disks: d.disks, Stack: d.stack.Stack, Secrets: secrets, Filesystems: filesystems, Excludes: d.opt.Excludes,
		Loader: loader, Golden: identity(d.opt.Root, d.m.sys),
	}}, nil
}

func (d *describer) wants(ctx context.Context) ([]want, error) {
	if d.opt.Root == "/" {
		return d.fromRunning(ctx)
	}
	if len(d.disks) == 0 {
		return nil, fmt.Errorf("describe %s: a folder has no disk to take a layout from: give one with -p DISK DESC, or -p LAYOUT.yaml", d.opt.Root)
	}
	return d.fromFolder(ctx)
}

// diskName takes a disk as people write it, "/dev/sda" or "sda".
func diskName(s string) string { return strings.TrimPrefix(strings.TrimSpace(s), "/dev/") }

// DiskNames takes disks as -X has them, "/dev/sdb" or "sdb|sdc".
func DiskNames(given []string) []string {
	var list []string
	for _, s := range given {
		for _, name := range strings.Split(s, "|") {
			list = append(list, diskName(name))
		}
	}
	return list
}

// readDescs makes disks of the plan from descs and layout files.
func (d *describer) readDescs() error {
	if d.opt.Layout != "" {
		return d.readLayout(d.opt.Layout)
	}
	for name, path := range d.opt.Descs {
		name = diskName(name)
		if name == "" || strings.ContainsAny(name, " \n\x00") {
			return fmt.Errorf("disk %q: want a name such as sda", name)
		}
		if slices.Contains(d.skip, name) {
			return fmt.Errorf("disk %s: has a desc (-p) and is left out (-X)", name)
		}
		if d.diskIndex(name) >= 0 {
			return fmt.Errorf("disk %s: has two descs", name)
		}
		read := d.readDesc
		if IsLayoutFile(path) {
			read = d.diskLayout
		}
		if err := read(name, path); err != nil {
			return err
		}
	}
	return nil
}

func (d *describer) readDesc(name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("desc of %s: %w", name, err)
	}
	defer f.Close()
	l, err := layout.ParseDesc(f, path)
	if err != nil {
		return fmt.Errorf("desc of %s: %w", name, err)
	}
	d.addDisk(name, l)
	return nil
}

// addDisk keeps the disks in the order of their names.
func (d *describer) addDisk(name string, l layout.Disk) {
	d.addPlan(wire.DiskPlan{Name: name, Layout: l})
}

func (d *describer) addPlan(p wire.DiskPlan) {
	d.disks = append(d.disks, p)
	slices.SortFunc(d.disks, func(a, b wire.DiskPlan) int { return strings.Compare(a.Name, b.Name) })
}

func (d *describer) diskIndex(name string) int {
	return slices.IndexFunc(d.disks, func(p wire.DiskPlan) bool { return p.Name == name })
}

// checkRoot refuses a folder that holds no system.
func checkRoot(root string) (string, error) {
	abs, err := filepath.Abs(root)
	if err != nil {
		return "", fmt.Errorf("root %s: %w", root, err)
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", fmt.Errorf("root %s: %w", root, err)
	}
	isDir := func(name string) bool {
		st, err := os.Stat(filepath.Join(abs, name))
		return err == nil && st.IsDir()
	}
	missing := "etc"
	if isDir("etc") {
		missing = "usr/bin, bin or sbin"
		if isDir("usr/bin") || isDir("bin") || isDir("sbin") {
			return abs, nil
		}
	}
	return "", fmt.Errorf("%s is no root file system: it has no %s: give the folder that holds a whole system", root, missing)
}

// cleanExcludes takes absolute paths below the root.
func cleanExcludes(paths []string) ([]string, error) {
	var clean []string
	for _, p := range paths {
		c := filepath.Clean(p)
		switch {
		case !filepath.IsAbs(p):
			return nil, fmt.Errorf("exclude %q: want an absolute path", p)
		case c == "/":
			return nil, errors.New("exclude /: nothing would be left to clone")
		}
		if !slices.Contains(clean, c) {
			clean = append(clean, c)
		}
	}
	return clean, nil
}

// takeLeft leaves out of the scan what is mounted from what is left out, which
// comes to no mount below it then. Not sooner: excluded is what a person
// excludes.
func (d *describer) takeLeft(wants []want) []want {
	wants = slices.DeleteFunc(wants, func(w want) bool {
		return w.MountPoint != "" && d.belowLeft(w.MountPoint, w.source)
	})
	for _, at := range d.left {
		if !slices.Contains(d.opt.Excludes, at) {
			d.opt.Excludes = append(d.opt.Excludes, at)
		}
	}
	d.left = nil
	return wants
}

// belowLeft says whether a mount point is inside of what is left out, and tells
// people.
func (d *describer) belowLeft(mountPoint, source string) bool {
	i := slices.IndexFunc(d.left, func(at string) bool { return Beneath(mountPoint, at) })
	if i < 0 {
		return false
	}
	d.note("%s: %s left out: it is mounted below %s, which is left out (-D, -X)", source, mountPoint, d.left[i])
	return true
}

// excluded says whether nothing of what is mounted there is cloned.
func (d *describer) excluded(mountPoint string) bool {
	return slices.ContainsFunc(d.opt.Excludes, func(x string) bool {
		return mountPoint == x || strings.HasPrefix(mountPoint, x+"/")
	})
}
