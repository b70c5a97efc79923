package images

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// ailing is a machine that can't become a clone.
type ailing struct {
	name   string
	faults []vmlab.Fault
	stage  *regexp.Regexp // where it has to fail
	cause  *regexp.Regexp // in what golden-serve says
	pull   bool           // its disk vanishes while it is written
	rate   int64          // bytes a second that its disk takes; 0: as they come
}

// A disk that is pulled has to be one that is still written to, when its machine
// has noticed: taking it out, the kernel first waits for what it has in memory
// (at most a fifth of it), at the disk's rate, while more comes in. That may be
// all of the files; then the first to be changed afterwards can't be written.
// Or the kernel never gives those back who write, once a fifth of its memory
// waits for a disk that is gone: golden finds that it gets nowhere.
const (
	pulledRate = 8 << 20
	largeFile  = 450 << 20
)

const sectorsPerMiB = 2048

// spread are sectors that a file of some hundred MiB on an ext4 of a GiB can't
// lie beside, and where neither mkfs nor the wiping of old signatures has
// anything: not near the groups' beginnings, at multiples of 128 MiB, or the
// journal, in the middle, or btrfs's second superblock, at 64 MiB.
func spread() []int64 {
	var out []int64
	for mib := int64(24); mib < 1000; mib += 4 {
		if at := mib % 128; at > 16 && at < 112 && mib/8 != 8 && (mib < 490 || mib > 600) {
			out = append(out, mib*sectorsPerMiB)
		}
	}
	return out
}

// TestFailingDisks has four machines clone at once whose disks fail, each in
// its own way: EIO at the partition table, in mkfs and while files are written,
// and a disk that is pulled. Each is FAILED in golden-serve's report, with its
// stage and cause, and none of them is done.
//
//	golden-serve -n 4 ─┬─ table:  EIO in sector 0
//	                   ├─ mkfs:   EIO in the superblock
//	                   ├─ writes: EIO all over the data
//	                   └─ pulled: device_del while it is written
func TestFailingDisks(t *testing.T) {
	needVMTest(t)
	dir := t.TempDir()
	root := smallRoot(t, dir)
	noise := make([]byte, largeFile)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(noise) // never fails
	if err := os.WriteFile(filepath.Join(root, "large"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	noise = nil
	failing(t, dir, root, []ailing{
		{name: "table", faults: []vmlab.Fault{{Op: "write", Sectors: []int64{0}}}, stage: regexp.MustCompile(`^preparing disks$`), cause: regexp.MustCompile(`vda`)},
		// The first partition begins at 1 MiB, and 128 MiB later is ext4's first
		// copy of the superblock, where nobody else writes.
		{name: "mkfs", faults: []vmlab.Fault{{Op: "write", Sectors: []int64{(1 + 128) * sectorsPerMiB}}}, stage: regexp.MustCompile(`^preparing disks$`), cause: regexp.MustCompile(`vda1`)},
		{name: "writes", faults: []vmlab.Fault{{Op: "write", Sectors: spread()}}, stage: regexp.MustCompile(`^receiving$`), cause: regexp.MustCompile(`input/output error|read-only file system`)},
		{name: "pulled", pull: true, rate: pulledRate, stage: regexp.MustCompile(`^(receiving|sending the golden node|fixing)$`),
			cause: regexp.MustCompile(`input/output error|no such device|read-only file system|got nowhere`)},
	})
}

// TestFailingGRUB clones a golden node whose grub-install fails.
func TestFailingGRUB(t *testing.T) {
	needVMTest(t)
	t.Parallel()
	dir, err := os.MkdirTemp("/var/tmp", "kamethod-test-")
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(dir, "root")
	t.Cleanup(func() {
		if err := errors.Join(goldenroot.Remove(root), os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	if err := goldenroot.Make(t.Context(), top, goldenroot.Cloud, root, t.Output()); err != nil {
		t.Fatal(err)
	}
	err = goldenroot.Fit(root, map[string]string{
		"etc/fstab":             "/dev/sda1 / ext4 defaults 0 1\n",
		"usr/sbin/grub-install": "#!/bin/sh\necho 'grub-install: error: no room for the core image.' >&2\nexit 1\n",
	}, "etc/initramfs-tools/conf.d/resume")
	if err != nil {
		t.Fatal(err)
	}
	writeAll(t, dir, map[string]string{"desc": "linux fill\n"})
	failing(t, dir, root, []ailing{{name: "grub", stage: regexp.MustCompile(`^fixing$`), cause: regexp.MustCompile(`no room for the core image`)}})
}

func needVMTest(t *testing.T) {
	t.Helper()
	if os.Getenv("VMTEST") == "" {
		t.Skip("make vmtest runs it: VMTEST=1")
	}
	if os.Geteuid() != 0 {
		t.Skip("needs root: network namespaces")
	}
}

// failing has machines try, and wants each to fail as it must.
func failing(t *testing.T, dir, root string, machines []ailing) {
	t.Helper()
	bin, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	lab, err := vmlab.New(ctx, vmlab.Config{Dir: filepath.Join(dir, "lab"), Accel: os.Getenv("ACCEL")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { lab.Close() })
	report := filepath.Join(dir, "report.json")
	g, err := lab.Start(vmlab.ProcessSpec{Name: "golden-serve", Dir: top, Env: []string{"KAMETHOD_STATE=" + filepath.Join(dir, "state")},
		Args: []string{filepath.Join(bin, "golden-serve"), "-n", itoa(len(machines)), "--interface", vmlab.Bridge, "--dhcp", "full", "--yes",
			"--quiet", "120s", "--console", rehearsal.LabConsole, "--root", root, "-p", "sda", filepath.Join(dir, "desc"), "--report", report},
		Tee: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	var powered []*vmlab.Machine
	var pulls sync.WaitGroup
	pulling, stop := context.WithCancel(ctx)
	defer stop()
	for i, a := range machines {
		disk := vmlab.Disk{File: filepath.Join(dir, a.name+".img"), Size: 1 << 30, Faults: a.faults, Rate: a.rate}
		if len(machines) == 1 {
			disk.Size = 2 << 30
		}
		m, err := lab.Power(ctx, vmlab.Spec{Name: a.name, MAC: mac(i), More: []vmlab.Disk{disk}})
		if err != nil {
			t.Fatal(err)
		}
		powered = append(powered, m)
		if a.pull {
			pulls.Go(func() { pullWhenWritten(pulling, t, m, disk.File) })
		}
	}
	err = g.Wait(ctx)
	stop()
	pulls.Wait()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || exit.ExitCode() != 1 {
		t.Errorf("golden-serve: %v, want exit status 1", err)
	}
	judgeFailing(t, report, machines)
	for _, m := range powered {
		if t.Failed() {
			t.Logf("%s:\n%s", m.Name, m.Console.Tail(25))
		}
	}
}

// pullWhenWritten takes a machine's disk away when some of the golden node's
// files are on it.
func pullWhenWritten(ctx context.Context, t *testing.T, m *vmlab.Machine, file string) {
	const enough = 40 << 20 // bytes; mkfs and the journal take some 20 MiB
	for ctx.Err() == nil {  // a golden-serve that is done ends it
		var st syscall.Stat_t
		if err := syscall.Stat(file, &st); err == nil && st.Blocks*512 > enough {
			if err := m.Unplug(ctx, 0); err != nil {
				t.Errorf("pull the disk: %v", err)
			}
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func mac(i int) string { return "52:54:00:77:00:0" + itoa(i+1) }

func itoa(n int) string { return string(rune('0' + n)) } // one digit

// judgeFailing reads golden-serve's report.
func judgeFailing(t *testing.T, file string, machines []ailing) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Nodes []struct {
			MAC, State, Stage, Error string
		}
	}
	if err := json.Unmarshal(b, &report); err != nil {
		t.Fatalf("read %s: %v", file, err)
	}
	if len(report.Nodes) != len(machines) {
		t.Errorf("%d nodes in the report, want %d:\n%s", len(report.Nodes), len(machines), b)
	}
	for i, a := range machines {
		found := false
		for _, n := range report.Nodes {
			if !strings.EqualFold(n.MAC, mac(i)) {
				continue
			}
			found = true
			t.Logf("%s: %s in stage %s: %s", a.name, n.State, n.Stage, n.Error)
			if n.State != "failed" || !a.stage.MatchString(n.Stage) || !a.cause.MatchString(n.Error) {
				t.Errorf("%s is %s in stage %q: %q, want failed in %q for %s", a.name, n.State, n.Stage, n.Error, a.stage, a.cause)
			}
		}
		if !found {
			t.Errorf("%s is not in the report", a.name)
		}
	}
}
