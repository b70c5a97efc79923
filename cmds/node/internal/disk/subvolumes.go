package disk

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// maxSubvolumes bounds what a plan may want of one btrfs.
const maxSubvolumes = 4096

// checkSubvolumes takes clean paths below the file system's top, outer ones
// before inner ones.
func checkSubvolumes(fs wire.Filesystem) error {
	if len(fs.Subvolumes) == 0 {
		return nil
	}
	if fs.Type != "btrfs" || len(fs.Subvolumes) > maxSubvolumes {
		return fmt.Errorf("%d subvolumes on a %s", len(fs.Subvolumes), fs.Type)
	}
	var seen []string
	defaults := 0
	for _, v := range fs.Subvolumes {
		switch {
		case v.Path == "" || path.IsAbs(v.Path) || path.Clean(v.Path) != v.Path || v.Path == ".." || strings.HasPrefix(v.Path, "../") || v.Path == "." || len(v.Path) > 3000 || strings.ContainsAny(v.Path, "\x00\n"):
			return fmt.Errorf("subvolume %q: want a clean path below the top", v.Path)
		case strings.Contains(v.Path, ",") && v.Mounted:
			return fmt.Errorf("subvolume %q: a mount option can't name it", v.Path)
		case slices.Contains(seen, v.Path):
			return fmt.Errorf("subvolume %q: named twice", v.Path)
		case slices.ContainsFunc(seen, func(s string) bool { return strings.HasPrefix(s, v.Path+"/") }):
			return fmt.Errorf("subvolume %q: one inside it is named before it", v.Path)
		}
		if v.Mounted {
			if err := checkMountPoint(v.MountPoint); err != nil {
				return fmt.Errorf("subvolume %q: %w", v.Path, err)
			}
		}
		if v.Default {
			defaults++
		}
		seen = append(seen, v.Path)
	}
	if defaults > 1 {
		return fmt.Errorf("%d subvolumes are the default", defaults)
	}
	if len(mountPoints(fs)) == 0 {
		return errors.New("none of its subvolumes is mounted")
	}
	return nil
}

// makeSubvolumes makes those of a new btrfs, with the folders between them,
// while it is mounted by its top, in at.
func makeSubvolumes(ctx context.Context, fs wire.Filesystem, dev, at string) (err error) {
	if len(fs.Subvolumes) == 0 {
		return nil
	}
	if err := os.MkdirAll(at, 0o700); err != nil {
		return fmt.Errorf("subvolumes of %s: %w", dev, err)
	}
	if err := unix.Mount(dev, at, fs.Type, 0, "subvolid=5"); err != nil { // the top's (btrfs(5))
		return fmt.Errorf("subvolumes: mount %s on %s: %w", dev, at, err)
	}
	defer func() {
		if uerr := unmountOne(at); uerr != nil {
			err = errors.Join(err, fmt.Errorf("subvolumes: unmount %s: %w", at, uerr))
		}
	}()
	root, err := os.OpenRoot(at)
	if err != nil {
		return fmt.Errorf("subvolumes of %s: %w", dev, err)
	}
	defer root.Close()
	for _, v := range fs.Subvolumes {
		if err := root.MkdirAll(path.Dir(v.Path), 0o755); err != nil {
			return fmt.Errorf("subvolume %s of %s: %w", v.Path, dev, err)
		}
		if err := run(ctx, "", "btrfs", "subvolume", "create", "--", filepath.Join(at, v.Path)); err != nil {
			return fmt.Errorf("subvolume %s of %s: %w", v.Path, dev, err)
		}
		if v.Default {
			if err := run(ctx, "", "btrfs", "subvolume", "set-default", filepath.Join(at, v.Path)); err != nil {
				return fmt.Errorf("subvolume %s of %s: %w", v.Path, dev, err)
			}
		}
	}
	return nil
}
