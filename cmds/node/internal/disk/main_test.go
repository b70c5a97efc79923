package disk

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestMain runs the tests again in a mount namespace of their own, so that no
// mount of theirs is ever seen, or left, outside.
func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || os.Getenv("DISK_TEST_NAMESPACE") != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), "DISK_TEST_NAMESPACE=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		panic(err)
	}
}

// must runs a program and returns what it says.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// loop makes a sparse file of so many bytes into a loop device, and returns
// the device's name and the file's.
func loop(t *testing.T, bytes int64, sector string) (string, string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	file := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, bytes); err != nil {
		t.Fatal(err)
	}
	dev := must(t, "losetup", "--find", "--show", "--sector-size", sector, file)
	// Detached while it is open, it goes by itself with the last that has it
	// open: also if this test is killed.
	hold, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	must(t, "losetup", "--detach", dev)
	t.Cleanup(func() {
		// partx fails where there is no partition: nothing to forget.
		_ = exec.Command("partx", "--delete", dev).Run()
		hold.Close()
	})
	return filepath.Base(dev), file
}
