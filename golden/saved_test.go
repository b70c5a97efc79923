package golden

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/internal/saved"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/status"
	"github.com/kamethod/kamethod/golden/wire"
)

// files writes files below a folder.
func writeFiles(t *testing.T, dir string, list map[string]string) {
	t.Helper()
	for name, text := range list {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
}

// savedFolder saves a system in a folder, and returns the images' folder and
// what was saved. The system is gone then.
func savedFolder(t *testing.T, o Original) (dir string, plan wire.Plan) {
	t.Helper()
	o.Hostname, o.ToSave = "node%d", true
	exclude, err := PrepareSave(filepath.Join(o.Root, "srv/images"), o.Root)
	if err != nil || exclude != "/srv/images" {
		t.Fatalf("to exclude: %q, %v", exclude, err)
	}
	o.Excludes = append(o.Excludes, exclude)
	dir = filepath.Join(o.Root, "srv/images")
	d, err := Describe(t.Context(), o, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	s, err := d.Save(t.Context(), SaveConfig{Dir: dir, Root: o.Root, Level: 1})
	if err != nil || s.Verdict != Exact {
		t.Fatalf("%+v, %v", s, err)
	}
	to := filepath.Join(t.TempDir(), "images")
	if err := errors.Join(os.Rename(dir, to), os.RemoveAll(o.Root)); err != nil {
		t.Fatal(err)
	}
	return to, d.Plan
}

func system(t *testing.T) (root, desc string) {
	t.Helper()
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"root/etc/fstab":    "/dev/sda1 / ext4 defaults 0 1\n/dev/sda2 /home ext4 defaults 0 2\n/dev/sda3 none swap sw 0 0\n",
		"root/etc/hostname": "golden\n", "root/bin/true": "", "root/home/a/b": strings.Repeat("x", 50000), "root/usr/lib/grub/i386-pc/modinfo.sh": "",
		"root/boot/vmlinuz": "k", "root/boot/grub/grub.cfg": "", "desc": "linux 1000\nlinux 500\nswap 100\n",
	})
	return filepath.Join(dir, "root"), filepath.Join(dir, "desc")
}

func deploy(t *testing.T, o SavedOriginal) (*Described, error) {
	t.Helper()
	o.Hostname = "node%d"
	d, err := DescribeSaved(t.Context(), o, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

// What is deployed from an image is what would have been cloned.
func TestSavedPlanIsTheSame(t *testing.T) {
	root, desc := system(t)
	dir, want := savedFolder(t, Original{Root: root, Descs: map[string]string{"sda": desc}, Loader: wire.Loader{Kind: "auto"}, Matches: []string{"sda:size>=1G"}})
	for name, o := range map[string]Original{
		"as it is":               {},
		"the same loader":        {Loader: wire.Loader{Kind: "grub"}},
		"the same desc":          {Descs: map[string]string{"sda": writeDesc(t, "linux 1000\nlinux 500\nswap 100\n")}},
		"the same kind of table": {Table: layout.MBR},
	} {
		d, err := deploy(t, SavedOriginal{Dir: dir, Original: o})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := d.Plan
		got.Loader.With, want.Loader.With = nil, nil
		if len(got.Filesystems) != 3 || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v\nwant %+v", name, got, want)
		}
	}
}

func writeDesc(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "desc")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// Disks, table and boot loader can be others than the saved ones.
func TestSavedOnOtherDisks(t *testing.T) {
	root, desc := system(t)
	dir, was := savedFolder(t, Original{Root: root, Descs: map[string]string{"sda": desc}, Loader: wire.Loader{Kind: "auto"}})
	desc2 := writeDesc(t, "linux 3000\nswap 100\n")
	for name, c := range map[string]struct {
		o    Original
		want string // of the error
		see  func(p wire.Plan) bool
	}{
		"larger": {Original{Descs: map[string]string{"sda": writeDesc(t, "linux 3000\nlinux 5000\nswap 100\n")}}, "",
			func(p wire.Plan) bool {
				return p.Disks[0].Layout.Parts[1].Size>>20 == 5000 && p.Filesystems[1].MountPoint == "/home" && p.Filesystems[1].Part == 2
			}},
		"no partition for /home": {Original{Descs: map[string]string{"sda": writeDesc(t, "linux 3000\nswap 100\n")}}, "no linux partition is left", nil},
		"another disk's name": {Original{Descs: map[string]string{"vda": writeDesc(t, "linux 3000\nlinux 5000\nswap 100\n")}}, "", func(p wire.Plan) bool {
			return len(p.Disks) == 1 && p.Disks[0].Name == "vda" && p.Filesystems[1].Part == 2 && p.Filesystems[1].OldDevice == "/dev/sda2"
		}},
		"two disks": {Original{Descs: map[string]string{"vda": desc2, "vdb": desc2}}, "the saved image has sda", nil},
		"gpt": {Original{Table: layout.GPT}, "", func(p wire.Plan) bool {
			return p.Disks[0].Layout.Table == layout.GPT && len(p.Disks[0].Layout.Parts) == 4 // and one for GRUB
		}},
		"lilo":             {Original{Loader: wire.Loader{Kind: "lilo", With: []string{"ahci"}}}, "", func(p wire.Plan) bool { return p.Loader.Kind == "lilo" && len(p.Loader.With) == 1 }},
		"none":             {Original{Loader: wire.Loader{Kind: "none"}}, "", func(p wire.Plan) bool { return p.Loader.Kind == "none" }},
		"systemd-boot":     {Original{Loader: wire.Loader{Kind: "systemd-boot"}}, "no machine could boot as a clone", nil},
		"no such hint":     {Original{Matches: []string{"sdx:size>=1G"}}, "disk sdx is not in the plan", nil},
		"hint":             {Original{Matches: []string{"sda:rotational=no"}}, "", func(p wire.Plan) bool { return p.Disks[0].Match != (layout.Match{}) }},
		"passphrase":       {Original{Passphrases: []string{desc}}, "no encrypted container", nil},
		"another's loader": {Original{BootCode: map[string]string{"sda": ""}}, "boot loader grub is written over it", nil},
	} {
		d, err := deploy(t, SavedOriginal{Dir: dir, Original: c.o})
		switch {
		case c.want != "":
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", name, err, c.want)
			}
		case err != nil || !c.see(d.Plan):
			t.Errorf("%s: %v %+v", name, err, d)
		case !reflect.DeepEqual(needs(d.Plan), needs(was)):
			t.Errorf("%s: needs %v, want %v", name, needs(d.Plan), needs(was))
		}
	}
}

func needs(p wire.Plan) map[string]int64 {
	m := map[string]int64{}
	for _, f := range p.Filesystems {
		if f.MountPoint != "" {
			m[f.MountPoint] = f.NeedBytes
		}
	}
	return m
}

// What opens the clones' containers is asked for when they are made; nothing of
// it is in the image.
func TestSavedWithoutPassphrases(t *testing.T) {
	root, _ := system(t)
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"secret": "correct horse\n", "layout.yaml": `disks:
  sda:
    table: mbr
    partitions:
      - {size: 300M, fs: ext4, mount: /boot}
      - {size: fill}
luks:
  safe: {of: sda2, fs: ext4, mount: /}
`})
	writeFiles(t, root, map[string]string{"etc/fstab": "/dev/mapper/safe / ext4 defaults 0 1\n/dev/sda1 /boot ext4 defaults 0 2\n"})
	images, _ := savedFolder(t, Original{Root: root, Layout: filepath.Join(dir, "layout.yaml"), Loader: wire.Loader{Kind: "auto"}})
	if _, err := deploy(t, SavedOriginal{Dir: images}); err == nil || !strings.Contains(err.Error(), "give --luks-passphrase FILE") {
		t.Errorf("no passphrase is asked for: %v", err)
	}
	d, err := deploy(t, SavedOriginal{Dir: images, Original: Original{Passphrases: []string{filepath.Join(dir, "secret")}}})
	if err != nil || len(d.Plan.Secrets) != 1 || string(d.Plan.Secrets[0].Passphrase) != "correct horse" {
		t.Errorf("%v, %+v", err, d)
	}
}

// What has changed while an image was saved is what its clones are told.
func TestSavedVerdict(t *testing.T) {
	root, desc := system(t)
	dir := filepath.Join(t.TempDir(), "images")
	d, err := Describe(t.Context(), Original{Root: root, Hostname: "n", ToSave: true, Descs: map[string]string{"sda": desc}, Loader: wire.Loader{Kind: "none"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	writeFiles(t, root, map[string]string{"home/a/b": "another"}) // after the scan
	s, err := d.Save(t.Context(), SaveConfig{Dir: dir, Root: root, Name: "x"})
	if err != nil || s.Verdict != PerFile || s.Summary() != "CONSISTENT-PER-FILE (1 files re-read, 0 torn)" {
		t.Fatalf("%+v %v", s, err)
	}
	src, err := OpenSaved(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if v, n := (&ferry{src: src}).judge(); v != PerFile || n != 1 {
		t.Error(v, n)
	}
}

// A saved image goes through the same flow as a machine: stage 2, the disks,
// the pieces, the release.
func TestCloneSavedImage(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	macs := []string{"52:54:00:00:00:01", "52:54:00:00:00:02"}
	l := newLab(t, 2, macs...)
	store, err := saved.Create(filepath.Join(l.dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Save(t.Context(), l.c.Tree, saved.About{Name: "a", Wire: wire.Version}, saved.Options{Level: 2}, func(*saved.About) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if l.c.Tree, err = OpenSaved(store.Dir(), ""); err != nil {
		t.Fatal(err)
	}
	l.start()
	together([]*machine{l.machine(macs[0]), l.machine(macs[1])}, func(m *machine) {
		m.intoStage2()
		m.prepare()
		m.finish()
		m.wantRelease()
	})
	l.wait()
	if l.err != nil || l.result.Failed() > 0 || len(l.result.Nodes) != 2 || l.result.Verdict != Exact || l.result.Nodes[0].State != status.Released {
		t.Errorf("%+v, %v", l.result, l.err)
	}
}

// A piece that has rotted is found before anybody's disk is touched; who
// doesn't want that to be looked for has the plan all the same.
func TestCloneRottenImage(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	for _, unchecked := range []bool{false, true} {
		l := newLab(t, 1, "52:54:00:00:00:01")
		store, err := saved.Create(filepath.Join(l.dir, "images"))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := store.Save(t.Context(), l.c.Tree, saved.About{Name: "a", Wire: wire.Version}, saved.Options{}, func(*saved.About) error { return nil }); err != nil {
			t.Fatal(err)
		}
		src, err := OpenSaved(store.Dir(), "")
		if err != nil {
			t.Fatal(err)
		}
		src.Unchecked = unchecked
		l.c.Tree = src
		list, err := filepath.Glob(filepath.Join(store.Dir(), "pieces/*/*"))
		if err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		b, err := os.ReadFile(list[0])
		if err == nil {
			b[len(b)/2] ^= 1
			err = os.WriteFile(list[0], b, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		if !unchecked {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			_, err := Clone(ctx, l.c)
			cancel()
			if err == nil || !strings.Contains(err.Error(), filepath.Base(list[0])+": is not what its hash says") {
				t.Errorf("%v", err)
			}
			continue
		}
		l.start()
		m := l.machine("52:54:00:00:00:01")
		m.intoStage2()
		m.next("to prepare", func(o wire.Order) bool { return o.Plan != nil })
		l.cancel()
		l.wait()
	}
}

// held is an image whose verification goes on when the test says so.
type held struct {
	*saved.Source
	on chan struct{}
}

func (h held) Verify(ctx context.Context, progress func(done, all int)) error {
	select {
	case <-h.on:
	case <-ctx.Done():
	}
	return h.Source.Verify(ctx, progress)
}

// Nodes that are here earlier wait until all pieces are known to be right.
func TestCloneWaitsForTheImage(t *testing.T) {
	if !inOwnNetwork(t) {
		return
	}
	l := newLab(t, 1, "52:54:00:00:00:01")
	store, err := saved.Create(filepath.Join(l.dir, "images"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := store.Save(t.Context(), l.c.Tree, saved.About{Name: "a", Wire: wire.Version}, saved.Options{}, func(*saved.About) error { return nil }); err != nil {
		t.Fatal(err)
	}
	src, err := OpenSaved(store.Dir(), "")
	if err != nil {
		t.Fatal(err)
	}
	on := make(chan struct{})
	l.c.Tree = held{src, on}
	l.start()
	m := l.machine("52:54:00:00:00:01")
	m.intoStage2()
	l.until("the node to wait", func() bool {
		return strings.Contains(l.log.String(), "nodes wait until the image has been compared")
	})
	if strings.Contains(l.log.String(), "nodes prepare") || len(m.orders) > 0 {
		t.Errorf("it didn't wait:\n%s", l.log)
	}
	close(on)
	m.prepare()
	m.finish()
	m.wantRelease()
	l.wait()
	if l.err != nil || l.result.Verdict != Exact {
		t.Errorf("%+v, %v", l.result, l.err)
	}
}

// An image is refused as long as somebody saves into its folder, for saving
// only, and what is interrupted is none.
func TestSaveIsInterrupted(t *testing.T) {
	root, desc := system(t)
	dir := filepath.Join(t.TempDir(), "images")
	d, err := Describe(t.Context(), Original{Root: root, Hostname: "n", ToSave: true, Descs: map[string]string{"sda": desc}, Loader: wire.Loader{Kind: "none"}}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	cancel()
	if _, err := d.Save(ctx, SaveConfig{Dir: dir, Root: root}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, err := OpenSaved(dir, ""); err == nil || !strings.Contains(err.Error(), "no whole image") {
		t.Error(err)
	}
}

// A layout file may give a folder a file system of its own: what goes there is
// counted there.
func TestSavedOnALayoutFile(t *testing.T) {
	root, desc := system(t)
	writeFiles(t, root, map[string]string{"var/lib/db": strings.Repeat("y", 300_000)})
	dir, was := savedFolder(t, Original{Root: root, Descs: map[string]string{"sda": desc}, Loader: wire.Loader{Kind: "auto"}})
	yaml := filepath.Join(t.TempDir(), "layout.yaml")
	writeFiles(t, filepath.Dir(yaml), map[string]string{"layout.yaml": `disks:
  sda:
    table: mbr
    partitions:
      - {size: 2G, fs: ext4, mount: /}
      - {size: 1G, fs: ext4, mount: /home}
      - {size: 100M, fs: swap}
      - {size: fill, fs: xfs, mount: /var}
`})
	d, err := deploy(t, SavedOriginal{Dir: dir, Original: Original{Layout: yaml}})
	if err != nil {
		t.Fatal(err)
	}
	before, now := needs(was), needs(d.Plan)
	if now["/var"] < 300_000 || now["/"]+now["/var"] != before["/"] || now["/home"] != before["/home"] {
		t.Errorf("needs %v, before %v", now, before)
	}
}

// Partitions that are copied as blocks are saved as such, and have to fit.
func TestSavedBlocks(t *testing.T) {
	root, _ := system(t)
	win := filepath.Join(t.TempDir(), "win")
	noise := make([]byte, 3<<20)
	rand.Read(noise)
	f, err := os.Create(win)
	if err == nil {
		_, err = f.WriteAt(noise, 20<<20)
		err = errors.Join(err, f.Truncate(64<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	desc := writeDesc(t, "linux 1000\nlinux 500\nswap 100\ntype7 64\n")
	dir, want := savedFolder(t, Original{Root: root, Descs: map[string]string{"sda": desc}, Loader: wire.Loader{Kind: "none"},
		Blocks: []BlockCopy{{On: "sda4", File: win}}, BlocksHow: wire.BlocksNonzero})
	d, err := deploy(t, SavedOriginal{Dir: dir})
	if err != nil || !reflect.DeepEqual(d.Plan, want) || len(d.Plan.Blocks) != 1 {
		t.Fatalf("%v %+v, want %+v", err, d, want)
	}
	var data []byte
	for _, s := range d.Source().Streams() {
		for p := range s.Pieces {
			b := make([]byte, s.Len(p))
			if err := d.Source().ReadPiece(s.ID, p, b); err != nil {
				t.Fatal(err)
			}
			if s.Kind == wire.BlocksStream {
				data = append(data, b...)
			}
		}
	}
	if !bytes.Contains(data, noise) {
		t.Errorf("%d bytes of blocks, without what was there", len(data))
	}
	small := writeDesc(t, "linux 1000\nlinux 500\nswap 100\ntype7 32\n")
	if _, err := deploy(t, SavedOriginal{Dir: dir, Original: Original{Descs: map[string]string{"sda": small}}}); err == nil || !strings.Contains(err.Error(), "can't be made smaller") {
		t.Error(err)
	}
	none := writeDesc(t, "linux 1000\nlinux 500\nswap 100\n")
	if _, err := deploy(t, SavedOriginal{Dir: dir, Original: Original{Descs: map[string]string{"sda": none}}}); err == nil || !strings.Contains(err.Error(), "no such partition") {
		t.Error(err)
	}
	r, err := CheckImages(t.Context(), dir, "", nil)
	if err != nil || !r.Whole() {
		t.Errorf("%+v %v", r, err)
	}
}
