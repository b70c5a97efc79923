package pid1

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/cmds/node/internal/console"
	"golang.org/x/sys/unix"
)

// The test binary runs itself as PID 1 of namespaces of its own.
func TestMain(m *testing.M) {
	switch os.Getenv("KAMETHOD_PID1_JOB") {
	case "":
		os.Exit(m.Run())
	case "reap":
		asInit()
	case "mounts":
		inEmptyRoot()
	}
}

func inNamespaces(t *testing.T, job string) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for namespaces")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), "KAMETHOD_PID1_JOB="+job, "KAMETHOD_PID1_ROOT="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Unshareflags: unix.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", job, err, out)
	}
	return string(out)
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// asInit leaves orphans behind, keeps a child of its own, and must bury the
// first and still learn how the second ended.
func asInit() {
	Shield()
	check(unix.Mount("proc", "/proc", "proc", 0, ""))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go Reap(ctx, 50*time.Millisecond)
	for range 20 { // the shell ends at once, its child becomes ours
		check(exec.Command("sh", "-c", "sleep 0.2 & exit 0").Run())
	}
	for range 20 { // not one of these may be stolen
		err := exec.Command("sh", "-c", "exit 7").Run()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 7 {
			check(fmt.Errorf("own child: %w", err))
		}
	}
	check(unix.Kill(1, unix.SIGTERM)) // must not end us
	orphans := func() int { return len(zombies("/proc", 1)) }
	time.Sleep(300 * time.Millisecond)
	for end := time.Now().Add(5 * time.Second); orphans() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			check(fmt.Errorf("%d zombies left", orphans()))
		}
	}
	fmt.Println("alive")
}

func TestReap(t *testing.T) {
	if out := inNamespaces(t, "reap"); out != "alive\n" {
		t.Errorf("got %q", out)
	}
}

// inEmptyRoot mounts into a bare tmpfs, twice.
func inEmptyRoot() {
	root := os.Getenv("KAMETHOD_PID1_ROOT")
	check(unix.Mount("tmpfs", root, "tmpfs", 0, ""))
	check(unix.Chroot(root))
	check(os.Chdir("/"))
	check(Mounts())
	check(Mounts())
	b, err := os.ReadFile("/proc/self/mounts")
	check(err)
	os.Stdout.Write(b)
	link, err := os.Readlink("/dev/fd")
	check(err)
	fmt.Println("fd", link)
}

func TestMounts(t *testing.T) {
	out := inNamespaces(t, "mounts")
	var got []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) > 3 {
			got = append(got, f[1]+" "+f[2])
		}
	}
	want := []string{"/ tmpfs", "/proc proc", "/sys sysfs", "/dev devtmpfs", "/dev/pts devpts", "/dev/shm tmpfs", "/run tmpfs", "/tmp tmpfs"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got:\n%s\n%s", d, out)
	}
	if !strings.Contains(out, "fd /proc/self/fd") {
		t.Error(out)
	}
}

func TestStateOf(t *testing.T) {
	for _, tt := range []struct {
		stat, state string
		ppid        int
	}{
		{"12 (sh) Z 1 12 12 0", "Z", 1},
		{"12 (a) Z 9 (b) S 34 1", "S", 34},
		{"12 (sh", "", 0},
		{"12 (sh) Z", "", 0},
		{"12 (sh) Z x", "", 0},
	} {
		if state, ppid := stateOf([]byte(tt.stat)); state != tt.state || ppid != tt.ppid {
			t.Errorf("%q: %q %d", tt.stat, state, ppid)
		}
	}
}

func TestSequence(t *testing.T) {
	var out bytes.Buffer
	var ran []string
	stage := func(name string, err error) Stage {
		return Stage{name, func(context.Context) error {
			ran = append(ran, name)
			if name == "crash" {
				_ = ran[len(ran)]
			}
			return err
		}}
	}
	cause := errors.New("no cable")
	for _, tt := range []struct {
		stages []Stage
		ran    []string
		want   string
	}{
		{[]Stage{stage("a", nil), stage("b", nil)}, []string{"a", "b"}, ""},
		{[]Stage{stage("a", nil), stage("b", cause), stage("c", nil)}, []string{"a", "b"}, "b failed: no cable"},
		{[]Stage{stage("crash", nil), stage("c", nil)}, []string{"crash"}, "crash failed: panic: runtime error: index out of range"},
	} {
		ran = nil
		err := Sequence{
			Title: "stage 1", Console: console.New(&out), Stages: tt.stages,
			BreakAt: func(string) (string, bool) { return "", false },
		}.Run(t.Context())
		if !slices.Equal(ran, tt.ran) {
			t.Errorf("ran %v, want %v", ran, tt.ran)
		}
		if (err == nil) != (tt.want == "") || err != nil && !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
	}
	if !strings.HasPrefix(out.String(), "stage 1: a\nstage 1: b\n") {
		t.Errorf("said %q", out.String())
	}
}
