package pid1

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// drainLimit is for the last lines on a serial console, 9600 baud included.
const drainLimit = 3 * time.Second

// Reboot writes everything out, unmounts what it can, and starts the machine
// again. It returns only if the kernel refuses.
func Reboot(con *console.Console) error {
	unix.Sync()
	unmountAll(con)
	unix.Sync()
	con.Line("reboot")
	con.Drain(drainLimit)
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return nil
}

// unmountAll takes down mounts of block devices and all under /mnt, where a
// chroot has /dev and /proc bound into it, the last made first. One that is
// busy is made read-only, which is as good for its contents.
func unmountAll(con *console.Console) {
	list, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		disk := strings.HasPrefix(m.Source, "/dev/") || strings.HasPrefix(m.Mountpoint, "/mnt/")
		return !disk || m.Mountpoint == "/", false
	})
	if err != nil {
		con.Line("list mounts: %v", err)
		return
	}
	for _, m := range slices.Backward(list) {
		err := unix.Unmount(m.Mountpoint, 0)
		if err == nil || m.FSType == "squashfs" {
			continue
		}
		if ro := unix.Mount("", m.Mountpoint, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); ro != nil {
			con.Line("unmount %s: %v; read-only: %v", m.Mountpoint, err, ro)
		}
	}
}
