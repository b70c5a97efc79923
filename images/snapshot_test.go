package images

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inOwnMounts runs a test once more with mounts of its own, and says whether
// this is that run.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts")
	}
	if os.Getenv("IMAGES_TEST_OWN_MOUNTS") != "" {
		if out, err := exec.Command("mount", "--make-rprivate", "/").CombinedOutput(); err != nil {
			t.Fatalf("make mounts private: %v: %s", err, out)
		}
		return true
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=3m")
	c.Env = append(os.Environ(), "IMAGES_TEST_OWN_MOUNTS=1")
	c.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// snapshotDisk is a btrfs with a folder in use: a file that is written all the
// time. ip netns exec gives golden-serve mounts of its own once more, which
// must not be in the way.
func snapshotDisk(t *testing.T, r *room) string {
	t.Helper()
	file, dir := filepath.Join(r.dir, "btrfs.img"), filepath.Join(r.dir, "disk")
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
	}
	run("truncate", "-s", "300M", file)
	run("mkfs.btrfs", "-q", file)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	run("mount", "-o", "loop", file, dir)
	t.Cleanup(func() { run("umount", dir) })
	randomFile(t, filepath.Join(dir, "big"), 30<<20)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		var err error
		for err == nil {
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(5 * time.Millisecond):
				err = os.WriteFile(filepath.Join(dir, "busy"), []byte(time.Now().String()), 0o644)
			}
		}
		done <- err
	}()
	t.Cleanup(func() {
		close(stop)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return dir
}

func snapshotsLeft(t *testing.T, dir string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, ".kamethod-snapshot-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// What is sent is the snapshot, and none is left: neither at the end, nor
// after an interrupt, nor after a kill and another run.
func TestSendSnapshot(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	r := newRoom(t, 1)
	r.limit("200mbit")
	dir := snapshotDisk(t, r)
	send := []string{"send", "-n", "1", "--fresh", "--snapshot", "auto", "disk"}
	for _, c := range []struct {
		signal syscall.Signal
		left   int
	}{{syscall.SIGINT, 0}, {syscall.SIGTERM, 0}, {syscall.SIGKILL, 1}} {
		g := r.serve(send...)
		k := r.receive(0, "--out", "never", "--wait", "20s")
		g.expect(t, "phase: sending")
		if n := len(snapshotsLeft(t, dir)); n != 1 {
			t.Fatalf("%d snapshots while it sends", n)
		}
		g.cmd.Process.Signal(c.signal)
		g.wait(t)
		k.cmd.Process.Kill()
		<-k.done
		if l := snapshotsLeft(t, dir); len(l) != c.left {
			t.Errorf("after %v: %v", c.signal, l)
		}
	}
	g := r.serve(send...)
	if !strings.Contains(g.out.String(), "left by a run that was killed, removed") {
		t.Errorf("nothing is said of the snapshot left over:\n%s", g.out)
	}
	waiting := time.Now() // the snapshot is older
	k := r.receive(0, "--out", "copy")
	g.wantExit(t, 0)
	k.wantExit(t, 0)
	if hashFile(t, filepath.Join(r.dir, "copy/big")) != hashFile(t, filepath.Join(dir, "big")) {
		t.Error("other bytes")
	}
	st, err := os.Stat(filepath.Join(r.dir, "copy/busy"))
	if err != nil {
		t.Fatal(err)
	}
	if now, err := os.Stat(filepath.Join(dir, "busy")); err != nil || st.ModTime().After(waiting) || !now.ModTime().After(waiting) {
		t.Errorf("the file is not of the snapshot: %v", st.ModTime())
	}
	if l, m := snapshotsLeft(t, dir), snapshotsLeft(t, filepath.Join(r.dir, "copy")); l != nil || m != nil {
		t.Errorf("left over: %v, in the copy: %v", l, m)
	}
}
