package golden

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/internal/blockuse"
	"github.com/kamethod/kamethod/golden/internal/capture"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// BlockCopy is a partition, disk or volume that is copied as blocks (-D).
type BlockCopy struct {
	On   string // "sda3", "vg0/data"
	File string // that holds its contents; empty: the golden machine's own
}

// ParseBlockCopy takes PARTITION or PARTITION=FILE.
func ParseBlockCopy(s string) (BlockCopy, error) {
	on, file, given := strings.Cut(s, "=")
	on = strings.TrimPrefix(strings.TrimSpace(on), "/dev/")
	if on == "" || given && file == "" || strings.ContainsAny(on, " \t\n\x00") || strings.Contains("/"+on+"/", "/../") {
		return BlockCopy{}, fmt.Errorf("-D %s: want a partition such as sda3, or sda3=FILE with its contents", s)
	}
	return BlockCopy{on, file}, nil
}

// addBlocks puts what is copied as blocks into the plan, and opens it.
func (o Original) addBlocks(ctx context.Context, plan *wire.Plan, log *slog.Logger) (all []*stream.Blocks, notes []string, err error) {
	defer func() {
		if err != nil {
			closeBlocks(all)
		}
	}()
	own := len(plan.Disks) // of what has files; those behind come for their blocks
	for n, c := range o.Blocks {
		path := c.File
		if path == "" {
			if o.Root != "" && o.Root != "/" {
				return all, nil, fmt.Errorf("-D %s: a folder has no partitions: name the file that holds its contents: -D %s=FILE", c.On, c.On)
			}
			path = "/dev/" + c.On
		}
		c.On = planName(plan.Stack, c.On)
		u, err := blockuse.Look(ctx, blockuse.Partition{Path: path, How: o.BlocksHow, Log: log})
		if err != nil {
			return all, nil, fmt.Errorf("-D %s: %w", c.On, err)
		}
		if err := o.placeBlocks(plan, c, u.Map.Bytes); err != nil {
			return all, nil, err
		}
		b, err := stream.OpenBlocks(n, path, c.On, u.Map)
		if err != nil {
			return all, nil, err
		}
		all = append(all, b)
		plan.Blocks = append(plan.Blocks, wire.Blocks{On: c.On, Type: u.Type, OldUUID: u.UUID, Bytes: u.Map.Bytes, How: u.Map.How})
		notes = append(append(notes, u.Notes...), fmt.Sprintf("%s as blocks, %s: %s, %d of %d MB", c.On, u.Name(), u.Map.How, u.Map.Data()>>20, u.Map.Bytes>>20))
	}
	return all, append(notes, emptyParts(*plan, own)...), nil
}

// emptyParts says which partitions the clones get without anything in them, of
// the disks from the given one on.
func emptyParts(plan wire.Plan, from int) []string {
	var notes []string
	for _, d := range plan.Disks[from:] {
		for _, p := range d.Layout.Parts {
			name := layout.PartitionName(d.Name, p.Number)
			if p.Kind != layout.Extended && !slices.ContainsFunc(plan.Blocks, func(b wire.Blocks) bool { return b.On == name }) {
				notes = append(notes, fmt.Sprintf("%s: the clones have it empty: -D %s copies it", name, name))
			}
		}
	}
	return notes
}

func closeBlocks(all []*stream.Blocks) {
	for _, b := range all {
		b.Close()
	}
}

// placeBlocks sees to it that the plan has a place for the blocks: as large as
// golden's, unless a desc says how large it is.
func (o Original) placeBlocks(plan *wire.Plan, c BlockCopy, bytes int64) error {
	for _, b := range plan.Blocks {
		if b.On == c.On {
			return fmt.Errorf("-D %s: given twice", c.On)
		}
	}
	for _, fs := range plan.Filesystems {
		on := fs.On
		if on == "" {
			on = layout.PartitionName(plan.Disks[fs.Disk].Name, fs.Part)
		}
		if on == c.On {
			return fmt.Errorf("-D %s: its files are cloned already (%s %s): unmount it, exclude them with -x, or leave -D out", c.On, fs.Type, fs.MountPoint)
		}
	}
	if planned(plan.Stack, c.On) {
		if o.Layout == "" {
			volumeSize(plan.Stack, c.On, bytes)
		}
		return nil // the node sees whether it is large enough
	}
	disk, part, ok := findPartition(*plan, c.On)
	if !ok {
		var err error
		if disk, part, err = o.addBlockDisk(plan, c); err != nil {
			return err
		}
	}
	d := &plan.Disks[disk]
	if part < 0 {
		if len(d.Layout.Parts) > 0 {
			return fmt.Errorf("-D %s: the disk gets partitions: name those to copy", c.On)
		}
		return nil
	}
	p := &d.Layout.Parts[part]
	switch {
	case p.Kind == layout.Extended:
		return fmt.Errorf("-D %s: an extended partition holds others: name those to copy", c.On)
	case o.Descs[d.Name] == "" && o.Layout == "": // golden's own layout
		const mib = 1 << 20
		p.Size, p.Min, p.Max, p.Percent, p.Fill = (bytes+mib-1)/mib*mib, 0, 0, 0, false
	case p.Size > 0 && !p.Fill && p.Size < bytes:
		return fmt.Errorf("-D %s: its desc has %d bytes for it, its contents are %d: they can't be made smaller", c.On, p.Size, bytes)
	}
	return nil
}

// planName is what the plan calls a device: a volume has a second name among
// the device mapper's, in which a hyphen is written twice (lvm(8)).
func planName(s layout.Stack, name string) string {
	for _, g := range s.Groups {
		for _, v := range g.Volumes {
			if name == "mapper/"+layout.MapperName(g.Name, v.Name) {
				return g.Name + "/" + v.Name
			}
		}
	}
	if n, ok := strings.CutPrefix(name, "md/"); ok && planned(s, "md"+n) {
		return "md" + n
	}
	return name
}

// planned says whether the stack has a thing of that name.
func planned(s layout.Stack, name string) bool { return slices.Contains(capture.Made(s), name) }

// volumeSize makes a volume as large as golden's.
func volumeSize(s layout.Stack, name string, bytes int64) {
	for _, g := range s.Groups {
		for i, v := range g.Volumes {
			if g.Name+"/"+v.Name == name {
				v.Size, v.Min, v.Max, v.Percent, v.Fill = bytes, 0, 0, 0, false
				g.Volumes[i] = v
			}
		}
	}
}

// findPartition finds a partition of the plan's disks; part -1: a disk.
func findPartition(plan wire.Plan, name string) (disk, part int, ok bool) {
	for i, d := range plan.Disks {
		if d.Name == name {
			return i, -1, true
		}
		for j, p := range d.Layout.Parts {
			if layout.PartitionName(d.Name, p.Number) == name {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}

// addBlockDisk adds a disk to the plan from which nothing else is cloned: laid
// out as it is, or without a table where all of it is copied.
func (o Original) addBlockDisk(plan *wire.Plan, c BlockCopy) (disk, part int, err error) {
	name := c.On
	on, number := layout.SplitPartition(name)
	if number == 0 {
		on = name
	}
	if i := slices.IndexFunc(plan.Disks, func(d wire.DiskPlan) bool { return d.Name == on }); i >= 0 {
		return 0, 0, fmt.Errorf("-D %s: the clones' %s has no partition %d", name, on, number)
	}
	if o.Root != "" && o.Root != "/" && number > 0 {
		return 0, 0, fmt.Errorf("-D %s: nothing says what %s looks like: give a desc with -p %s DESC", name, on, on)
	}
	if slices.Contains(capture.DiskNames(o.SkipDisks), on) {
		return 0, 0, fmt.Errorf("-D %s: its disk is left out (-X)", name)
	}
	// Whatever a node gives this name to is erased: it has to be a disk's.
	if c.File == "" || number > 0 {
		err = capture.CheckDisk(on)
	} else if disk, n := layout.SplitPartition(layout.PartitionName(on, 1)); disk != on || n != 1 || strings.HasPrefix(on, "md") {
		err = fmt.Errorf("%s is no disk's name, and not in the plan", on)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("-D %s: %w: an array, a container or a volume can be copied where the plan makes it, because files lie on it or a layout file (-p LAYOUT.yaml) has it; else copy what it is made of", name, err)
	}
	d := wire.DiskPlan{Name: on, Layout: layout.Disk{Table: layout.None}}
	if number > 0 {
		if d.Layout, err = capture.DescribeDisk(on); err != nil {
			return 0, 0, fmt.Errorf("-D %s: %w", name, err)
		}
	}
	// At the end: file systems know their disks by number.
	plan.Disks = append(plan.Disks, d)
	disk, part, ok := findPartition(*plan, name)
	if !ok {
		return 0, 0, fmt.Errorf("-D %s: %s has no such partition", name, on)
	}
	return disk, part, nil
}

// addBootCode puts what comes before the partition tables into the plan (-m,
// -M): of golden's disk, or from a file.
func (o Original) addBootCode(plan *wire.Plan) error {
	for _, name := range slices.Sorted(maps.Keys(o.BootCode)) {
		file := o.BootCode[name]
		i := slices.IndexFunc(plan.Disks, func(d wire.DiskPlan) bool { return d.Name == name })
		if i < 0 {
			return fmt.Errorf("boot record for %s: the clones have no such disk", name)
		}
		d := &plan.Disks[i]
		if d.Layout.Table == layout.None {
			return fmt.Errorf("boot record for %s: the disk gets no partition table; what is copied of it as blocks has its boot record", name)
		}
		if plan.Loader.Kind != "none" && holdsLoader(*plan, i) {
			return fmt.Errorf("boot record for %s: the boot loader %s is written over it last: give -r none, or leave -m and -M out", name, plan.Loader.Kind)
		}
		var err error
		switch {
		case file != "":
			d.BootCode, err = blockuse.FileBootCode(file)
		case o.Root != "" && o.Root != "/":
			err = fmt.Errorf("-m %s: a folder has no disk: give the record with -M %s FILE", name, name)
		default:
			d.BootCode, err = blockuse.DiskBootCode("/dev/" + name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// holdsLoader says whether the clone's own boot loader goes to that disk.
func holdsLoader(plan wire.Plan, disk int) bool {
	for _, fs := range plan.Filesystems {
		if (fs.MountPoint == "/" || fs.MountPoint == "/boot") && (fs.On != "" || fs.Disk == disk) {
			return true
		}
	}
	return false
}

// describeBlocks is Describe for a machine of which no file is cloned, such as
// one with Windows that runs from a rescue system just now.
func describeBlocks(ctx context.Context, o Original, log *slog.Logger) (*Described, error) {
	switch {
	case len(o.Blocks) == 0:
		return nil, errors.New("no files are to be cloned, and nothing as blocks: name what with -D")
	case len(o.Descs) > 0 || o.Layout != "" || o.Table != "":
		return nil, errors.New("without files the disks are laid out as golden's: -p and --table can't be given")
	case len(o.Passphrases) > 0:
		return nil, errors.New("without files no container is made: --luks-passphrase can't be given; one that is copied as blocks keeps its own")
	}
	d := &Described{Plan: wire.Plan{Loader: wire.Loader{Kind: "none"}, Identity: wire.Identity{Hostname: o.Hostname}}}
	return d, d.addBlocks(ctx, o, log)
}

// addBlocks completes the plan with what isn't files.
func (d *Described) addBlocks(ctx context.Context, o Original, log *slog.Logger) error {
	hints, err := capture.ParseHints(o.Matches)
	if err != nil {
		return err
	}
	blocks, notes, err := o.addBlocks(ctx, &d.Plan, log)
	if err != nil {
		return err
	}
	d.Notes = append(d.Notes, notes...)
	var tree *stream.Tree
	if d.Tree != nil {
		tree = d.Tree.Tree
	}
	if len(blocks) > 0 {
		d.whole, err = stream.NewWhole(tree, blocks)
	}
	if err == nil {
		err = o.addBootCode(&d.Plan)
	}
	if err == nil { // now all disks are there
		err = capture.TakeHints(d.Plan.Disks, hints)
	}
	if err != nil {
		closeBlocks(blocks)
	}
	return err
}

// confirmTime is how long a node may take from its last piece to its last word.
// Where blocks that don't come are to be zeros, a disk that can't discard has to
// write them, and a slow one writes 32 MiB a second.
func (d *deployment) confirmTime() time.Duration {
	t := maxConfirm
	if d.clone == nil {
		return t
	}
	for _, b := range d.clone.Plan.Blocks {
		if b.How == wire.BlocksNonzero {
			t += time.Duration(b.Bytes>>25) * time.Second
		}
	}
	for _, c := range d.clone.Plan.Copies { // a little that comes may be much that is written
		if c.Cooked() {
			t += time.Duration(c.Bytes>>23) * time.Second
		}
	}
	return t
}

// Source is all that the clones get.
func (d *Described) Source() chain.Source {
	switch {
	case d.saved != nil:
		return d.saved
	case d.whole != nil:
		return d.whole
	}
	return d.Tree
}

// Close lets go of the files and the blocks, and removes the snapshot.
func (d *Described) Close() error {
	var err error
	if d.whole != nil {
		err = d.whole.Close()
	}
	if d.Tree != nil {
		err = errors.Join(err, d.Tree.Close())
	}
	return err
}
