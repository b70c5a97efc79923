package roster

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const five = "52:54:00:00:00:05"

// inOwnMounts runs the test once more in a mount namespace of its own, and
// tells whether this is that run.
func inOwnMounts(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: a file system of its own")
	}
	const env = "ROSTER_TEST_OWN_MOUNTS"
	if os.Getenv(env) != "" {
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	c := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=2m")
	c.Env = append(os.Environ(), env+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return false
}

// A machine becomes done while golden's disk is full: Sync says so until there
// is room, and then the journal has it, and whatever came after it.
func TestJournalOnAFullDisk(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	path, ballast := filepath.Join(dir, "nodes.jsonl"), filepath.Join(dir, "ballast")
	cfg := Config{Session: "s", Run: "1", Max: 4, Path: path}
	r := mustOpen(t, cfg)
	r.clone(t, one)
	r.clone(t, two)
	if err := r.Sync(); err != nil {
		t.Fatal(err)
	}
	fill := func() {
		t.Helper()
		f, err := os.OpenFile(ballast, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = f.Write(make([]byte, 4096))
		}
		if f.Close(); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
	}
	fill()
	// The journal's last page has room for some lines, and for a part of one.
	r.Registered(one, 1, strings.Repeat("n", maxWord), "", "")
	for i := 0; i < 100 && !r.journal.lacks(); i++ {
		r.mu.Lock()
		r.write(r.find(one))
		r.mu.Unlock()
	}
	r.Finished(one)
	for range 3 {
		if err := r.Sync(); !errors.Is(err, ErrNotKept) || !errors.Is(err, unix.ENOSPC) {
			t.Errorf("on a full disk: %v", err)
		}
	}
	b, err := os.ReadFile(path)
	if err != nil || !bytes.HasSuffix(b, []byte("}\n")) {
		t.Errorf("half a line is left: %v, ...%q", err, b[max(0, len(b)-100):])
	}
	if err := errors.Join(r.Arm([]string{three}), r.Sync()); !errors.Is(err, ErrNotKept) {
		t.Errorf("armed on a full disk: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	r.Tick()
	r.Finished(two)
	if err := r.Sync(); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	saved, err := ReadFile(path) // as after kill -9
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]State{}
	for _, m := range saved.Machines {
		got[m.MAC] = m.State
	}
	if got[one] != Done || got[two] != Done || got[three] != Armed {
		t.Errorf("after a restart: %v", got)
	}
	if l, err := filepath.Glob(path + ".new"); err != nil || len(l) > 0 {
		t.Errorf("left behind: %q, %v", l, err)
	}
	// A journal that has only grown too long is as good as it was when there
	// is no room for another.
	r.journal.disk.Lock()
	fill()
	if err := r.renew(r.journal); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("made anew on a full disk: %v", err)
	}
	r.journal.disk.Unlock()
	if err := r.Sync(); err != nil {
		t.Errorf("a whole journal: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
}

// The boot servers are answered while the journal is made anew on a slow disk,
// and what happens meanwhile is in the new file.
func TestAnsweredWhileTheDiskWrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nodes.jsonl")
	r := mustOpen(t, Config{Max: 2, Path: path})
	r.clone(t, one)
	// A pipe that nobody reads is the slowest disk there is.
	if err := unix.Mkfifo(path+".new", 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() { // ends the waiting
		if f, err := os.OpenFile(path+".new", os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			time.AfterFunc(time.Second, func() { f.Close() })
		}
	}
	defer time.AfterFunc(time.Minute, read).Stop()
	t.Cleanup(read)
	made := make(chan error, 1)
	go func() {
		r.journal.disk.Lock()
		defer r.journal.disk.Unlock()
		made <- r.renew(r.journal)
	}()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		r.journal.mu.Lock()
		making := r.journal.making
		r.journal.mu.Unlock()
		if making {
			break
		}
		if time.Now().After(end) {
			t.Fatal("no new file is begun")
		}
	}
	r.clone(t, two) // would wait for a minute
	r.Finished(one)
	select {
	case err := <-made:
		t.Fatalf("it has not waited: the test shows nothing: %v", err)
	default:
	}
	read()
	if err := <-made; err == nil {
		t.Error("a pipe can't be synced, and it says nothing")
	}
	if err := r.Sync(); err != nil {
		t.Error(err)
	}
	r.journal.disk.Lock()
	r.mu.Lock()
	list := r.all()
	text := r.journal.begin(list)
	r.mu.Unlock()
	r.Finished(two)
	err := r.journal.finish(text, len(list))
	r.journal.disk.Unlock()
	if err == nil {
		err = r.Sync()
	}
	saved, rerr := ReadFile(path)
	if err != nil || rerr != nil {
		t.Fatal(err, rerr)
	}
	for _, m := range saved.Machines {
		if m.State != Done {
			t.Errorf("the new file has %+v", m)
		}
	}
}

// When all are disarmed, nobody takes the places that have become free, also
// not after a restart, and not by the list; who is named by the administrator
// is armed.
func TestShut(t *testing.T) {
	for _, named := range [][]string{nil, {one, two, three}} {
		cfg := Config{Session: "s", Run: "1", Max: 2, Named: named, Path: filepath.Join(t.TempDir(), "nodes.jsonl")}
		r := mustOpen(t, cfg)
		r.clone(t, one)
		r.Finished(one)
		r.boots(two)
		r.Shut()
		if r.boots(two) != Image {
			t.Error("who was armed isn't any more: that is said of each")
		}
		if err := r.Disarm([]string{two}); err != nil {
			t.Fatal(err)
		}
		for i := range 3 {
			if i == 2 {
				cfg.Anew = true
			}
			for _, mac := range []string{one, two, four, five} {
				if r.boots(mac) != OwnDisk {
					t.Errorf("%s is armed by coming (round %d)", mac, i)
				}
			}
			if err := r.Admit(four, false); err == nil {
				t.Errorf("registers (round %d)", i)
			}
			r.Recall(four, 4, Cloning)
			wantState(t, r, four, Seen)
			if i == 2 {
				break
			}
			r.Close()
			if named != nil {
				cfg.Named = append(slices.Clone(named), five) // a longer list
			}
			r = mustOpen(t, cfg)
		}
		if err := r.Arm([]string{four}); err != nil || r.boots(four) != Image {
			t.Errorf("armed by word: %v", err)
		}
		if r.boots(five) != OwnDisk {
			t.Error("one that was armed by word lets others in")
		}
		r.Close()
		cfg.Run, cfg.Anew = "2", false
		if r = mustOpen(t, cfg); r.boots(two) != Image {
			t.Error("the next session arms nobody")
		}
	}
}

// A run that is not gone on with: who was done or had failed stays so, all
// others begin anew.
func TestAnew(t *testing.T) {
	cfg := Config{Session: "s", Run: "1", Max: 6, Path: filepath.Join(t.TempDir(), "nodes.jsonl")}
	r := mustOpen(t, cfg)
	for _, mac := range []string{one, two, three} {
		r.clone(t, mac)
	}
	r.Finished(one)
	r.Failed(two, "mkfs")
	r.boots(four)
	if err := r.Disarm([]string{five}); err != nil {
		t.Fatal(err)
	}
	r.Close()
	cfg.Anew = true
	r = mustOpen(t, cfg)
	for mac, want := range map[string]State{one: Done, two: Failed, three: Seen, four: Seen, five: Seen} {
		wantState(t, r, mac, want)
	}
	if r.taken != 2 {
		t.Errorf("%d places are taken", r.taken)
	}
	for mac, want := range map[string]Verdict{one: OwnDisk, two: OwnDisk, three: Image, four: Image, five: OwnDisk} {
		if got := r.boots(mac); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
}

// What the record says holds where the journal is lost: who has failed for good
// has failed, who may come back is taken up.
func TestRecallWithoutAJournal(t *testing.T) {
	r := mustOpen(t, Config{Max: 3})
	r.Recall(one, 1, Done)
	r.Recall(two, 2, Failed)
	r.Recall(three, 3, Cloning)
	for mac, want := range map[string]Verdict{one: OwnDisk, two: OwnDisk, three: Image} {
		if got := r.boots(mac); got != want {
			t.Errorf("%s: %v, want %v", mac, got, want)
		}
	}
	wantState(t, r, two, Failed)
	if r.boots(four) != OwnDisk {
		t.Error("a place was given to another")
	}
}
