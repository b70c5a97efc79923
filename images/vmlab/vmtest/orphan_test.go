package vmtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMachineDiesToo: a test that is killed, as by go test's own time limit,
// leaves no machine behind.
//
//	this test ─▶ TestSleeps in a process of its own ─▶ QEMU
//	    └──────────── SIGKILL ────┘                   └─ gone?
func TestMachineDiesToo(t *testing.T) {
	if Inside() {
		t.Skip("runs outside")
	}
	if testing.Short() {
		t.Skip("boots a machine")
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		t.Skip("needs qemu-system-x86_64")
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid())); err != nil {
		t.Skipf("the kernel doesn't list children (CONFIG_PROC_CHILDREN): %v", err)
	}
	tmp := t.TempDir() // what the killed test leaves
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSleeps$", "-test.timeout=20m")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, sleeps+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // with the process
	defer func() { _ = cmd.Process.Kill(); <-ended }()
	machine := 0
	for end := time.Now().Add(buildTime); machine == 0; time.Sleep(20 * time.Millisecond) {
		machine = child(cmd.Process.Pid, "qemu-system-x86")
		select {
		case <-ended:
			t.Fatal("the test ended before a machine was seen")
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("no machine after %v", buildTime)
		}
	}
	born := status(machine)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	for end := time.Now().Add(time.Minute); status(machine) == born; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			_ = syscall.Kill(machine, syscall.SIGKILL)
			t.Fatalf("the machine, process %d, lives on after its test", machine)
		}
	}
}

// sleeps is set where TestSleeps is meant.
const sleeps = "KAMETHOD_VMTEST_SLEEPS"

// TestSleeps is the test that is killed. Its machine would live for long.
func TestSleeps(t *testing.T) {
	switch {
	case Inside():
		time.Sleep(10 * time.Minute)
	case os.Getenv(sleeps) == "":
		t.Skip("TestMachineDiesToo starts it, and kills it")
	default:
		Run(t, Machine{Run: "^TestSleeps$"})
	}
}

// child is a process that any thread of another one has started; 0: none.
func child(pid int, name string) int {
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, f := range files {
		b, _ := os.ReadFile(f)
		for word := range strings.FieldsSeq(string(b)) {
			comm, _ := os.ReadFile("/proc/" + word + "/comm")
			if n, err := strconv.Atoi(word); err == nil && strings.TrimSpace(string(comm)) == name {
				return n
			}
		}
	}
	return 0
}

// status tells a process from another one by the same number later, and from
// what is left until somebody asks for its end (proc_pid_stat(5)): its name and
// time of birth, "" when it is gone.
func status(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	name, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return name + " " + f[19]
}
