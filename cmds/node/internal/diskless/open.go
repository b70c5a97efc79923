package diskless

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/cmds/node/internal/restore"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

// Config says what comes and where it goes.
type Config struct {
	Streams []wire.Stream
	NewRoot string                  // mount point of what will be run
	Dir     string                  // for the mounts that are below it
	Free    int64                   // memory, in bytes; 0: as the kernel says
	Load    func(name string) error // loads a kernel module
	Log     *slog.Logger
}

// Root is what will be run.
type Root struct {
	Config
	dst   sink
	image string // the file; empty: it is a tree
}

// sink is where the pieces go, image or tree.
type sink interface {
	chain.Sink
	Finish(context.Context) error
	Close() error
}

// Open makes room for what golden sends, or says that this machine has not
// enough memory for it, before any of it comes.
func Open(c Config) (*Root, error) {
	if len(c.Streams) == 0 {
		return nil, errors.New("golden sends nothing")
	}
	if c.Free == 0 {
		var err error
		if c.Free, err = free("/proc/meminfo"); err != nil {
			return nil, err
		}
	}
	if err := fits(c.Streams, c.Free); err != nil {
		return nil, err
	}
	r := &Root{Config: c}
	var err error
	switch kind := c.Streams[0].Kind; {
	case kind == wire.ImageStream && len(c.Streams) == 1:
		err = r.openImage(c.Streams[0])
	case kind == wire.ManifestStream:
		err = r.openTree()
	default:
		err = fmt.Errorf("golden sends %q: want a folder, or an image", kind)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// openImage has the image in a memory of its own, which is seen no more once
// it is mounted.
func (r *Root) openImage(s wire.Stream) error {
	dir := filepath.Join(r.Dir, "image")
	// A page for its folder, and one since sizes are in pages.
	if err := ram(dir, fmt.Sprintf("mode=700,size=%d", s.Bytes+2*int64(os.Getpagesize()))); err != nil {
		return err
	}
	r.image = filepath.Join(dir, "root.img")
	i, err := restore.NewImage(r.image, s)
	if err != nil {
		return err
	}
	r.dst = i
	return nil
}

// openTree has the files where they are run. There may be as many as memory
// has room for; what they may grow to leaves room for the programs.
func (r *Root) openTree() error {
	if err := ram(r.NewRoot, fmt.Sprintf("mode=755,nr_inodes=0,size=%d", r.Free-least)); err != nil {
		return err
	}
	t, err := restore.NewTree(r.NewRoot, r.Streams, restore.Options{Log: r.Log})
	if err != nil {
		return err
	}
	r.dst = t
	return nil
}

// ram mounts a file system in memory.
func ram(dir, options string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make mount point: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		return fmt.Errorf("mount tmpfs (%s) on %s: %w", options, dir, err)
	}
	return nil
}

// Sink is where the pieces go.
func (r *Root) Sink() chain.Sink { return r.dst }

// Finish is called when all pieces are here.
func (r *Root) Finish(ctx context.Context) error {
	if err := r.dst.Finish(ctx); err != nil {
		return err
	}
	if r.image == "" {
		return nil
	}
	return r.mount()
}

// Close ends the receiving. What is mounted stays.
func (r *Root) Close() error { return r.dst.Close() }
