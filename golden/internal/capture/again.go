package capture

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// LoaderFacts is what a boot loader needs of a golden system's files: enough to
// choose another one when the system isn't at hand any more.
type LoaderFacts struct {
	GRUB   []string // platforms that it has GRUB for: "i386-pc"
	Loader string   // that it has; empty: nothing shows which
	Kernel bool     // there is one to start
}

// LookForLoaders finds them out.
func LookForLoaders(root string, excludes []string) LoaderFacts {
	if root == "" {
		root = "/"
	}
	d := &describer{opt: Options{Root: root, Excludes: excludes}, m: machine{sys: "/sys"}}
	f := LoaderFacts{Kernel: d.hasKernel() == nil}
	for _, p := range []string{"i386-pc", "x86_64-efi"} {
		if d.hasGRUB(p) {
			f.GRUB = append(f.GRUB, p)
		}
	}
	kind, file := findLoader(root)
	if file != "" {
		f.Loader = kind
	}
	if now := d.m.startedBy(); now != "" && root == "/" {
		f.Loader = now
	}
	return f
}

// Again fits a plan that was saved to other disks, another boot loader, and a
// stage 2. Of the options it takes what a person may still say then: layouts,
// the table, passphrases and the boot loader, whose Kind is empty where it
// stays the saved one.
func Again(saved wire.Plan, facts LoaderFacts, opt Options) (*Machine, error) {
	for _, b := range saved.Blocks {
		opt.Blocks = append(opt.Blocks, b.On)
	}
	opt.Excludes = saved.Excludes
	d := &describer{opt: opt, facts: &facts, real: map[string]bool{}, stack: newStacked(), laid: laid{disks: map[string]bool{}}}
	p := saved
	var err error
	if len(opt.Descs) == 0 && opt.Layout == "" && opt.Table == "" && opt.Loader.Kind == "" {
		d.disks, d.stack.Stack = p.Disks, p.Stack
		err = d.checkPrograms(p.Filesystems)
	} else {
		err = d.again(&p)
	}
	if err != nil {
		return nil, err
	}
	if p.Secrets, err = d.secrets(); err != nil {
		return nil, err
	}
	return &Machine{Plan: p, Notes: d.notes}, nil
}

// again is Describe with the saved plan in place of a machine.
func (d *describer) again(p *wire.Plan) error {
	if err := d.readDescs(); err != nil {
		return err
	}
	wants := savedWants(*p)
	if err := d.keepDisks(p.Disks); err != nil {
		return err
	}
	d.stack.Stack = layout.Stack{
		Arrays: slices.Clone(p.Stack.Arrays), Crypts: slices.Clone(p.Stack.Crypts), Groups: slices.Clone(p.Stack.Groups),
	}
	for i, g := range d.stack.Groups {
		d.stack.Groups[i].Volumes = slices.Clone(g.Volumes)
	}
	wants = d.takeLayout(d.renameOnlyDisk(wants, "the saved image"))
	if err := d.stack.Valid(d.stackDisks()); err != nil {
		return fmt.Errorf("layout: %w", err)
	}
	if err := d.roomForBlocks(p.Blocks); err != nil {
		return err
	}
	filesystems, err := d.match(wants)
	if err == nil {
		err = mountedOnce(filesystems)
	}
	if err != nil {
		return err
	}
	d.shrinkVolumes(filesystems)
	if err := d.checkPrograms(filesystems); err != nil {
		return err
	}
	if err := d.convert(filesystems); err != nil {
		return err
	}
	if p.Loader, err = d.loaderAgain(p.Loader, filesystems); err != nil {
		return err
	}
	p.Disks, p.Stack, p.Filesystems = d.disks, d.stack.Stack, filesystems
	return nil
}

// keepDisks adds the saved disks that have no new layout. What was said of the
// others besides is kept. An only disk may have another name now.
func (d *describer) keepDisks(disks []wire.DiskPlan) error {
	if !d.laid.whole && len(disks) > 0 {
		for _, now := range d.disks {
			if !slices.ContainsFunc(disks, func(was wire.DiskPlan) bool { return was.Name == now.Name }) {
				if len(disks) == 1 && len(d.disks) == 1 {
					return nil
				}
				return fmt.Errorf("-p %s: the saved image has %s, and no disk of that name", now.Name, names(disks))
			}
		}
	}
	for _, was := range disks {
		i := d.diskIndex(was.Name)
		switch {
		case i >= 0:
			if d.disks[i].Match == (layout.Match{}) {
				d.disks[i].Match = was.Match
			}
			d.disks[i].BootCode = was.BootCode
		case d.laid.whole:
			d.note("disk %s: is in the saved image, and not in the layout file: left out", was.Name)
		default:
			d.real[was.Name] = true
			was.Layout.Parts = slices.Clone(was.Layout.Parts)
			d.addPlan(was)
		}
	}
	return nil
}

// savedWants is what the saved plan has. What it has only because there was a
// partition for it is left to the new layout.
func savedWants(p wire.Plan) []want {
	var wants []want
	for _, fs := range p.Filesystems {
		nameless := fs.OldUUID == "" && fs.OldDevice == "" && fs.OldPartID == "" && fs.Label == ""
		if nameless && (fs.Type == "swap" || fs.Type == wire.VFAT && fs.MountPoint == EFIMount) {
			continue
		}
		w := want{Filesystem: fs, source: "the saved image"}
		if fs.On == "" {
			w.disk, w.number, w.whole = p.Disks[fs.Disk].Name, fs.Part, fs.Part == 0
		}
		wants = append(wants, w)
	}
	return wants
}

// roomForBlocks refuses a layout in which what is copied as blocks has no place,
// or too small a one.
func (d *describer) roomForBlocks(list []wire.Blocks) error {
	plan := wire.Plan{Disks: d.disks}
	for _, b := range list {
		if slices.Contains(Made(d.stack.Stack), b.On) {
			continue // the node sees whether it is large enough
		}
		disk, number, ok := plan.Place(b.On)
		if !ok {
			return fmt.Errorf("the saved image has %s as blocks, and the layout of %s has no such partition", b.On, d.diskNames())
		}
		for _, p := range d.disks[disk].Layout.Parts {
			if p.Number == number && p.Size > 0 && !p.Fill && p.Size < b.Bytes {
				return fmt.Errorf("the saved image has %s as blocks, %d bytes: its desc has %d for it, and they can't be made smaller", b.On, b.Bytes, p.Size)
			}
		}
	}
	return nil
}

// loaderAgain settles the boot loader: the saved one, or the one that is wanted.
func (d *describer) loaderAgain(was wire.Loader, filesystems []wire.Filesystem) (wire.Loader, error) {
	l := &d.opt.Loader
	if l.Kind == "" {
		l.Kind, l.With = was.Kind, was.With
	}
	if len(filesystems) == 0 {
		if l.Kind != was.Kind {
			return was, fmt.Errorf("-r %s: the saved image has no files, and no boot loader", l.Kind)
		}
		return was, nil
	}
	lack, err := d.bootable(filesystems)
	return wire.Loader{Kind: l.Kind, With: l.With, Lack: lack}, err
}

// loaderHere is findLoader for what is looked at, be it there or saved.
func (d *describer) loaderHere() (kind, file string) {
	if d.facts == nil {
		return findLoader(d.opt.Root)
	}
	if d.facts.Loader == "" {
		return loaderGRUB, ""
	}
	return d.facts.Loader, "what was seen when the image was saved"
}

// kernelSaved is hasKernel for a saved image.
func (d *describer) kernelSaved() error {
	if d.facts.Kernel {
		return nil
	}
	return errors.New("the saved image has no kernel in /boot, where the boot loader would look for it: -r none leaves the boot loader out")
}
