package pid1

import (
	"fmt"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// Reboot writes everything out, unmounts what it can, and starts the machine
// again. It returns only if the kernel refuses.
func Reboot(say func(format string, args ...any)) error {
	unix.Sync()
	unmountAll(say)
	unix.Sync()
	say("reboot")
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return nil
}

// unmountAll takes down mounts of block devices and all under /mnt, the last
// made first; one
// that is busy is made read-only, which is as good for its contents.
func unmountAll(say func(format string, args ...any)) {
	list, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		disk := strings.HasPrefix(m.Source, "/dev/") || strings.HasPrefix(m.Mountpoint, "/mnt/") // a chroot there has /dev and /proc bound into it
		return !disk || m.Mountpoint == "/", false
	})
	if err != nil {
		say("list mounts: %v", err)
		return
	}
	for _, m := range slices.Backward(list) {
		err := unix.Unmount(m.Mountpoint, 0)
		if err == nil || m.FSType == "squashfs" {
			continue
		}
		if ro := unix.Mount("", m.Mountpoint, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); ro != nil {
			say("unmount %s: %v; read-only: %v", m.Mountpoint, err, ro)
		}
	}
}
