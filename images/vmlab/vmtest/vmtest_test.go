package vmtest

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/vmlab"
	"golang.org/x/sys/unix"
)

// TestInVM has this file's other tests run in a machine.
func TestInVM(t *testing.T) {
	Run(t, Machine{
		Run: "^(TestKernel|TestStacked)$",
		Disks: []vmlab.Disk{
			{Size: 64 << 20}, {Size: 64 << 20},
			{Size: 300 << 20, Bus: vmlab.NVMe, Sector: 4096},
			{Size: 64 << 20, Bus: vmlab.SCSI, Serial: "KA77", Faults: []vmlab.Fault{{Op: "write", Sectors: []int64{2048}}}},
			{Size: 64 << 20, Rate: 4 << 20},
		},
		Programs: []string{"mdadm", "lvm", "mkfs.jfs"},
	})
}

func program(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// TestKernel: the disks are what they were said to be.
func TestKernel(t *testing.T) {
	if !Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
	for file, want := range map[string]string{
		"/sys/block/vda/size": "131072", "/sys/block/nvme0n1/queue/logical_block_size": "4096",
	} {
		if b, err := os.ReadFile(file); strings.TrimSpace(string(b)) != want {
			t.Errorf("%s: %q, %v, want %s", file, b, err, want)
		}
	}
	slow, err := os.Open("/dev/vdc")
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	started := time.Now()
	if _, err := io.CopyN(io.Discard, slow, 8<<20); err != nil {
		t.Error(err)
	}
	if took := time.Since(started); took < time.Second {
		t.Errorf("8 MiB at 4 MiB/s were read in %v", took)
	}
	f, err := os.OpenFile("/dev/sda", os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block, err := unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(block, 2048*512); err == nil {
		t.Error("a write to the sector with a fault succeeds")
	}
	if _, err := f.WriteAt(block, 4096*512); err != nil {
		t.Errorf("a write to another sector: %v", err)
	}
}

// TestStacked: md, device mapper and jfs are there, and modules come when the
// kernel asks for them.
func TestStacked(t *testing.T) {
	if !Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
	t.Setenv("DM_DISABLE_UDEV", "1") // there is no udevd that would make /dev/vg0/root (libdm)
	program(t, "mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=2", "--metadata=1.2", "/dev/vda", "/dev/vdb")
	program(t, "lvm", "pvcreate", "/dev/md0")
	program(t, "lvm", "vgcreate", "vg0", "/dev/md0")
	program(t, "lvm", "lvcreate", "-y", "-n", "root", "-l", "100%FREE", "vg0")
	program(t, "mkfs.jfs", "-q", "/dev/vg0/root")
	if err := os.MkdirAll("/mnt/disk", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("/dev/vg0/root", "/mnt/disk", "jfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("/mnt/disk/file", []byte("jfs on LVM on RAID 1\n"), 0o644); err != nil {
		t.Error(err)
	}
	if err := unix.Unmount("/mnt/disk", 0); err != nil {
		t.Error(err)
	}
}

func TestVerdict(t *testing.T) {
	for text, want := range map[string]string{
		"--- PASS: TestX (0.1s)\nPASS\n@@vmtest exit 0":            "<nil>",
		"--- FAIL: TestX (0.1s)\nFAIL\n@@vmtest exit 1":            "status 1",
		"--- SKIP: TestX (0.1s)\nPASS\n@@vmtest exit 0":            "no test inside passed",
		"testing: warning: no tests to run\nPASS\n@@vmtest exit 0": "no test inside passed",
		"--- PASS: TestX (0.1s)":                                   "without a word",
		"--- PASS: TestX (0.1s)\npanic: signal\n@@vmtest exit 2":   "status 2",
	} {
		err := verdict(strings.Split(text, "\n"))
		if got := fmt.Sprint(err); !strings.Contains(got, want) {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}
