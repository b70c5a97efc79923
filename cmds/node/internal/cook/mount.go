package cook

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// sorted has outer mounts before inner ones.
func sorted(all []wire.Mount) []wire.Mount {
	return slices.SortedStableFunc(slices.Values(all), func(a, b wire.Mount) int {
		return cmp.Compare(len(strings.TrimSuffix(a.At, "/")), len(strings.TrimSuffix(b.At, "/")))
	})
}

// blkidTime is how long the look at a partition may take, and nodeTime how
// long the kernel may take to show one whose table was written just now.
const (
	blkidTime = time.Minute
	nodeTime  = 10 * time.Second
)

// mountOne mounts one partition under the root.
func (s *Sink) mountOne(ctx context.Context, m wire.Mount) error {
	dev := m.Device
	if err := waitFor(ctx, dev); err != nil {
		return err
	}
	kind, err := typeOf(ctx, dev)
	if err != nil {
		return err
	}
	point, err := s.below.mountPoint(m.At)
	if err != nil {
		return fmt.Errorf("mount %s: %w", dev, err)
	}
	defer point.Close()
	options := ""
	if kind == wire.VFAT {
		options = "umask=0077,utf8,quiet" // as in package disk: a FAT has no owners and modes
	}
	err = unix.Mount(dev, fdPath(point), kind, 0, options)
	if errors.Is(err, unix.ENODEV) && (kind == "ext2" || kind == "ext3") {
		err = unix.Mount(dev, fdPath(point), "ext4", 0, options) // its driver mounts these as well
	}
	if err != nil {
		return fmt.Errorf("mount %s (%s) for %s: %w", dev, kind, m.At, err)
	}
	s.opt.Say(fmt.Sprintf("%s (%s) is mounted for %s", dev, kind, m.At))
	return nil
}

func waitFor(ctx context.Context, dev string) error {
	for end := time.Now().Add(nodeTime); ; {
		_, err := os.Stat(dev)
		if err == nil {
			return nil
		}
		if time.Now().After(end) {
			return fmt.Errorf("mount %s: this machine has no such partition: %w", dev, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// typeOf is the file system's type, as blkid names it.
func typeOf(ctx context.Context, dev string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, blkidTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "blkid", "--probe", "--match-tag", "TYPE", "--output", "value", dev)
	var said bytes.Buffer
	cmd.Stderr = &said
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	kind := strings.TrimSpace(string(out))
	if err != nil || kind == "" {
		return "", fmt.Errorf("mount %s: no file system is found on it: %w %s", dev, err, strings.TrimSpace(said.String()))
	}
	return kind, nil
}

// reread has the kernel look at a disk's partitions anew.
func reread(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for try := 0; ; try++ { // who looks at new devices may have it open
		err = unix.IoctlSetInt(int(f.Fd()), unix.BLKRRPART, 0)
		if err == nil || errors.Is(err, unix.EINVAL) || try == 20 { // EINVAL: a disk without partitions, as a loop
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if errors.Is(err, unix.EINVAL) {
		return nil
	}
	return err
}
