package golden

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/kamethod/kamethod/golden/internal/capture"
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
}

// Described is an original that was looked at.
type Described struct {
	Plan  wire.Plan
	Notes []string // what a person should check
	Tree  *stream.Tree
}

// Describe makes the plan and scans the files. It changes nothing.
func Describe(ctx context.Context, o Original, log *slog.Logger) (*Described, error) {
	if err := checkHostname(o.Hostname); err != nil {
		return nil, err
	}
	m, err := capture.Describe(ctx, capture.Options{Root: o.Root, Descs: o.Descs, SkipDisks: o.SkipDisks,
		Excludes: o.Excludes, Loader: o.Loader, Log: log})
	if err != nil {
		return nil, err
	}
	m.Plan.Identity.Hostname = o.Hostname
	root := o.Root
	if root == "" {
		root = "/"
	}
	log.Info("scanning the golden root", "root", root, "mounts", m.Mounts)
	t, err := stream.Scan(ctx, stream.ScanOptions{Root: root, Mounts: m.Mounts, Excludes: o.Excludes, Log: log})
	if err != nil {
		return nil, fmt.Errorf("scan %s: %w", root, err)
	}
	need(&m.Plan, t.Usage())
	return &Described{Plan: m.Plan, Notes: append(m.Notes, t.Warnings()...), Tree: t}, nil
}

// need tells the plan how much goes into each file system. Files below a
// mount point that the plan has no file system for belong to the nearest one
// above.
func need(p *wire.Plan, usage []stream.Usage) {
	for _, u := range usage {
		best := -1
		for i, fs := range p.Filesystems {
			if fs.MountPoint != "" && under(u.Mount, fs.MountPoint) &&
				(best < 0 || len(fs.MountPoint) > len(p.Filesystems[best].MountPoint)) {
				best = i
			}
		}
		if best >= 0 {
			p.Filesystems[best].NeedBytes += u.Bytes
			p.Filesystems[best].NeedInodes += u.Inodes
		}
	}
}

func under(path, mount string) bool {
	return mount == "/" || path == mount || len(path) > len(mount) && path[:len(mount)] == mount && path[len(mount)] == '/'
}

// Desc describes a disk in the words of the manual's desc files.
func Desc(dev string) (string, error) {
	d, err := capture.DescribeDisk(dev)
	if err != nil {
		return "", err
	}
	return d.Desc(), nil
}
