package capture

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// btrfsDisk is a btrfs that is mounted.
func btrfsDisk(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	file, dir := filepath.Join(t.TempDir(), "btrfs.img"), t.TempDir()
	write(t, file, "")
	if err := os.Truncate(file, 300<<20); err != nil {
		t.Fatal(err)
	}
	must(t, "mkfs.btrfs", "-q", file)
	must(t, "mount", "-o", "loop", file, dir)
	t.Cleanup(func() { must(t, "umount", dir) })
	return dir
}

// writer makes a new pair all the time, synced and then shown by one rename:
// both files hold the same number at every instant.
func writer(t *testing.T, dir string) {
	t.Helper()
	step := func(i int) error {
		next := filepath.Join(dir, fmt.Sprint("v", i%2))
		if err := os.RemoveAll(next); err != nil {
			return err
		}
		if err := os.Mkdir(next, 0o755); err != nil {
			return err
		}
		for _, name := range []string{"a", "b"} {
			text := strings.Repeat(fmt.Sprintf("%09d\n", i), 3000)
			if err := writeSynced(filepath.Join(next, name), text); err != nil {
				return err
			}
		}
		link := filepath.Join(dir, "new")
		if err := os.Symlink(filepath.Base(next), link); err != nil {
			return err
		}
		return os.Rename(link, filepath.Join(dir, "pair"))
	}
	if err := step(0); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		i := 1
		for ; ctx.Err() == nil; i++ {
			if err := step(i); err != nil {
				done <- err
				return
			}
		}
		if i < 3 {
			done <- fmt.Errorf("the writer was idle: %d", i)
			return
		}
		done <- nil
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func writeSynced(path, text string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return f.Sync()
}

func consistent(t *testing.T, root string) {
	t.Helper()
	dir := filepath.Join(root, "pair")
	a, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	if len(a) != 30000 || string(a) != string(b) || strings.Count(string(a), string(a[:10])) != 3000 {
		t.Errorf("no single instant: %d %.9s, %d %.9s", len(a), a, len(b), b)
	}
}

func left(t *testing.T, dirs ...string) []string {
	t.Helper()
	var found []string
	for _, d := range dirs {
		f, err := filepath.Glob(filepath.Join(d, snapshotName+"*"))
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, f...)
	}
	return found
}

func TestSnapshotIsOneInstant(t *testing.T) {
	dir := btrfsDisk(t)
	writer(t, dir)
	var before [2]string
	for round := range before {
		s := TakeSnapshot(t.Context(), SnapshotOptions{Root: dir})
		if s.Root == dir || len(left(t, dir)) != 1 {
			t.Fatalf("no snapshot: %v", s.Notes)
		}
		tree, err := stream.Scan(t.Context(), stream.ScanOptions{Root: s.Root, Mounts: s.Mounts, Excludes: s.Excludes})
		if err != nil {
			t.Fatal(err)
		}
		consistent(t, s.Root)
		text, _ := os.ReadFile(s.Root + "/pair/a")
		time.Sleep(300 * time.Millisecond) // the writer goes on
		again, _ := os.ReadFile(s.Root + "/pair/a")
		if string(text) != string(again) || len(tree.Changed()) != 0 {
			t.Errorf("what was scanned has changed: %v", tree.Changed())
		}
		if found, _ := filepath.Glob(s.Root + "/" + snapshotName + "*"); len(found) > 0 {
			t.Errorf("a snapshot has itself in it: %v", found)
		}
		before[round] = string(text)
		if err := tree.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if l := left(t, dir); l != nil {
			t.Errorf("left over: %v", l)
		}
	}
	if before[0] == before[1] {
		t.Error("the writer has written nothing between two snapshots")
	}
}

// Subvolumes below, another file system below, a folder that is covered: the
// tree is as it is live.
func TestSnapshotOfSeveral(t *testing.T) {
	dir := btrfsDisk(t)
	for _, d := range []string{"etc", "boot", "covered", "home", "proc"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	must(t, "btrfs", "subvolume", "create", dir+"/var")
	must(t, "btrfs", "subvolume", "create", dir+"/var/deep")
	must(t, "btrfs", "subvolume", "create", dir+"/out")
	must(t, "btrfs", "subvolume", "snapshot", "-r", dir+"/var", dir+"/old")
	write(t, dir+"/covered/hidden", "x")
	write(t, dir+"/var/deep/file", "before")
	mount(t, "tmpfs", dir+"/covered", "tmpfs", 0)
	mount(t, "tmpfs", dir+"/boot", "tmpfs", 0)
	write(t, dir+"/boot/kernel", "before")
	stamp := time.Unix(1e9, 0)
	if err := os.Chtimes(dir, stamp, stamp); err != nil {
		t.Fatal(err)
	}
	s := TakeSnapshot(t.Context(), SnapshotOptions{Root: dir, Mounts: []string{"/", "/boot"}, Excludes: []string{"/out"}})
	defer s.Close()
	write(t, dir+"/var/deep/file", "after")
	write(t, dir+"/boot/kernel", "after")
	for name, want := range map[string]string{"/var/deep/file": "before", "/boot/kernel": "after"} {
		if got, err := os.ReadFile(s.Root + name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	slices.Sort(s.Mounts)
	if got := strings.Join(s.Mounts, " "); got != "/ /boot /old /var /var/deep" {
		t.Errorf("mounts: %s", got)
	}
	if got := strings.Join(s.Excludes, " "); got != "/out /covered" {
		t.Errorf("excludes: %s", got)
	}
	if l := left(t, dir, dir+"/var", dir+"/var/deep", dir+"/out", dir+"/old"); len(l) != 3 {
		t.Errorf("snapshots: %v", l)
	}
	notes := strings.Join(s.Notes, "\n")
	if !strings.Contains(notes, "/ is read from a snapshot") || !strings.Contains(notes, "/boot (tmpfs) has none") {
		t.Error(notes)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if l := left(t, dir, dir+"/var", dir+"/var/deep"); l != nil {
		t.Errorf("left over: %v", l)
	}
	if st, err := os.Stat(dir); err != nil || !st.ModTime().Equal(stamp) {
		t.Errorf("golden's root was touched: %v, %v", st.ModTime(), err)
	}
}

// A folder in a subvolume is read from the snapshot too; what can't be is
// read as it is.
func TestSnapshotOfFolder(t *testing.T) {
	dir := btrfsDisk(t)
	sub := filepath.Join(dir, "a", "b")
	if err := os.MkdirAll(sub, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, sub+"/file", "before")
	s := TakeSnapshot(t.Context(), SnapshotOptions{Root: sub})
	write(t, sub+"/file", "after")
	if got, err := os.ReadFile(s.Root + "/file"); err != nil || string(got) != "before" {
		t.Errorf("%q, %v", got, err)
	}
	if err := s.Close(); err != nil || left(t, dir) != nil {
		t.Error(err, left(t, dir))
	}
	must(t, "mount", "-o", "remount,ro", dir)
	s = TakeSnapshot(t.Context(), SnapshotOptions{Root: sub})
	if s.Root != sub || !strings.Contains(strings.Join(s.Notes, "\n"), "could not be taken") {
		t.Errorf("%s: %v", s.Root, s.Notes)
	}
	other := t.TempDir()
	mount(t, "tmpfs", other, "tmpfs", 0)
	s = TakeSnapshot(t.Context(), SnapshotOptions{Root: other})
	if s.Root != other || len(s.Notes) != 1 || s.Excludes != nil {
		t.Errorf("%s: %v", s.Root, s.Notes)
	}
}

// TestSnapshotKilled lets a process take a snapshot and kills it.
func TestSnapshotKilled(t *testing.T) {
	if dir := os.Getenv("CAPTURE_TEST_SNAPSHOT"); dir != "" {
		TakeSnapshot(t.Context(), SnapshotOptions{Root: dir})
		fmt.Println("taken")
		time.Sleep(time.Minute)
		return
	}
	dir := btrfsDisk(t)
	cmd := exec.Command("/proc/self/exe", "-test.run", "^TestSnapshotKilled$")
	cmd.Env = append(os.Environ(), "CAPTURE_TEST_NAMESPACE=1", "CAPTURE_TEST_SNAPSHOT="+dir)
	cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	theirs := fmt.Sprintf("%s/%s%d", dir, snapshotName, cmd.Process.Pid)
	for range 500 {
		if f, err := os.Open(theirs); err == nil {
			err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
			f.Close()
			if err != nil {
				break // it has it
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	// As long as it lives, its snapshot stays.
	s := TakeSnapshot(t.Context(), SnapshotOptions{Root: dir})
	if l := left(t, dir); len(l) != 2 {
		t.Errorf("while both run: %v", l)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if l := left(t, dir); len(l) != 1 || l[0] != theirs {
		t.Errorf("after the kill: %v", l)
	}
	s = TakeSnapshot(t.Context(), SnapshotOptions{Root: dir})
	if !strings.Contains(strings.Join(s.Notes, "\n"), theirs+", left by a run that was killed, removed") {
		t.Errorf("notes: %v", s.Notes)
	}
	if err := s.Close(); err != nil || left(t, dir) != nil {
		t.Error(err, left(t, dir))
	}
}

func TestLVM(t *testing.T) {
	// As lvs(8) prints, two blanks before each line.
	if vg, lv, err := parseVolume("  debian-vg root\n"); vg != "debian-vg" || lv != "root" || err != nil {
		t.Error(vg, lv, err)
	}
	for _, bad := range []string{"", "  vg\n", "  vg -f\n", "  vg lv more\n", "  v/g lv\n"} {
		if _, _, err := parseVolume(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	if got := strings.Join(createArgs("vg", "root", "kamethod-7-0"), " "); got != "-s -n kamethod-7-0 -l 10%ORIGIN vg/root" {
		t.Error(got)
	}
	out := "  home                \n  kamethod-12-0 root  \n  kamethod-13-0 root  \n  kamethod-12-1 home  \n  kamethod-x-0  root  \n  root                \n"
	if got := strings.Join(leftVolumes(out, "root", func(pid int) bool { return pid == 13 }), " "); got != "kamethod-12-0" {
		t.Error(got)
	}
	if lvmUUID(7, 0) || lvmUUID(0, 0) {
		t.Error("a loop device is a logical volume")
	}
}
