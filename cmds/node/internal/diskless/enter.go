package diskless

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/u-root/u-root/pkg/mount"
	"golang.org/x/sys/unix"
)

// Init is the program that a root starts with, in the order of the kernel's own
// search (init/main.c), with systemd's places before a shell, which isn't one.
func Init(root string) (string, error) {
	in, err := openInside(root)
	if err != nil {
		return "", err
	}
	defer in.close()
	for _, name := range []string{"/sbin/init", "/etc/init", "/bin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd", "/init"} {
		if in.program(name) {
			return name, nil
		}
	}
	return "", errors.New("what golden has sent has no init: neither /sbin/init, /etc/init, /bin/init, /lib/systemd/systemd nor /init")
}

// runShare is what /run may hold of the memory from now on, as systemd has it
// (src/shared/mount-setup.c).
const runShare = "mode=755,size=20%,nr_inodes=800k"

// Enter replaces this process by the root's init. It doesn't return, unless it
// fails; when it has begun to remove the old root there is no way back.
func Enter(root, init string) error {
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		st, err := os.Lstat(root + dir)
		if errors.Is(err, os.ErrNotExist) {
			err = os.Mkdir(root+dir, 0o755)
		} else if err == nil && !st.IsDir() {
			err = fmt.Errorf("%s of the new root is no folder", dir)
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Mount("", "/run", "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, runShare); err != nil {
		return fmt.Errorf("make /run smaller: %w", err)
	}
	if err := unix.Unmount("/tmp", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount /tmp: %w", err)
	}
	log.SetOutput(io.Discard) // the library's running commentary
	if err := mount.SwitchRoot(root, init); err != nil {
		return fmt.Errorf("step into %s of the new root: %w", init, err)
	}
	return nil
}
