// Package builder makes boot images: it compiles Go commands into one busybox,
// picks kernel modules and host programs by a recipe, and packs them as an
// initramfs or a squashfs. The same input gives the same bytes, whatever folder
// or machine it is built in.
//
// It knows nothing of cloning: which commands, which modules, which extra files
// an image has is the caller's business. It installs nothing and needs no root.
//
//	recipe ──▶ commands ──▶ bb ─────────┐
//	           modules ──▶ depmod ──────┼──▶ Tree ──▶ newc cpio + zstd ──▶ all.rdz
//	           programs ──▶ libraries ──┘       └───▶ squashfs ──────────▶ rescue.sqfs
//	kernel (machine's, named, or package's) ────────────────────────────▶ vmlinuz
package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config is one run of the builder.
type Config struct {
	Source string        // the Go module whose commands go into the images
	Out    string        // folder for the results
	Cache  string        // folder for the kernel package and for scratch; default Out/.cache
	Kernel KernelSource  // where the kernel comes from
	Images []ImageConfig // what to make of it
	Tree   []TreeFile    // further files below Out: a boot server's tree

	// Progress is told each step in one line, one at a time; nil: silence.
	Progress func(line string)
}

// Format is how an image is packed.
type Format string

// The two formats.
const (
	Initramfs Format = "initramfs" // newc cpio in zstd, for the kernel to unpack
	Squashfs  Format = "squashfs"  // for a node to mount
)

// ImageConfig is one image.
type ImageConfig struct {
	Name   string // file below Config.Out
	Format Format
	Recipe *Recipe
	Extra  []ExtraFile
	Base   string // folder or image of somebody else's that ours is laid over; none if empty. Squashfs only
	Goal   int64  // bytes the image should not exceed; 0: no goal. Missing it is a warning
}

// ExtraFile is a file that the recipe doesn't know: made of Data, or the sum of
// the result SumOf, which an image before this one is.
type ExtraFile struct {
	Name  string // path in the image
	Mode  os.FileMode
	Data  []byte
	SumOf string
}

// TreeFile is a file below Config.Out that is no image: made of Data, of the
// file From, a second name of the result Of, or the sum of the result SumOf.
type TreeFile struct {
	Name  string
	Data  []byte
	From  string
	Of    string
	SumOf string

	// Package is the distribution's package that holds From. Where it isn't
	// installed it is fetched and unpacked aside, never installed: the
	// packages of boot loaders write to the boot loader of this machine.
	Package  string
	Optional bool // without From: a warning where it has a package, nothing where it hasn't
}

// KernelName is the kernel's name below Config.Out.
const KernelName = "vmlinuz"

// Build makes everything that cfg names.
func Build(ctx context.Context, cfg Config) (*Manifest, error) {
	r, err := newRun(cfg)
	if err != nil {
		return nil, err
	}
	defer r.close()

	if err := r.checkBases(); err != nil {
		return nil, err
	}
	if err := r.kernelStep(ctx); err != nil {
		return nil, err
	}
	for _, img := range cfg.Images {
		if err := r.image(ctx, img); err != nil {
			return nil, fmt.Errorf("image %s: %w", img.Name, err)
		}
	}
	for _, f := range cfg.Tree {
		if err := r.treeFile(ctx, f); err != nil {
			return nil, err
		}
	}
	return &r.manifest, r.manifest.write(cfg.Out)
}

// run is one Build under way.
type run struct {
	Config

	scratch  string // temporary, in Cache
	lock     *os.File
	kernel   *Kernel
	modules  *Modules
	manifest Manifest
	started  time.Time
	saying   sync.Mutex
}

func newRun(cfg Config) (*run, error) {
	r := &run{Config: cfg, started: time.Now()}
	var err error
	if r.Out, err = filepath.Abs(cfg.Out); err != nil {
		return nil, err
	}
	if r.Cache == "" {
		r.Cache = filepath.Join(r.Out, ".cache")
	}
	if r.Cache, err = filepath.Abs(r.Cache); err != nil {
		return nil, err
	}
	if r.Source, err = filepath.Abs(cfg.Source); err != nil {
		return nil, err
	}
	for _, d := range []string{r.Out, r.Cache} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return nil, fmt.Errorf("make folder: %w", err)
		}
	}
	if err := r.takeLock(); err != nil {
		return nil, err
	}
	r.scratch, err = os.MkdirTemp(r.Cache, "build-")
	if err != nil {
		r.close()
		return nil, fmt.Errorf("make scratch folder: %w", err)
	}
	return r, nil
}

// takeLock keeps a second run from writing the same files. The lock is on
// the folder itself and ends with the process, however it ends.
func (r *run) takeLock() error {
	var err error
	if r.lock, err = os.Open(r.Out); err != nil {
		return err
	}
	if err := unix.Flock(int(r.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		r.lock.Close()
		return fmt.Errorf("lock %s (is another build at work there?): %w", r.Out, err)
	}
	return nil
}

func (r *run) close() {
	os.RemoveAll(r.scratch)
	r.lock.Close()
}

func (r *run) say(format string, args ...any) {
	if r.Progress != nil {
		r.saying.Lock() // long speaks while what it waits for does too
		defer r.saying.Unlock()
		r.Progress(fmt.Sprintf("[%3ds] ", int(time.Since(r.started).Seconds())) + fmt.Sprintf(format, args...))
	}
}

// warn says a line and keeps it for the manifest.
func (r *run) warn(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	r.manifest.Warnings = append(r.manifest.Warnings, line)
	r.say("warning: %s", line)
}

// long runs f and says every ten seconds that it is still at it.
func (r *run) long(what string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			return err
		case <-tick.C:
			r.say("still %s", what)
		}
	}
}

func (r *run) kernelStep(ctx context.Context) error {
	src := r.Kernel
	src.cache, src.say = r.Cache, r.say
	k, err := src.find(ctx)
	if err != nil {
		return err
	}
	r.kernel = k
	r.say("kernel %s, from %s", k.Release, k.Origin)
	err = r.long("reading the kernel's modules", func() error {
		r.modules, err = ReadModules(k.Modules, k.Release)
		return err
	})
	if err != nil {
		return err
	}
	if err := k.agrees(r.modules); err != nil {
		return err
	}
	r.say("%d kernel modules read", len(r.modules.All))
	r.manifest.Kernel = KernelEntry{Release: k.Release, Origin: k.Origin}
	return r.result(KernelName, 0, func(tmp string) error { return copyFile(k.Image, tmp) })
}

func (r *run) image(ctx context.Context, img ImageConfig) error {
	t := NewTree()
	entry := ImageEntry{Name: img.Name, Format: img.Format}
	steps := []func(context.Context, *Tree, ImageConfig, *ImageEntry) error{
		r.addBusybox, r.addModules, r.addPrograms, r.addFiles, r.addRest,
	}
	for _, step := range steps {
		if err := step(ctx, t, img, &entry); err != nil {
			return err
		}
	}
	t, err := r.overBase(ctx, t, img, &entry)
	if err != nil {
		return err
	}
	if err := t.Check(); err != nil {
		return err
	}
	entry.Entries = len(t.Sorted())
	err = r.result(img.Name, img.Goal, func(tmp string) error {
		return r.long("packing "+img.Name, func() error {
			r.say("%s: packing %d entries", img.Name, entry.Entries)
			if img.Format == Squashfs {
				return WriteSquashfs(ctx, tmp, t)
			}
			return WriteInitramfs(ctx, tmp, t)
		})
	})
	if err != nil {
		return err
	}
	r.manifest.Images = append(r.manifest.Images, entry)
	return nil
}

func (r *run) addBusybox(ctx context.Context, t *Tree, img ImageConfig, e *ImageEntry) error {
	if len(img.Recipe.Commands) == 0 {
		return nil
	}
	b := busybox{source: r.Source, scratch: filepath.Join(r.scratch, img.Name), tags: img.Recipe.Tags}
	return r.long("compiling the commands of "+img.Name, func() error {
		bin, cmds, err := b.build(ctx, img.Recipe.Commands)
		if err != nil {
			return err
		}
		e.Commands = cmds
		r.say("%s: %d commands compiled", img.Name, len(cmds))
		if err := t.AddPath("bbin/bb", bin, 0o755); err != nil {
			return err
		}
		for _, c := range cmds {
			if err := t.AddLink("bbin/"+c, "bb"); err != nil {
				return err
			}
		}
		return nil
	})
}

func (r *run) addModules(_ context.Context, t *Tree, img ImageConfig, e *ImageEntry) error {
	if len(img.Recipe.Modules) == 0 {
		return nil
	}
	set, unknown := r.modules.Select(img.Recipe.Modules)
	if len(unknown) > 0 {
		r.say("%s: this kernel has nothing for %d patterns: %v", img.Name, len(unknown), unknown)
	}
	for _, m := range set {
		e.Modules = append(e.Modules, m.Name)
	}
	slices.Sort(e.Modules)
	e.FirmwareMissing = r.addFirmware(t, set)
	if n := len(e.FirmwareMissing); n > 0 {
		r.say("%s: %d firmware files named by modules are not on this machine (first: %s); such devices may stay dead",
			img.Name, n, e.FirmwareMissing[0])
	}
	r.say("%s: %d kernel modules", img.Name, len(set))
	return r.modules.AddTo(t, set)
}

func (r *run) addRest(_ context.Context, t *Tree, img ImageConfig, _ *ImageEntry) error {
	var errs []error
	for _, d := range img.Recipe.Dirs {
		errs = append(errs, t.AddDir(d.Name, d.Mode))
	}
	for _, l := range img.Recipe.Links {
		errs = append(errs, t.add(&Entry{Name: l.Name, Mode: fs.ModeSymlink | 0o777, Target: l.Target, weak: l.Optional}))
	}
	for _, x := range img.Extra {
		data := x.Data
		if x.SumOf != "" {
			var err error
			if data, err = r.manifest.sumLine(x.SumOf); err != nil {
				return fmt.Errorf("make %s: %w", x.Name, err)
			}
		}
		errs = append(errs, t.AddData(x.Name, data, x.Mode))
	}
	return errors.Join(errs...)
}
