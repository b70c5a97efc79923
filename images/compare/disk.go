package compare

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Partition is one of a disk image, as sfdisk(8) reads the table.
type Partition struct {
	Number int
	Start  int64 // bytes
	Size   int64 // bytes
	Type   string
	FSType string // as blkid(8) sees the content; empty: nothing known
	UUID   string // of the file system or swap area
}

// Table reads the partition table of a disk image and probes its partitions.
func Table(ctx context.Context, image string) ([]Partition, error) {
	out, err := output(ctx, "sfdisk", "-J", image)
	if err != nil {
		return nil, err
	}
	var t struct {
		PartitionTable struct {
			SectorSize int64 `json:"sectorsize"`
			Partitions []struct {
				Node  string `json:"node"`
				Start int64  `json:"start"`
				Size  int64  `json:"size"`
				Type  string `json:"type"`
			} `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(out, &t); err != nil {
		return nil, fmt.Errorf("read sfdisk's table of %s: %w", image, err)
	}
	sector := max(t.PartitionTable.SectorSize, 512)
	var parts []Partition
	for _, p := range t.PartitionTable.Partitions {
		part := Partition{Start: p.Start * sector, Size: p.Size * sector, Type: p.Type}
		// sfdisk calls them IMAGE1, or IMAGEp1 where the name ends in a digit.
		number := strings.TrimPrefix(strings.TrimPrefix(p.Node, image), "p")
		if _, err := fmt.Sscanf(number, "%d", &part.Number); err != nil {
			return nil, fmt.Errorf("partition number in %q: %w", p.Node, err)
		}
		part.FSType = probe(ctx, image, part, "TYPE")
		part.UUID = probe(ctx, image, part, "UUID")
		parts = append(parts, part)
	}
	return parts, nil
}

func probe(ctx context.Context, image string, p Partition, tag string) string {
	// blkid's status 2 means "nothing known": an extended partition has none.
	out, _ := output(ctx, "blkid", "-p", "-O", fmt.Sprint(p.Start), "-S", fmt.Sprint(p.Size), "-o", "value", "-s", tag, image)
	return strings.TrimSpace(string(out))
}

func output(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return out, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// Fsck has e2fsck look at an ext file system in the image, or fsck.fat at a
// FAT; it changes nothing.
func Fsck(ctx context.Context, image string, p Partition) error {
	if p.FSType == "vfat" {
		return fsckFAT(ctx, image, p)
	}
	// e2fsck takes the offset in bytes after "?offset=" (e2fsck(8)).
	_, err := output(ctx, "e2fsck", "-f", "-n", fmt.Sprintf("%s?offset=%d", image, p.Start))
	return err
}

// Assembled mounts partitions of the image read-only where mountPoints (by
// partition number) says, and calls f with the assembled root. It all happens
// on a thread with its own mount namespace: the mounts end with the thread,
// whatever happens, and nobody else sees them.
func Assembled(ctx context.Context, image string, parts []Partition, mountPoints map[int]string, f func(root string) error) error {
	root, err := os.MkdirTemp("", "clone")
	if err != nil {
		return err
	}
	defer os.Remove(root) // the mounts on it are gone by then
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // not unlocked: the thread and its mounts end here
		result <- mountAndCall(ctx, root, image, parts, mountPoints, f)
	}()
	return <-result
}

func mountAndCall(ctx context.Context, root, image string, parts []Partition, mountPoints map[int]string, f func(string) error) (err error) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make a mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// "/" before "/home": the shorter path first.
	numbers := slices.SortedFunc(maps.Keys(mountPoints), func(a, b int) int {
		return strings.Compare(mountPoints[a], mountPoints[b])
	})
	for _, n := range numbers {
		i := slices.IndexFunc(parts, func(p Partition) bool { return p.Number == n })
		if i < 0 {
			return fmt.Errorf("%s has no partition %d", image, n)
		}
		p := parts[i]
		at := filepath.Join(root, mountPoints[n])
		if p.FSType == "vfat" {
			if err := extractFAT(ctx, image, p, at); err != nil {
				return err
			}
			defer func() { err = errors.Join(err, unix.Unmount(at, unix.MNT_DETACH)) }()
			continue
		}
		options := fmt.Sprintf("ro,noload,loop,offset=%d,sizelimit=%d", p.Start, p.Size)
		if _, err := output(ctx, "mount", "-t", p.FSType, "-o", options, image, at); err != nil {
			return err
		}
		// Unmounting at once frees the loop device before the caller goes on.
		defer func() { err = errors.Join(err, unix.Unmount(at, unix.MNT_DETACH)) }()
	}
	return f(root)
}
