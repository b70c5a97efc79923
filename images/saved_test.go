package images

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
)

// savedRoot is a system in a folder with something of everything.
func savedRoot(t *testing.T, r *room) (root string) {
	t.Helper()
	root = smallRoot(t, r.dir)
	if err := os.Mkdir(filepath.Join(root, "var"), 0o755); err != nil {
		t.Fatal(err)
	}
	randomFile(t, filepath.Join(root, "var/big"), 12<<20)
	for i := range 400 {
		writeAll(t, root, map[string]string{fmt.Sprintf("srv/%d/%d/f%d", i%7, i%5, i): strings.Repeat(fmt.Sprint(i, " "), i*9)})
	}
	at := func(name string) string { return filepath.Join(root, name) }
	if err := errors.Join(os.Symlink("../nowhere", at("srv/link")), os.Link(at("srv/0/0/f0"), at("srv/hard")),
		os.Chown(at("srv/1/1/f1"), 1234, 70000), os.Chmod(at("srv/2/2/f2"), 0o4711), syscall.Mkfifo(at("srv/fifo"), 0o600),
		syscall.Mknod(at("srv/null"), syscall.S_IFCHR|0o666, 1<<8|3), syscall.Setxattr(at("srv/3/3/f3"), "user.a", []byte("b"), 0),
		os.Chtimes(at("srv/4/4/f4"), time.Time{}, time.Unix(1e9, 5))); err != nil {
		t.Fatal(err)
	}
	return root
}

func (r *room) save(dir string, more ...string) *program {
	r.t.Helper()
	return r.start(r.name, r.golden, "golden-serve", append([]string{"save", "--root", "root", "-p", "sda", "desc", dir}, more...)...)
}

func (r *room) check(dir string, more ...string) *program {
	r.t.Helper()
	p := r.start(r.name, r.golden, "golden-serve", append([]string{"check", dir}, more...)...)
	p.wait(r.t)
	return p
}

func (p *program) wantSaid(t *testing.T, status int, texts ...string) {
	t.Helper()
	p.wantExit(t, status)
	for _, text := range texts {
		if !strings.Contains(p.out.String(), text) {
			t.Errorf("%v: want %q in:\n%s", p.cmd.Args[4:], text, p.out)
		}
	}
}

// pieces are the files of pieces in a folder with images.
func pieces(t *testing.T, dir string) []string {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "pieces/*/*"))
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// fakeImages is enough of make image's for what never boots.
func fakeImages(t *testing.T, r *room) {
	t.Helper()
	writeAll(t, r.dir, map[string]string{
		"images/rescue.sqfs": "x", "images/tftp/pxelinux.0": "x", "images/tftp/ldlinux.c32": "x",
		"images/tftp/images/vmlinuz": "x", "images/tftp/images/all.rdz": "x",
	})
}

// The golden node is saved and goes away; what is deployed is what it was. The
// second image of it takes no room, and the first one's plan is refused what an
// image can't change.
func TestSavedImage(t *testing.T) {
	r := newRoom(t, 2)
	root := savedRoot(t, r)
	fakeImages(t, r)
	before, err := compare.Scan(root)
	if err != nil {
		t.Fatal(err)
	}
	r.save("store").wantSaid(t, 0, "verdict: EXACT", "image golden in store")
	again := r.save("store", "--name", "second", "-o", "json")
	again.wantSaid(t, 0, "of which 0 (0 bytes) were written")
	if err := os.Rename(root, root+".gone"); err != nil {
		t.Fatal(err)
	}
	r.check("store").wantSaid(t, 0, "image golden: whole", "image second: whole", "EXACT")
	wantPrivate(t, filepath.Join(r.dir, "store"))

	base := []string{"clone", "-n", "1", "--images", "images", "--yes", "--dhcp", "off", "--image", "store"}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{nil, []string{"2 images: name one: golden, second"}},
		{[]string{"--image-name", "third"}, []string{`no image "third"`}},
		{[]string{"--image-name", "second", "-x", "/srv"}, []string{"--exclude", "when it was saved"}},
		{[]string{"--image-name", "second", "--root", "/"}, []string{"--root", "that was saved"}},
		{[]string{"--image-name", "second", "-D", "sda3"}, []string{"--blocks", "when it was saved"}},
		{[]string{"--image-name", "second", "-r", "lilo2"}, []string{`"lilo2"`}},
		{[]string{"--image-name", "second", "-r", "systemd-boot"}, []string{"no machine could boot as a clone"}},
		{[]string{"--image-name", "second", "--luks-passphrase", "desc"}, []string{"no encrypted container"}},
		{[]string{"--image-name", "second", "--wait", "1s"}, []string{"sda1 linux fill", "boot loader grub", "too few nodes came"}},
	} {
		r.start(r.name, r.golden, "golden-serve", append(slices.Clone(base), c.args...)...).wantSaid(t, 2, c.want...)
	}

	g := r.serve("send", "-n", "2", "--image", "store", "--image-name", "second")
	a, b := r.receive(0, "--out", "a"), r.receive(1, "--out", "b")
	for _, p := range []*program{g, a, b} {
		p.wantExit(t, 0)
	}
	for _, name := range []string{"a", "b"} {
		got, err := compare.Scan(filepath.Join(r.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		rep := compare.Trees(before, got, nil)
		if len(rep.Differences) > 0 || rep.Entries < 400 {
			t.Errorf("%s: %d entries, differences: %v", name, rep.Entries, rep.Differences)
		}
	}
}

func wantPrivate(t *testing.T, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		st, err := e.Info()
		if err == nil && st.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s can be read by others: %s", path, st.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// A save that is killed, at whichever point, leaves nothing that is taken for
// an image, and the next one goes on with what it left.
func TestSaveKilled(t *testing.T) {
	r := newRoom(t, 0)
	root := savedRoot(t, r)
	fakeImages(t, r)
	randomFile(t, filepath.Join(root, "var/bigger"), 40<<20)
	store := filepath.Join(r.dir, "store")
	// killed kills a save that has read so many parts of the 52 MiB.
	killed := func(readings int) {
		t.Helper()
		g := newGate(t, filepath.Join(root, "var/big"), filepath.Join(root, "var/bigger"))
		p := r.save("store", "--compress", "off")
		g.count(p, readings)
		p.cmd.Process.Kill()
		g.open()
		<-p.done
		if _, err := os.Stat(filepath.Join(store, "images/golden.kaimage")); err == nil {
			t.Fatalf("an image, of a save that was killed after %d readings", readings)
		}
	}
	for round := range 24 {
		if round%12 == 0 {
			os.RemoveAll(store)
		}
		killed(round % 12 * 4)
		if round%4 > 0 {
			continue
		}
		r.check("store").wantSaid(t, 1, "holds no whole image")
		r.start(r.name, r.golden, "golden-serve", "clone", "-n", "1", "--images", "images", "--yes", "--dhcp", "off", "--image", "store").
			wantSaid(t, 2, "holds no whole image")
	}
	os.RemoveAll(store)
	killed(40)
	there := len(pieces(t, store))
	if there == 0 {
		t.Error("nothing is kept for the next save")
	}
	r.save("store", "-o", "json").wantSaid(t, 0)
	r.check("store").wantSaid(t, 0, "image golden: whole")
	if n := len(pieces(t, store)); n < there {
		t.Errorf("%d pieces, %d were there before", n, there)
	}
}

// Killed at its end, a save has made a whole image or none.
func TestSaveKilledLate(t *testing.T) {
	r := newRoom(t, 0)
	savedRoot(t, r)
	store := filepath.Join(r.dir, "store")
	begun := time.Now()
	r.save("store").wantExit(t, 0)
	whole := time.Since(begun)
	image := filepath.Join(store, "images/golden.kaimage")
	for round := range 12 { // wherever these times lead to, one of both holds
		os.Remove(image)
		p := r.save("store")
		select {
		case <-p.done:
		case <-time.After(whole * time.Duration(round+4) / 16):
			p.cmd.Process.Kill()
			<-p.done
		}
		if _, err := os.Stat(image); err == nil {
			r.check("store").wantSaid(t, 0, "image golden: whole")
			continue
		}
		r.check("store").wantSaid(t, 1, "holds no whole image")
	}
}

func waitPieces(t *testing.T, p *program, store string, n int) {
	t.Helper()
	for end := time.Now().Add(2 * time.Minute); len(pieces(t, store)) < n; time.Sleep(time.Millisecond) {
		select {
		case <-p.done:
			t.Fatalf("it ended too early:\n%s", p.out)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("no %d pieces:\n%s", n, p.out)
		}
	}
}

// An interrupt ends a save with 130; a second save beside one that runs is
// refused; the image that was there before is what it was all the time.
func TestSaveInterrupted(t *testing.T) {
	r := newRoom(t, 0)
	savedRoot(t, r)
	store := filepath.Join(r.dir, "store")
	r.save("store").wantExit(t, 0)
	before, err := os.ReadFile(filepath.Join(store, "images/golden.kaimage"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(r.dir, "root/var/new")
	randomFile(t, file, 60<<20)
	there := len(pieces(t, store))
	g := newGate(t, file)
	p := r.save("store")
	g.count(p, 30)
	waitPieces(t, p, store, there+3) // of 30 readings of 1 MiB each, at most 4 MiB to a piece
	r.save("store", "--name", "other").wantSaid(t, 2, "another golden-serve is saving there")
	r.check("store").wantSaid(t, 0, "image golden: whole", "belong to no image")
	p.cmd.Process.Signal(syscall.SIGINT)
	g.trickle(p)
	p.wantSaid(t, 130, "image golden is not saved")
	if now, err := os.ReadFile(filepath.Join(store, "images/golden.kaimage")); err != nil || string(now) != string(before) {
		t.Error("the image that was there is another one", err)
	}
	r.save("store").wantExit(t, 0)
	r.check("store").wantSaid(t, 0, "image golden: whole")
}

// A disk that is full leaves no image; with more room the same command goes on.
func TestSaveDiskFull(t *testing.T) {
	if !inOwnMounts(t) {
		return
	}
	r := newRoom(t, 0)
	savedRoot(t, r)
	store := filepath.Join(r.dir, "store")
	mount := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("mount", args...).CombinedOutput(); err != nil {
			t.Fatalf("mount %v: %v: %s", args, err, out)
		}
	}
	if err := os.Mkdir(store, 0o700); err != nil {
		t.Fatal(err)
	}
	mount("-t", "tmpfs", "-o", "size=5M,mode=0700", "none", store)
	t.Cleanup(func() { exec.Command("umount", store).Run() })
	r.save("store").wantSaid(t, 1, "no space left on device", "is not saved")
	r.check("store").wantSaid(t, 1, "holds no whole image")
	there := len(pieces(t, store))
	if there == 0 {
		t.Error("nothing is kept for the next save")
	}
	mount("-o", "remount,size=200M", store)
	p := r.save("store", "-o", "json")
	p.wantExit(t, 0)
	var s struct {
		Figures struct{ Pieces, Added, Mended int }
	}
	text := p.out.String()
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{\n"):strings.LastIndex(text, "}")+1]), &s); err != nil {
		t.Fatal(err, text)
	}
	if s.Figures.Mended != 0 || s.Figures.Added+there > s.Figures.Pieces {
		t.Errorf("%d pieces were there, and it has written %+v", there, s.Figures)
	}
	r.check("store").wantSaid(t, 0, "image golden: whole")
}

// What is broken is found: what a look tells before anything is started, the
// rest by its hash, and nobody has it then.
func TestSavedImageBroken(t *testing.T) {
	r := newRoom(t, 1)
	savedRoot(t, r)
	r.save("store", "--compress", "off").wantExit(t, 0)
	store := filepath.Join(r.dir, "store")
	big := ""
	for _, p := range pieces(t, store) { // the largest is of var/big, which nothing else is like
		if st, err := os.Stat(p); err == nil && (big == "" || st.Size() > size(t, big)) {
			big = p
		}
	}
	b, err := os.ReadFile(big)
	if err != nil {
		t.Fatal(err)
	}
	good := slices.Clone(b)
	b[len(b)/2] ^= 4
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(big, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(b)
	r.check("store").wantSaid(t, 1, filepath.Base(big), "is not what its hash says", "image golden: BROKEN: 1 of", "affected: /var/big")
	g := r.serve("send", "-n", "1", "--image", "store")
	k := r.receive(0, "--out", "a")
	g.wantSaid(t, 1, filepath.Base(big), "is not what its hash says")
	k.wantExit(t, 1)
	write(good[:len(good)-1])
	r.start(r.name, r.golden, "golden-serve", "send", "-n", "1", "--image", "store").wantSaid(t, 2, filepath.Base(big), "are missing or broken")
	if err := os.Remove(big); err != nil {
		t.Fatal(err)
	}
	r.start(r.name, r.golden, "golden-serve", "send", "-n", "1", "--image", "store").wantSaid(t, 2, "missing", "golden-serve check")
	r.check("store").wantSaid(t, 1, "missing", "affected: /var/big")
	r.save("store", "--compress", "off").wantExit(t, 0)
	r.check("store").wantSaid(t, 0, "image golden: whole")
}

func size(t *testing.T, path string) int64 {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return st.Size()
}

// TestSavedClone boots machines that become clones of a golden root which is
// gone by then: of its image. It takes as long as a cell of the matrix: `make
// vmtest`, alone by CELL=saved.
func TestSavedClone(t *testing.T) {
	if os.Getenv("VMTEST") == "" && os.Getenv("CELL") != "saved" {
		t.Skip("make vmtest runs it: VMTEST=1 or CELL=saved")
	}
	playClone(t, rehearsal.Config{Kind: goldenroot.Cloud, Nodes: 1, Saved: true})
}
