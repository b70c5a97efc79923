package disk

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// mountPoint is one mount of a file system: a btrfs may have several.
type mountPoint struct {
	at      string // on the clone
	options string
	fs      int // its index in the plan
}

// mountPoints are the mounts of a file system: of its subvolumes that have
// one, and of itself where that is another.
func mountPoints(fs wire.Filesystem) []mountPoint {
	var all []mountPoint
	for _, v := range fs.Subvolumes {
		if v.Mounted {
			all = append(all, mountPoint{at: v.MountPoint, options: "subvol=/" + v.Path})
		}
	}
	if fs.MountPoint != "" && !slices.ContainsFunc(all, func(m mountPoint) bool { return m.at == fs.MountPoint }) {
		top := mountPoint{at: fs.MountPoint}
		if len(fs.Subvolumes) > 0 {
			top.options = "subvolid=5" // whichever is the default (btrfs(5))
		}
		all = append(all, top)
	}
	return all
}

// mountAll mounts the plan's file systems under root, outer before inner.
func mountAll(plan wire.Plan, made []wire.FilesystemResult, root string) error {
	var order []mountPoint
	for i, fs := range plan.Filesystems {
		for _, m := range mountPoints(fs) {
			m.fs = i
			order = append(order, m)
		}
	}
	slices.SortStableFunc(order, func(a, b mountPoint) int { return cmp.Compare(depth(a.at), depth(b.at)) })
	for _, m := range order {
		fs, dev := plan.Filesystems[m.fs], made[m.fs].Device
		at := filepath.Join(root, m.at)
		if err := os.MkdirAll(at, 0o755); err != nil {
			return fmt.Errorf("mount %s: %w", dev, err)
		}
		err := unix.Mount(dev, at, fs.Type, 0, joinOptions(mountOptions(fs), m.options))
		if errors.Is(err, unix.ENODEV) && (fs.Type == "ext2" || fs.Type == "ext3") {
			err = unix.Mount(dev, at, "ext4", 0, mountOptions(fs)) // its driver mounts these as well
		}
		if err != nil {
			return fmt.Errorf("mount %s on %s: %w", dev, at, err)
		}
	}
	return nil
}

func joinOptions(all ...string) string {
	return strings.Join(slices.DeleteFunc(all, func(s string) bool { return s == "" }), ",")
}

// mountOptions: a FAT has neither owners nor modes. It shall not say so each
// time one is set that golden's files have (quiet), take names as they are
// (utf8), and let nobody in but root, as Debian's installer has it (umask);
// mount(8), vfat. A reiserfs has no ACLs and attributes unless it is told to.
// Of golden's options those count that change how files are written.
func mountOptions(fs wire.Filesystem) string {
	switch fs.Type {
	case wire.VFAT:
		return "umask=0077,utf8,quiet"
	case "reiserfs":
		return "acl,user_xattr"
	}
	var keep []string
	for word := range strings.SplitSeq(fs.Options, ",") {
		if name, _, _ := strings.Cut(word, "="); slices.Contains(filesOptions(), name) && regexp.MustCompile(`^[a-z0-9_:=-]+$`).MatchString(word) {
			keep = append(keep, word)
		}
	}
	return strings.Join(keep, ",")
}

// filesOptions are those options (btrfs(5), xfs(5), ext4(5), f2fs in the
// kernel's Documentation/filesystems).
func filesOptions() []string {
	return []string{
		"compress", "compress-force", "nodatacow", "nodatasum", "max_inline", // btrfs
		"compress_algorithm", "compress_extension", "compress_chksum", "compress_mode", "inline_xattr", "inline_data", "inline_dentry", // f2fs
		"inode64", "inode32", "acl", "user_xattr", "prjquota",
	}
}

// depth is how many names a mount point has: 0 for the root.
func depth(p string) int {
	if p == "/" {
		return 0
	}
	return strings.Count(p, "/")
}

// Unmount writes out and unmounts all that is mounted on root or below it,
// the last first; then it takes apart what is made of the disks that this was
// on, and of those that are named ("/dev/sda"): all is on the disks then.
func Unmount(root string, disks ...string) error {
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
	var under []string
	for _, m := range mounts {
		// A folder of another file system that is seen here is none of ours.
		if name, ok := strings.CutPrefix(m.Source, "/dev/"); ok && (m.Root == "/" || m.FSType == "btrfs") {
			under = append(under, disksUnder("/sys", sysOf(name))...)
		}
	}
	for _, d := range disks {
		under = append(under, strings.ReplaceAll(strings.TrimPrefix(d, "/dev/"), "/", "!"))
	}
	// Mounts are listed in the order they were made. The last one of a file
	// system writes out all of it.
	for _, m := range slices.Backward(mounts) {
		if err := unmountOne(m.Mountpoint); err != nil {
			return fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
	}
	slices.Sort(under)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := release(ctx, Options{}, slices.Compact(under)); err != nil {
		return err
	}
	return flush(slices.Compact(under))
}

// sysOf is what sysfs calls a device of that path below /dev: mapper/crypt and
// vg0/root are links to dm-0, or nodes beside it.
func sysOf(name string) string {
	var st unix.Stat_t
	if unix.Stat("/dev/"+name, &st) != nil {
		return strings.ReplaceAll(name, "/", "!")
	}
	real, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return strings.ReplaceAll(name, "/", "!")
	}
	return filepath.Base(real)
}

// flush has the disks write out their own caches.
func flush(disks []string) error {
	for _, d := range disks {
		f, err := os.Open("/dev/" + strings.ReplaceAll(d, "!", "/"))
		if err != nil {
			return fmt.Errorf("flush: %w", err)
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return fmt.Errorf("flush %s: %w", d, err)
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
