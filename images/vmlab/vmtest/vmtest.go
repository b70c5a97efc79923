// Package vmtest runs a test in a machine of its own, under the kernel that
// nodes have: with device mapper, md, jfs and all else that this machine's
// kernel may lack, on disks that may be overwritten, and with stage 2's image as
// the root. It is for code of nodes; it starts no network and knows nothing of
// cloning.
//
//	go test ─▶ go test -c ─▶ initramfs: vminit, rescue.sqfs, the test ─▶ QEMU with blank disks
//	   ▲                                                                    │
//	   └───────────────── what the test inside prints, and its status ──────┘
//
// Two tests in the same package, one that runs outside and one inside:
//
//	func TestRAID(t *testing.T) {
//		if !vmtest.Inside() {
//			t.Skip("runs in a machine, by TestInVM")
//		}
//		out, err := exec.Command("mdadm", "--create", …, "/dev/vda", "/dev/vdb").CombinedOutput()
//		…
//	}
//
//	func TestInVM(t *testing.T) {
//		vmtest.Run(t, vmtest.Machine{
//			Run:      "^(TestRAID|TestVolumes)$",
//			Disks:    []vmlab.Disk{{Size: 64 << 20}, {Size: 64 << 20}}, // /dev/vda, /dev/vdb
//			Programs: []string{"mdadm", "lvm"},                         // of this machine, where stage 2's image lacks them
//		})
//	}
//
// It needs root for nothing but reading the image; `make image` must have been
// run. A boot takes some ten seconds, so tests share a machine where they can.
package vmtest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
)

// Machine is what the test runs in.
type Machine struct {
	Package  string        // of the test; empty: ".", the one that calls
	Run      string        // which of its tests: go test's -run
	Program  []string      // instead of a test: a static program of this machine, and its arguments
	Disks    []vmlab.Disk  // in the order of their names inside; without a File they are blank and go in the end
	Programs []string      // of this machine, with their libraries
	Files    []string      // of this machine, by the same path inside: "/etc/lvm/lvm.conf", or OUTSIDE=INSIDE
	Env      []string      // for the test inside: "KEY=value"
	Memory   int           // MiB; 0: 512
	Timeout  time.Duration // of the machine, not of what is compiled for it; 0: 15 minutes
}

const (
	machineTime = 15 * time.Minute // a busy host's; alone a boot takes some ten seconds
	buildTime   = 15 * time.Minute // to compile the test and pack it, with an empty cache
)

// inside is set where the machine runs the test.
const inside = "KAMETHOD_VMTEST"

// Inside tells whether this is the test in the machine.
func Inside() bool { return os.Getenv(inside) != "" }

// Run boots the machine and fails t if a test inside failed, or none ran to
// its end.
func Run(t *testing.T, m Machine) {
	t.Helper()
	if Inside() {
		t.Skip("this is the machine already")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
	if m.Package == "" {
		m.Package = "."
	}
	lines, err := m.play(t.Context(), t.TempDir(), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	if err := verdict(lines); err != nil {
		t.Error(err)
	}
}

// Exec has the machine run a program instead of a test: nil means that it ended
// with status 0. What it prints goes to w.
func Exec(ctx context.Context, m Machine, w io.Writer) error {
	dir, err := os.MkdirTemp("", "vmtest-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	lines, err := m.play(ctx, dir, w)
	if err != nil {
		return err
	}
	return ended(lines)
}

// play builds and boots the machine.
func (m Machine) play(ctx context.Context, dir string, w io.Writer) ([]string, error) {
	if m.Memory == 0 {
		m.Memory = 512
	}
	if m.Timeout == 0 {
		m.Timeout = machineTime
	}
	building, cancel := context.WithTimeoutCause(ctx, buildTime, fmt.Errorf("the machine's test was not built after %s", buildTime))
	defer cancel()
	initrd, top, err := m.build(building, dir)
	if err != nil {
		if cause := context.Cause(building); cause != nil { // "signal: killed" says less
			err = fmt.Errorf("%w: %w", cause, err)
		}
		return nil, err
	}
	lines, err := m.boot(ctx, w, dir, initrd, top)
	if err != nil {
		kernel, _ := os.ReadFile(filepath.Join(dir, "console"))
		return nil, fmt.Errorf("%w\nthe kernel's last words:\n%s", err, tail(string(kernel), 30))
	}
	return lines, nil
}

var exitLine = regexp.MustCompile(`^@@vmtest exit (\d+)$`)

// ended reads how it went inside.
func ended(lines []string) error {
	i := slices.IndexFunc(lines, exitLine.MatchString)
	if i < 0 {
		return fmt.Errorf("the machine ended without a word on its test:\n%s", strings.Join(lines, "\n"))
	}
	if status := exitLine.FindStringSubmatch(lines[i])[1]; status != "0" {
		return fmt.Errorf("the test inside ended with status %s", status)
	}
	return nil
}

// verdict also wants a test that ran.
func verdict(lines []string) error {
	if err := ended(lines); err != nil {
		return err
	}
	passed := func(l string) bool { return strings.HasPrefix(l, "--- PASS: ") }
	if !slices.ContainsFunc(lines, passed) {
		return fmt.Errorf("no test inside passed:\n%s", strings.Join(lines, "\n"))
	}
	return nil
}

// boot runs QEMU, passes on what the test prints, and returns it by lines.
func (m Machine) boot(ctx context.Context, w io.Writer, dir, initrd, top string) ([]string, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Timeout, fmt.Errorf("the machine was not done after %s", m.Timeout))
	defer cancel()
	disks := slices.Clone(m.Disks)
	for i := range disks {
		if disks[i].File == "" {
			disks[i].File = filepath.Join(dir, fmt.Sprintf("disk%d.img", i))
		}
		if err := disks[i].Create(); err != nil {
			return nil, err
		}
	}
	diskArgs, err := vmlab.DiskArgs(disks)
	if err != nil {
		return nil, err
	}
	args := append([]string{
		"-accel", "tcg", "-cpu", "Nehalem", "-m", fmt.Sprint(m.Memory), "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-device", "virtio-rng-pci",
		"-kernel", filepath.Join(top, "images/vmlinuz"), "-initrd", initrd,
		"-append", "console=ttyS0 quiet panic=-1 mitigations=off " + vmlab.KernelWords,
		"-serial", "file:" + filepath.Join(dir, "console"), "-serial", "stdio",
	}, diskArgs...)
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", args...)
	// The signal is sent when the thread dies that has started the machine, so
	// this one stays ours until the machine is gone.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var lines []string
	s := bufio.NewScanner(out)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		line := strings.TrimRight(s.Text(), "\r")
		lines = append(lines, line)
		fmt.Fprintf(w, "vm │ %s\n", line)
	}
	err = cmd.Wait()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	if err != nil {
		return lines, fmt.Errorf("run qemu: %w: %s", err, complaints.String())
	}
	return lines, nil
}

func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
