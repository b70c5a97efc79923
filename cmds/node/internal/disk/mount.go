package disk

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// mountAll mounts the plan's file systems under root, outer before inner.
func mountAll(plan wire.Plan, made []wire.FilesystemResult, root string) error {
	order := make([]int, 0, len(made))
	for i, fs := range plan.Filesystems {
		if fs.MountPoint != "" {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Compare(depth(plan.Filesystems[a].MountPoint), depth(plan.Filesystems[b].MountPoint))
	})
	for _, i := range order {
		fs, dev := plan.Filesystems[i], made[i].Device
		at := filepath.Join(root, fs.MountPoint)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", dev, err)
		}
		err := unix.Mount(dev, at, fs.Type, 0, mountOptions(fs.Type))
		if errors.Is(err, unix.ENODEV) && fs.Type != "ext4" {
			err = unix.Mount(dev, at, "ext4", 0, "") // its driver mounts ext2 and ext3 as well
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", dev, at, err)
		}
	}
	return nil
}

// mountOptions: a FAT has neither owners nor modes. It shall not say so each
// time one is set that golden's files have (quiet), take names as they are
// (utf8), and let nobody in but root, as Debian's installer has it (umask);
// mount(8), vfat.
func mountOptions(fstype string) string {
	if fstype == wire.VFAT {
		return "umask=0077,utf8,quiet"
	}
	return ""
}

// depth is how many names a mount point has: 0 for the root.
func depth(p string) int {
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}

// Unmount writes out and unmounts all that is mounted on root or below it,
// the last first.
func Unmount(root string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	if root == "/" {
		return errors.New("unmount /: refused: that is this system's own root")
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(root))
	if err != nil {
		return fmt.Errorf("unmount %s: list mounts: %w", root, err)
	}
	unix.Sync()
	// Mounts are listed in the order they were made.
	for _, m := range slices.Backward(mounts) {
		if err := unmountOne(m.Mountpoint); err != nil {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	return nil
}

// unmountOne tries for 5 seconds: a program that just ended may hold it still.
func unmountOne(path string) error {
	for try := 0; ; try++ {
		err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if err == nil || err != unix.EBUSY || try == 25 {
			return err
		}
		time.Sleep(200 * time.Millisecond)
	}
}
