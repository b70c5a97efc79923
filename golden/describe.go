package golden

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/kamethod/kamethod/golden/internal/capture"
	"github.com/kamethod/kamethod/golden/internal/saved"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// Original is the golden machine: the running one, or a root in a folder.
type Original struct {
	Root      string            // "" or "/": the running machine
	Descs     map[string]string // -p: disk to its desc's path
	SkipDisks []string          // -X
	Excludes  []string          // -x
	Loader    wire.Loader       // -r
	Hostname  string            // template of the clones' names
	Snapshot  bool              // the files are read from a snapshot, where there can be one
	Blocks    []BlockCopy       // -D
	BlocksHow string            // which of their blocks come, wire.BlocksUsed and its like; empty: as seems best
	BootCode  map[string]string // -m, -M: disk to the file with its boot record; empty: golden's own
	NoFiles   bool              // nothing but blocks
	Images    string            // folder that make image filled; empty: what the nodes' stage 2 has is unknown

	Layout      string       // -p: layout file for all disks, in place of Descs
	Table       layout.Table // --table: for all disks; empty: as they have
	Matches     []string     // --match
	Passphrases []string     // --luks-passphrase
	ToSave      bool         // and not to clone now: no passphrase is wanted yet
}

// Described is an original that was looked at.
type Described struct {
	Plan  wire.Plan
	Notes []string // what a person should check
	Tree  *Scanned // nil: no files are cloned

	whole *stream.Whole // files and blocks; nil: files alone
	saved *saved.Source // in place of both
}

// Describe makes the plan and scans the files. It changes nothing but for the
// snapshot, which is removed when the tree is closed.
func Describe(ctx context.Context, o Original, log *slog.Logger) (*Described, error) {
	if err := checkHostname(o.Hostname); err != nil {
		return nil, err
	}
	if _, err := capture.ParseHints(o.Matches); err != nil {
		return nil, err // before the files are scanned, which takes its time
	}
	if o.NoFiles {
		return describeBlocks(ctx, o, log)
	}
	m, err := o.capture(ctx, log)
	if err != nil {
		return nil, err
	}
	m.Plan.Identity.Hostname = o.Hostname
	root := o.Root
	if root == "" {
		root = "/"
	}
	log.Info("scanning the golden root", "root", root, "mounts", m.Mounts)
	t, err := Scan(ctx, stream.ScanOptions{Root: root, Mounts: m.Mounts, Excludes: m.Plan.Excludes, Log: log}, o.Snapshot)
	if err != nil {
		return nil, err
	}
	need(&m.Plan, t.Usage())
	d := &Described{Plan: m.Plan, Notes: slices.Concat(m.Notes, t.Notes(), t.Warnings()), Tree: t}
	if err := d.addBlocks(ctx, o, log); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return d, nil
}

func (o Original) capture(ctx context.Context, log *slog.Logger) (*capture.Machine, error) {
	programs, err := stage2Programs(o.Images)
	if err != nil {
		return nil, err
	}
	opt := capture.Options{
		Root: o.Root, Descs: o.Descs, Layout: o.Layout, Table: o.Table, SkipDisks: o.SkipDisks, Excludes: o.Excludes,
		Loader: o.Loader, Passphrases: o.Passphrases, Programs: programs, Look: o.ToSave, Log: log,
	}
	for _, b := range o.Blocks {
		opt.Blocks = append(opt.Blocks, b.On)
	}
	return capture.Describe(ctx, opt)
}

// Scanned is a tree of files, and the snapshot that it is read from.
type Scanned struct {
	*stream.Tree
	snapshot *capture.Snapshot // nil: none was wanted
	log      *slog.Logger
}

// Scan scans the files, from a snapshot where that is wanted and can be.
func Scan(ctx context.Context, o stream.ScanOptions, snapshot bool) (*Scanned, error) {
	s := &Scanned{log: o.Log}
	name := o.Root
	if snapshot {
		s.snapshot = capture.TakeSnapshot(ctx, capture.SnapshotOptions{Root: o.Root, Mounts: o.Mounts, Excludes: o.Excludes, Log: o.Log})
		o.Root, o.Mounts, o.Excludes = s.snapshot.Root, s.snapshot.Mounts, s.snapshot.Excludes
	}
	var err error
	if s.Tree, err = stream.Scan(ctx, o); err != nil {
		return nil, errors.Join(fmt.Errorf("scan %s: %w", name, err), s.drop())
	}
	return s, nil
}

// Notes says what is read from a snapshot, and what is not.
func (s *Scanned) Notes() []string {
	if s.snapshot == nil {
		return nil
	}
	return s.snapshot.Notes
}

// Close lets go of the files, and removes the snapshot.
func (s *Scanned) Close() error { return errors.Join(s.Tree.Close(), s.drop()) }

func (s *Scanned) drop() error {
	if s.snapshot == nil {
		return nil
	}
	err := s.snapshot.Close()
	if err != nil {
		s.log.Error("a snapshot may be left over", "err", err)
	}
	return err
}

// need tells the plan how much goes into each file system. Files below a
// mount point that the plan has no file system for belong to the nearest one
// above.
func need(p *wire.Plan, usage []stream.Usage) {
	for _, u := range usage {
		best := -1
		near := -1 // length of the nearest mount point's name
		for i, fs := range p.Filesystems {
			for _, at := range fs.MountPoints() {
				if capture.Beneath(u.Mount, at) && len(at) > near {
					best, near = i, len(at)
				}
			}
		}
		if best >= 0 {
			p.Filesystems[best].NeedBytes += u.Bytes
			p.Filesystems[best].NeedInodes += u.Inodes
		}
	}
}

// Desc describes a disk in the words of the manual's desc files.
func Desc(dev string) (string, error) {
	d, err := capture.DescribeDisk(dev)
	if err != nil {
		return "", err
	}
	return d.Desc(), nil
}
