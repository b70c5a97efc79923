package blockuse

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// busy refuses a device that may be written to while it is read, and says
// whether it is mounted, read-only then.
func busy(f *os.File) (mounted bool, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false, fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return false, nil
	}
	// Nobody else in any mount namespace has it, then.
	alone, err := os.OpenFile(f.Name(), os.O_RDONLY|unix.O_EXCL, 0)
	if err == nil {
		return false, alone.Close()
	}
	if !errors.Is(err, unix.EBUSY) {
		return false, fmt.Errorf("take %s: %w", f.Name(), err)
	}
	members := family(st.Rdev)
	for _, m := range members {
		if holders, _ := os.ReadDir(filepath.Join(m.sys, "holders")); len(holders) > 0 {
			return false, fmt.Errorf("%s is part of %s, which may write to it: copy what is on that, or stop it first (vgchange -an, mdadm --stop, cryptsetup close)", f.Name(), holders[0].Name())
		}
	}
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return false, fmt.Errorf("list mounts: %w", err)
	}
	for _, m := range mounts {
		if !isOn(m, members) {
			continue
		}
		mounted = true
		if hasWord(m.VFSOptions, "rw") {
			return false, fmt.Errorf("%s is mounted on %s and may be written to while its blocks are sent: unmount it, or mount -o remount,ro %s", f.Name(), m.Mountpoint, m.Mountpoint)
		}
	}
	if !mounted {
		return false, fmt.Errorf("%s is in use (swap, or by another name space): stop that first", f.Name())
	}
	return true, nil
}

// member is a device or one of its partitions.
type member struct {
	sys string
	dev string // "8:3"
}

// family is a device and its partitions.
func family(dev uint64) []member {
	of := func(sys string) member {
		b, err := os.ReadFile(filepath.Join(sys, "dev"))
		if err != nil {
			return member{}
		}
		return member{sys, strings.TrimSpace(string(b))}
	}
	top := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	all := []member{of(top)}
	parts, _ := filepath.Glob(filepath.Join(top, "*", "partition"))
	for _, p := range parts {
		all = append(all, of(filepath.Dir(p)))
	}
	return all
}

// isOn compares the number of what is mounted, and that of the source: a btrfs
// has a number of its own making.
func isOn(m *mountinfo.Info, members []member) bool {
	number := fmt.Sprintf("%d:%d", m.Major, m.Minor)
	source := ""
	var st unix.Stat_t
	if strings.HasPrefix(m.Source, "/") && unix.Stat(m.Source, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		source = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	for _, x := range members {
		if x.dev != "" && (x.dev == number || x.dev == source) {
			return true
		}
	}
	return false
}

func hasWord(options, word string) bool {
	for _, o := range strings.Split(options, ",") {
		if o == word {
			return true
		}
	}
	return false
}

// Busy refuses a device that may be written to while it is read: one that is
// mounted so, or a part of it, swap, or what an array or a volume is made of.
// A file is never busy. What is seen of a device that is mounted read-only is
// what its file system has there.
func Busy(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	mounted, err := busy(f)
	if err == nil && mounted {
		err = unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0) // as Look does
	}
	return err
}
