package images

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// nights is a folder of nightly builds, and a stand-in for the two minutes of
// mkimage: the script's order of things is what these tests are about.
type nights struct {
	t     *testing.T
	dest  string
	build string
	env   []string
}

// A build of the text in $CONTENT, with a manifest of the form that mkimage
// writes; $BREAK says what is wrong with it.
const standIn = `#!/bin/sh
set -eu
echo "building $CONTENT"
[ "$BREAK" != fails ] || { echo "no space left" >&2; exit 4; }
printf '{\n' >"$1/manifest.json"
for f in vmlinuz all.rdz rescue.sqfs; do
	echo "$f $CONTENT" >"$1/$f"
	printf '"sha256": "%s",\n' "$(sha256sum <"$1/$f" | cut -d' ' -f1)" >>"$1/manifest.json"
done
case $BREAK in
half) rm "$1/rescue.sqfs" ;;
empty) : >"$1/all.rdz" ;;
other) echo more >>"$1/vmlinuz" ;;
esac
[ "$BREAK" != slow ] || { : >"$1/../../started"; read -r line <"$1/../../go-on"; }
`

func newNights(t *testing.T) *nights {
	t.Helper()
	for _, tool := range []string{"bash", "flock", "rsync", "git"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s isn't installed", tool)
		}
	}
	dir := t.TempDir()
	n := &nights{t: t, dest: filepath.Join(dir, "night ly$(touch x)"), build: filepath.Join(dir, "build")}
	if err := os.WriteFile(n.build, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	return n
}

func (n *nights) command(night, rev, content, broken string) *exec.Cmd {
	c := exec.Command("../scripts/nightly.sh")
	c.Env = append(os.Environ(), "DEST="+n.dest, "BUILD="+n.build, "NIGHT="+night, "REV="+rev, "CONTENT="+content, "BREAK="+broken, "KEEP=3", "MIRROR=", "UPDATE=")
	c.Env = append(c.Env, n.env...)
	return c
}

// run is one night; it wants that exit status.
func (n *nights) run(night, rev, content, broken string, want int) string {
	n.t.Helper()
	out, err := n.command(night, rev, content, broken).CombinedOutput()
	status := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		n.t.Fatal(err)
	}
	if status != want {
		n.t.Fatalf("night %s: exit status %d, want %d\n%s", night, status, want, out)
	}
	return string(out)
}

// builds lists what is in the folder of builds, links with where they lead.
func (n *nights) builds(dest string) []string {
	n.t.Helper()
	entries, err := os.ReadDir(filepath.Join(dest, "builds"))
	if err != nil {
		n.t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		name := e.Name()
		if to, err := os.Readlink(filepath.Join(dest, "builds", name)); err == nil {
			name += " > " + to
		}
		out = append(out, name)
	}
	return out
}

func (n *nights) want(what string, want ...string) {
	n.t.Helper()
	if got := n.builds(n.dest); !slices.Equal(got, want) {
		n.t.Errorf("%s:\n got %q\nwant %q", what, got, want)
	}
}

// The old script sorted by name, counted from the oldest, and so deleted the
// newest, as soon as revisions had one more digit or it had eight of them.
func TestNightlyRetention(t *testing.T) {
	n := newNights(t)
	for i, rev := range []string{"0r8", "0r9", "0r10", "0r100"} {
		n.run(fmt.Sprintf("2026010%d_0300", i+1), rev, rev, "", 0)
	}
	n.want("four builds, KEEP=3",
		"20260102_0300 > kamethod-0r9", "20260103_0300 > kamethod-0r10", "20260104_0300 > kamethod-0r100",
		"kamethod-0r10", "kamethod-0r100", "kamethod-0r9", "last > kamethod-0r100")
	// The same revision and bytes are the same build, and a young one.
	n.run("20260105_0300", "0r9", "0r9", "", 0)
	// The same revision with other bytes is another.
	n.run("20260106_0300", "0r100", "new kernel", "", 0)
	n.want("after a revert, and a new kernel",
		"20260102_0300 > kamethod-0r9", "20260104_0300 > kamethod-0r100", "20260105_0300 > kamethod-0r9", "20260106_0300 > kamethod-0r100.2",
		"kamethod-0r100", "kamethod-0r100.2", "kamethod-0r9", "last > kamethod-0r100.2")
	// What isn't ours stays, whatever its name.
	foreign := filepath.Join(n.dest, "builds/kamethod-mine")
	if err := os.Mkdir(foreign, 0o755); err != nil {
		t.Fatal(err)
	}
	n.env = []string{"KEEP=1"}
	n.run("20260107_0300", "0r101", "x", "", 0)
	n.want("KEEP=1", "20260107_0300 > kamethod-0r101", "kamethod-0r101", "kamethod-mine", "last > kamethod-0r101")
	for _, night := range []string{"20260101_0300", "20260107_0300"} {
		if b, err := os.ReadFile(filepath.Join(n.dest, "logs", night+".build.txt")); err != nil || !strings.Contains(string(b), "building ") {
			t.Errorf("log of %s: %q, %v", night, b, err)
		}
	}
	if _, err := os.Stat("../x"); err == nil {
		t.Error("a shell ran the name of the folder")
	}
}

func TestNightlyFailure(t *testing.T) {
	n := newNights(t)
	n.run("20260101_0300", "0r1", "one", "", 0)
	before := n.builds(n.dest)
	for i, broken := range []string{"fails", "half", "empty", "other"} {
		night := fmt.Sprintf("2026010%d_0300", i+2)
		out := n.run(night, "0r2", "two", broken, 1)
		n.want(broken, before...)
		log := filepath.Join(n.dest, "logs", night+".FAILED.txt")
		if b, err := os.ReadFile(log); err != nil || !strings.Contains(string(b), "building two") {
			t.Errorf("%s: log %q, %v", broken, b, err)
		}
		if !strings.Contains(out, log) {
			t.Errorf("%s: the log isn't named:\n%s", broken, out)
		}
	}
	// One that was killed half-way leaves nothing in the way of the next.
	if err := os.MkdirAll(filepath.Join(n.dest, "builds/.new/x"), 0o755); err != nil {
		t.Fatal(err)
	}
	n.run("20260110_0300", "0r3", "three", "", 0)
	n.want("after all", "20260101_0300 > kamethod-0r1", "20260110_0300 > kamethod-0r3", "kamethod-0r1", "kamethod-0r3", "last > kamethod-0r3")
}

func TestNightlyOneAtATime(t *testing.T) {
	n := newNights(t)
	if err := os.MkdirAll(n.dest, 0o755); err != nil {
		t.Fatal(err)
	}
	gate := filepath.Join(n.dest, "go-on")
	if out, err := exec.Command("mkfifo", gate).CombinedOutput(); err != nil {
		t.Fatalf("mkfifo: %v: %s", err, out)
	}
	first := n.command("20260101_0300", "0r1", "one", "slow")
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- first.Wait() }()
	t.Cleanup(func() { first.Process.Kill() })
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(n.dest, "started")); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the first build didn't begin within a minute")
		}
	}
	if out := n.run("20260102_0300", "0r2", "two", "", 75); !strings.Contains(out, "another build is at work") {
		t.Errorf("second: %s", out)
	}
	// Opened for both, so that this returns whatever the script does.
	f, err := os.OpenFile(gate, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("go\n"); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("first: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the first build didn't end within a minute")
	}
	n.want("one at a time", "20260101_0300 > kamethod-0r1", "kamethod-0r1", "last > kamethod-0r1")
}

func TestNightlyMirror(t *testing.T) {
	n := newNights(t)
	mirror := filepath.Join(t.TempDir(), "mirror; touch y")
	precious := filepath.Join(mirror, "precious")
	if err := os.MkdirAll(precious, 0o755); err != nil {
		t.Fatal(err)
	}
	n.env = []string{"MIRROR=" + mirror, "KEEP=1"}
	n.run("20260101_0300", "0r1", "one", "", 0)
	n.run("20260102_0300", "0r2", "two", "", 0)
	if got, want := n.builds(filepath.Join(mirror, filepath.Base(n.dest))), []string{"20260102_0300 > kamethod-0r2", "kamethod-0r2", "last > kamethod-0r2"}; !slices.Equal(got, want) {
		t.Errorf("mirror has %q, want %q", got, want)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what else was there: %v", err)
	}
	if b, err := os.ReadFile(filepath.Join(mirror, filepath.Base(n.dest), "builds/last/vmlinuz")); err != nil || string(b) != "vmlinuz two\n" {
		t.Errorf("mirror's last: %q, %v", b, err)
	}
	n.env = []string{"MIRROR=/proc/no/such"}
	n.run("20260103_0300", "0r3", "three", "", 3)
	if to, _ := os.Readlink(filepath.Join(n.dest, "builds/last")); to != "kamethod-0r3" {
		t.Errorf("a mirror that is away: last leads to %q", to)
	}
}

func TestNightlySettings(t *testing.T) {
	n := newNights(t)
	for _, tt := range []struct {
		set, want string
		status    int
	}{
		{"KEEP=0", "KEEP=0", 2},
		{"KEEP=-1; touch z", "KEEP=-1", 2},
		{"DEST=nightly", "DEST=nightly", 2},
		{"DEST=/", "DEST=/", 2},
		{"NIGHT=../x", "NIGHT=../x", 2},
		{"REV=../../x", "no revision", 1},
		{"REV=-rf", "no revision", 1},
	} {
		n.env = []string{tt.set}
		if out := n.run("20260101_0300", "0r1", "one", "", tt.status); !strings.Contains(out, tt.want) {
			t.Errorf("%s: %s", tt.set, out)
		}
	}
	// Without REV the revision is git's.
	n.env = []string{"REV="}
	n.run("20260102_0300", "", "one", "", 0)
	head, err := exec.Command("git", "describe", "--always", "--exclude=*", "--abbrev=12").Output()
	if err != nil {
		t.Skipf("no git here: %v", err)
	}
	if to, _ := os.Readlink(filepath.Join(n.dest, "builds/last")); !strings.HasPrefix(to, "kamethod-0r") || !strings.Contains(to, "-"+strings.TrimSpace(string(head))) {
		t.Errorf("last leads to %q, and git is at %s", to, head)
	}
}

func TestNightlyUnits(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze isn't installed")
	}
	units, _ := filepath.Glob("../templates/nightly/*")
	if len(units) != 2 {
		t.Fatalf("units: %v", units)
	}
	out, err := exec.Command("systemd-analyze", append([]string{"verify", "--man=no"}, units...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "kamethod-nightly") {
			t.Error(strings.TrimSpace(line))
		}
	}
	if err != nil {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	for _, u := range units {
		b, err := os.ReadFile(u)
		if err != nil {
			t.Fatal(err)
		}
		bad := filepath.Join(t.TempDir(), filepath.Base(u))
		if err := os.WriteFile(bad, append(b, "[Service]\nExecStart=relative\n[Timer]\nOnCalendar=never\n"...), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, _ := exec.Command("systemd-analyze", "verify", "--man=no", bad).CombinedOutput(); !strings.Contains(string(out), filepath.Base(bad)) {
			t.Errorf("systemd-analyze finds nothing in a broken %s: %s", filepath.Base(bad), out)
		}
	}
}
