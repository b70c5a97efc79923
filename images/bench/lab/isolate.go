package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// isolated marks the environment of the program in its own mount namespace.
const isolated = "KABENCH_ISOLATED"

// Isolate starts the program again, as the same process, in a mount namespace
// of its own: what it mounts goes away with it, whatever ends it.
func Isolate() error {
	if os.Geteuid() != 0 {
		return errors.New("must be root: network namespaces are made")
	}
	if os.Getenv(isolated) != "" {
		return os.Unsetenv(isolated)
	}
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		return fmt.Errorf("look for unshare (scripts/setup.sh installs it): %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	args := append([]string{"unshare", "--mount", "--propagation", "private", self}, os.Args[1:]...)
	if err := syscall.Exec(unshare, args, append(os.Environ(), isolated+"=1")); err != nil {
		return fmt.Errorf("execute %s: %w", unshare, err)
	}
	return nil
}

// WorkDir makes a file system in memory that only this process and its
// children see, and hides the machine's named network namespaces from them.
// Isolate must have been called. The function that it returns unmounts.
func WorkDir() (dir string, clean func(), err error) {
	sweep()
	if err := os.MkdirAll(netnsDir, 0o755); err != nil {
		return "", nil, fmt.Errorf("make folder: %w", err)
	}
	if err := unix.Mount("kabench", netnsDir, "tmpfs", 0, "size=1m"); err != nil {
		return "", nil, fmt.Errorf("mount a tmpfs on %s: %w", netnsDir, err)
	}
	dir = filepath.Join(os.TempDir(), prefix())
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make folder: %w", err)
	}
	// The size is no promise: who fills it asks Available first.
	if err := unix.Mount("kabench", dir, "tmpfs", 0, "size=100%,mode=0700"); err != nil {
		return "", nil, fmt.Errorf("mount a tmpfs on %s: %w", dir, err)
	}
	return dir, func() {
		_ = unix.Unmount(dir, unix.MNT_DETACH)
		_ = os.Remove(dir)
		_ = unix.Unmount(netnsDir, unix.MNT_DETACH)
	}, nil
}

// netnsDir is where ip-netns(8) keeps names.
const netnsDir = "/run/netns"

func prefix() string { return fmt.Sprintf("kabench%d", os.Getpid()) }

// sweep removes the empty folders of earlier runs that were killed.
func sweep() {
	left, _ := filepath.Glob(filepath.Join(os.TempDir(), "kabench*"))
	for _, dir := range left {
		pid, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(dir), "kabench"))
		if err == nil && unix.Kill(pid, 0) == unix.ESRCH {
			_ = os.Remove(dir) // only when it is empty
		}
	}
}

// Available is how much memory can be filled without swapping, in bytes
// (proc(5), MemAvailable).
func Available() (int64, error) {
	return field("/proc/meminfo", "MemAvailable:")
}

// field reads "NAME  N kB" of a file in /proc.
func field(path, name string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%s: %s: %w", path, name, err)
			}
			return kb << 10, nil
		}
	}
	return 0, fmt.Errorf("%s has no %s", path, name)
}
