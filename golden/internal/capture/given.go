package capture

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/kamethod/kamethod/golden/internal/layoutfile"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// laid is what layout files say.
type laid struct {
	whole bool            // one is for all disks: no other disk is in the plan
	disks map[string]bool // that have one
	stack layout.Stack
	given []given
}

// given is a file system that a layout file names.
type given struct {
	ref string // where: "sda2", "vg0/root"
	fs  wire.Filesystem
}

// IsLayoutFile says whether a file's name is a layout file's, in YAML, and not
// a desc's.
func IsLayoutFile(name string) bool {
	ext := filepath.Ext(name)
	return ext == ".yaml" || ext == ".yml"
}

// LayoutFile is the running machine as a layout file: all disks that it has
// files on, what is made of them, and what is mounted and swapped to.
func LayoutFile(ctx context.Context, log *slog.Logger) (layoutfile.File, error) {
	m, err := Describe(ctx, Options{Look: true, Loader: wire.Loader{Kind: loaderNone}, Log: log})
	if err != nil {
		return layoutfile.File{}, err
	}
	return m.layoutFile(), nil
}

func (m *Machine) layoutFile() layoutfile.File {
	return layoutfile.File{Disks: m.Plan.Disks, Stack: m.Plan.Stack, Filesystems: m.Plan.Filesystems}
}

// readLayout takes the layout file for all disks.
func (d *describer) readLayout(path string) error {
	f, err := openLayout(path)
	if err != nil {
		return err
	}
	if len(d.opt.Descs) > 0 {
		return fmt.Errorf("-p %s: is for all disks, and another -p is for one: write that disk into the file", path)
	}
	d.laid.whole = true
	for _, disk := range f.Disks {
		if slices.Contains(d.skip, disk.Name) {
			return fmt.Errorf("disk %s: is in %s and left out (-X)", disk.Name, path)
		}
		d.addPlan(disk)
	}
	d.takeFile(f)
	return nil
}

func openLayout(path string) (layoutfile.File, error) {
	r, err := os.Open(path)
	if err != nil {
		return layoutfile.File{}, fmt.Errorf("layout file: %w", err)
	}
	defer r.Close()
	return layoutfile.Parse(r, path)
}

// diskLayout takes one disk's part of a layout file, and what is made of it.
func (d *describer) diskLayout(name, path string) error {
	f, err := openLayout(path)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(f.Disks, func(p wire.DiskPlan) bool { return p.Name == name })
	if i < 0 || len(f.Disks) > 1 {
		return fmt.Errorf("-p %s %s: want a layout file with disk %s alone: with all disks in it, give -p %s", name, path, name, path)
	}
	d.addPlan(f.Disks[i])
	d.takeFile(f)
	return nil
}

func (d *describer) takeFile(f layoutfile.File) {
	for _, disk := range f.Disks {
		d.laid.disks[disk.Name] = true
	}
	s := &d.laid.stack
	s.Arrays = append(s.Arrays, f.Stack.Arrays...)
	s.Crypts = append(s.Crypts, f.Stack.Crypts...)
	s.Groups = append(s.Groups, f.Stack.Groups...)
	for _, fs := range f.Filesystems {
		ref := fs.On
		if ref == "" {
			ref = layout.PartitionName(f.Disks[fs.Disk].Name, fs.Part)
		}
		d.laid.given = append(d.laid.given, given{ref, fs})
	}
}

// mounted says whether a layout file names a place for a mount point.
func (d *describer) mounted(at string) bool {
	return at != "" && slices.ContainsFunc(d.laid.given, func(g given) bool { return slices.Contains(g.fs.MountPoints(), at) })
}

// takeLayout makes the stack what the plan will have, and gives each want the
// place that a layout file has for it.
func (d *describer) takeLayout(wants []want) []want {
	d.dropStack()
	s, l := &d.stack.Stack, d.laid.stack
	s.Arrays = slices.Concat(l.Arrays, slices.DeleteFunc(s.Arrays, func(a layout.Array) bool {
		return slices.ContainsFunc(l.Arrays, func(b layout.Array) bool { return a.Name == b.Name })
	}))
	s.Crypts = slices.Concat(l.Crypts, slices.DeleteFunc(s.Crypts, func(a layout.Crypt) bool {
		return slices.ContainsFunc(l.Crypts, func(b layout.Crypt) bool { return a.Name == b.Name })
	}))
	s.Groups = slices.Concat(l.Groups, slices.DeleteFunc(s.Groups, func(a layout.Group) bool {
		return slices.ContainsFunc(l.Groups, func(b layout.Group) bool { return a.Name == b.Name })
	}))
	there := Made(*s)
	for i, w := range wants {
		if w.On != "" && !slices.Contains(there, w.On) {
			wants[i].On = ""
		}
		if d.laid.whole && w.disk != "" && d.diskIndex(w.disk) < 0 {
			wants[i].disk, wants[i].number, wants[i].whole = "", 0, false
		}
	}
	for _, g := range d.laid.given {
		wants = d.takeGiven(wants, g)
	}
	return wants
}

// takeGiven gives one file system of a layout file to the want it is for, which
// is a new one where golden has it in another file system.
func (d *describer) takeGiven(wants []want, g given) []want {
	whole := d.diskIndex(g.ref) >= 0
	i := slices.IndexFunc(wants, func(w want) bool { return w.isFor(g) })
	if i < 0 {
		return d.splitOff(wants, g, whole)
	}
	w := &wants[i]
	w.fixed = true
	w.at(g.ref, whole)
	if g.fs.Type != "" && g.fs.Type != w.Type {
		d.changeType(w, g.fs.Type)
	}
	w.override(g.fs)
	if len(g.fs.Subvolumes) == 0 {
		return wants
	}
	w.Subvolumes = g.fs.Subvolumes
	return d.fold(wants, g.fs)
}

// splitOff adds a want for what only the layout file has.
func (d *describer) splitOff(wants []want, g given, whole bool) []want {
	if g.fs.MountPoint == "" && g.fs.Type != "swap" {
		return wants // nothing says what belongs there
	}
	w := want{source: "the layout file", Filesystem: g.fs, fixed: true}
	w.at(g.ref, whole)
	if w.Type == "" {
		w.Type = "ext4"
	}
	if !w.swap() {
		d.note("%s: no file system of its own here: the layout file makes it one, on %s", w.MountPoint, g.ref)
	}
	return append(d.fold(wants, g.fs), w)
}

// changeType forgets what only golden's type has.
func (d *describer) changeType(w *want, to string) {
	d.note("%s: %s here, %s on the clones, as the layout file says", w.MountPoint, w.Type, to)
	w.Type, w.Features, w.InodeSize, w.BlockSize, w.Reserved, w.Options, w.Subvolumes = to, nil, 0, 0, 0, "", nil
	if to == "xfs" && len(w.Label) > 12 || len(w.Label) > 16 && to != "btrfs" && to != "f2fs" { // xfs_format.h XFSLABEL_MAX; ext2_fs.h
		d.note("%s: its label %q is too long for %s, and left out", w.MountPoint, w.Label, to)
		w.Label = ""
	}
}

// override takes what a layout file says in place of what golden has.
func (w *want) override(fs wire.Filesystem) {
	w.Label = cmp.Or(fs.Label, w.Label)
	w.Options = cmp.Or(fs.Options, w.Options)
	w.BlockSize = cmp.Or(fs.BlockSize, w.BlockSize)
	w.InodeSize = cmp.Or(fs.InodeSize, w.InodeSize)
	w.Reserved = cmp.Or(fs.Reserved, w.Reserved)
	if len(fs.Features) > 0 {
		w.Features = fs.Features
	}
}

// isFor says whether a file system of a layout file is for this want: by the
// mount point, and swap for swap that lies there, or anywhere.
func (w want) isFor(g given) bool {
	if g.fs.Type == "swap" {
		return w.swap() && !w.fixed
	}
	return g.fs.MountPoint != "" && w.MountPoint == g.fs.MountPoint
}

// fold drops the wants that become subvolumes of another one.
func (d *describer) fold(wants []want, into wire.Filesystem) []want {
	return slices.DeleteFunc(wants, func(w want) bool {
		folded := w.MountPoint != into.MountPoint && slices.ContainsFunc(into.Subvolumes, func(s wire.Subvolume) bool { return s.MountPoint == w.MountPoint && w.MountPoint != "" })
		if folded {
			d.note("%s: a file system of its own here, a subvolume on the clones", w.MountPoint)
		}
		return folded
	})
}

// stackDisks is the plan's layouts by the disks' names.
func (d *describer) stackDisks() map[string]layout.Disk {
	m := map[string]layout.Disk{}
	for _, p := range d.disks {
		m[p.Name] = p.Layout
	}
	return m
}

// hasPlace says whether the plan will have an array, container or volume of
// that name.
func (d *describer) hasPlace(name string) bool {
	return slices.Contains(Made(d.laid.stack), name) || slices.Contains(Made(d.stack.Stack), name)
}
