package diskless

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain runs the tests in a mount namespace of their own, if they are run
// by root: mounts then end with the process, however it ends.
func TestMain(m *testing.M) {
	const inside = "KAMETHOD_DISKLESS_TEST_NS"
	if os.Getuid() != 0 {
		os.Exit(m.Run())
	}
	if os.Getenv(inside) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			fmt.Fprintln(os.Stderr, "make mounts private:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	for fd := 3; fd < 6; fd++ { // a fuzz worker's pipes
		if f := os.NewFile(uintptr(fd), "pipe"); f != nil {
			if _, err := f.Stat(); err == nil {
				cmd.ExtraFiles = append(cmd.ExtraFiles, f)
			}
		}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		if e, ok := err.(*exec.ExitError); ok && e.ExitCode() > 0 {
			os.Exit(e.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "run in a mount namespace:", err)
		os.Exit(1)
	}
}
