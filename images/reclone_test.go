package images

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
	"github.com/kamethod/kamethod/images/vmlab"
)

// sent is what golden's report says of the bytes.
type sent struct{ Bytes, Sent, Kept int64 }

func (r *room) sent(report string) sent {
	r.t.Helper()
	var s sent
	b, err := os.ReadFile(filepath.Join(r.dir, report))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil || s.Bytes == 0 {
		r.t.Fatalf("report: %v: %s", err, b)
	}
	return s
}

// forest is a tree like a system's: packages of files that are small, most of
// them, and cannot be compressed.
type forest struct {
	t    *testing.T
	dir  string
	dice *rand.Rand
	fill *rand.ChaCha8
}

const (
	packages = 200
	perPack  = 100
	meanSize = 15_000
)

func newForest(t *testing.T, dir string) *forest {
	t.Helper()
	f := &forest{t: t, dir: dir, dice: rand.New(rand.NewPCG(1, 2)), fill: rand.NewChaCha8([32]byte{7})}
	for p := range packages {
		if err := os.MkdirAll(filepath.Dir(f.path(p, 0)), 0o755); err != nil {
			t.Fatal(err)
		}
		for n := range perPack {
			f.write(p, n)
		}
	}
	return f
}

func (f *forest) path(pack, file int) string {
	return filepath.Join(f.dir, fmt.Sprintf("pack%03d", pack), fmt.Sprintf("file%03d", file))
}

func (f *forest) write(pack, file int) {
	f.t.Helper()
	b := make([]byte, f.dice.IntN(2*meanSize))
	f.fill.Read(b)
	if err := os.WriteFile(f.path(pack, file), b, 0o644); err != nil {
		f.t.Fatal(err)
	}
}

func (f *forest) remove(pack, file int) {
	f.t.Helper()
	if err := os.Remove(f.path(pack, file)); err != nil {
		f.t.Fatal(err)
	}
}

// upgrade does what an upgrade of two packages does, and what a day's work
// does here and there: 200 of 20,000 files are changed, added or removed.
func (f *forest) upgrade() {
	for _, pack := range []int{17, 120} {
		for n := range 70 {
			f.write(pack, n)
		}
		for n := range 10 {
			f.remove(pack, 90+n)
			f.write(pack, perPack+n)
		}
	}
	for range 20 {
		f.write(f.dice.IntN(packages), f.dice.IntN(80))
	}
}

// scatter changes 200 files, each in another place: as bad as it gets, for
// one byte in a piece is a piece.
func (f *forest) scatter() {
	for pack := range packages {
		f.write(pack, f.dice.IntN(80))
	}
}

// wantSame holds copies against the original.
func (f *forest) wantSame(copies ...string) {
	f.t.Helper()
	for _, c := range copies {
		out, err := exec.Command("rsync", "-aHAXSni", "--numeric-ids", "--checksum", "--delete", "--modify-window=-1", f.dir+"/", c+"/").CombinedOutput()
		if err != nil || len(out) > 0 {
			f.t.Errorf("rsync finds differences in %s: %v\n%s", c, err, out)
		}
	}
}

// TestRecloneFolder sends a folder of 20,000 files, changes one in a hundred,
// and sends it again to receivers that have the first copy.
func TestRecloneFolder(t *testing.T) {
	r := newRoom(t, 2)
	f := newForest(t, filepath.Join(r.dir, "tree"))
	for _, c := range []struct {
		what   string
		change func()
		update []string
		most   float64 // of the bytes of a copy may be sent
	}{
		{"first", func() {}, nil, 1.2},
		{"nothing changed", func() {}, []string{"--update"}, 0.02}, // the manifest is sent always
		{"two packages and 20 files more", f.upgrade, []string{"--update"}, 0.2},
		{"200 files everywhere", f.scatter, []string{"--update"}, 0.4},
	} {
		c.change()
		begun := time.Now()
		g := r.serve("send", "-n", "2", "--report", "report.json", "tree")
		a := r.receive(0, append([]string{"--out", "a"}, c.update...)...)
		b := r.receive(1, append([]string{"--out", "b"}, c.update...)...)
		for _, p := range []*program{g, a, b} {
			p.wantExit(t, 0)
		}
		took, s := time.Since(begun), r.sent("report.json")
		t.Logf("%s: %.1f s, %d of %d bytes sent (%.1f %%), %d kept", c.what, took.Seconds(), s.Sent, s.Bytes, 100*float64(s.Sent)/float64(s.Bytes), s.Kept)
		// A piece may have been sent twice: a disk may be too slow for it the first time.
		if s.Bytes < 250e6 || float64(s.Sent) > c.most*float64(s.Bytes) || s.Sent+s.Kept < s.Bytes || s.Kept > s.Bytes {
			t.Errorf("%s: %+v: want at most %.0f %% sent, and all else kept", c.what, s, 100*c.most)
		}
		f.wantSame(filepath.Join(r.dir, "a"), filepath.Join(r.dir, "b"))
	}
}

// TestReclone clones a golden root to a machine, changes one in a hundred of
// golden's files, and has the machine, which has lived and was then switched
// off, brought up to date. The clone must be golden's in every respect, as
// after the first time, and have kept its file systems.
func TestReclone(t *testing.T) {
	if os.Getenv("RECLONE") == "" {
		t.Skip("two clones of an emulated machine take 10 minutes: RECLONE=1 has them made, RECLONE=uefi on one with UEFI")
	}
	top, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	work, err := os.MkdirTemp("/var/tmp", "kamethod-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log("consoles and logs are kept in ", work)
		}
		if err := rehearsal.TidyUp(work, t.Failed()); err != nil {
			t.Error(err)
		}
	})
	cfg := rehearsal.Config{
		Top: top, Work: work, Kind: goldenroot.Cloud, Nodes: 1, Accel: os.Getenv("ACCEL"), Out: t.Output(), Serve: []string{"--update"},
	}
	if os.Getenv("RECLONE") == string(vmlab.UEFI) {
		cfg.Firmware = vmlab.UEFI
	}
	first := play(t, cfg)
	if first.Sent < first.Bytes || first.Kept != 0 {
		t.Errorf("an empty disk held something: %d of %d bytes sent, %d kept", first.Sent, first.Bytes, first.Kept)
	}
	n := renovate(t, filepath.Join(work, "golden"), first.Nodes[0].Report.Entries/100)
	t.Logf("%d of golden's %d entries are changed", n, first.Nodes[0].Report.Entries)
	before := uuids(t, filepath.Join(work, "node1.img"))
	cfg.Again = true
	second := play(t, cfg)
	if after := uuids(t, filepath.Join(work, "node1.cloned.img")); after != before {
		t.Errorf("the file systems were\n%s\nand are now\n%s", before, after)
	}
	if second.Sent > second.Bytes*4/10 || second.Sent+second.Kept < second.Bytes {
		t.Errorf("%d of %d bytes were sent, %d kept", second.Sent, second.Bytes, second.Kept)
	}
	for i, r := range []*rehearsal.Result{first, second} {
		s := r.Nodes[0].Serve.Seconds
		t.Logf("clone %d: %d of %d bytes sent (%.1f %%); disk %.1f s, clone %.1f s, fix-up %.1f s",
			i+1, r.Sent, r.Bytes, 100*float64(r.Sent)/float64(r.Bytes), s["disk"], s["clone"], s["fixup"])
	}
}

// play has no difference left between golden and the clone.
func play(t *testing.T, cfg rehearsal.Config) *rehearsal.Result {
	t.Helper()
	result, err := rehearsal.Run(t.Context(), cfg)
	if result != nil && len(result.Nodes) > 0 {
		result.Print(t.Output())
	}
	if err != nil {
		t.Fatal(err)
	}
	if n := result.Nodes[0].Report.Entries; n < 10_000 {
		t.Fatalf("only %d entries were compared", n)
	}
	return result
}

// uuids is what identifies the partitions and file systems on a disk.
func uuids(t *testing.T, disk string) string {
	t.Helper()
	parts, err := compare.Table(t.Context(), disk)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, p := range parts {
		fmt.Fprintf(&b, "%d %s %s %d+%d\n", p.Number, p.FSType, p.UUID, p.Start, p.Size)
	}
	return b.String()
}

// renovate changes at least so many of a golden root's files, as an upgrade
// does: in one stretch files are rewritten, some are removed, others added;
// here and there one is changed, or becomes something else.
func renovate(t *testing.T, root string, want int) (changed int) {
	t.Helper()
	var share []string
	err := filepath.WalkDir(filepath.Join(root, "usr/share"), func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			share = append(share, path)
		}
		return err
	})
	if err != nil || len(share) < 700+2*want {
		t.Fatalf("%d files in usr/share: %v", len(share), err)
	}
	dice := rand.New(rand.NewPCG(3, 4))
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		changed++
	}
	for i, path := range share[500 : 500+want] {
		switch {
		case i%8 == 0:
			do(os.Remove(path))
		case i%8 == 1:
			do(os.WriteFile(path+".new", []byte(strings.Repeat("new\n", i*i)), 0o640))
		default:
			do(rewrite(path, byte(i)))
		}
	}
	for range 8 {
		do(rewrite(share[500+want+dice.IntN(len(share)-500-want)], 'x'))
	}
	first := share[0]
	do(os.Remove(first))
	do(os.MkdirAll(filepath.Join(first, "was", "a file"), 0o750))
	do(os.Remove(share[1]))
	do(os.Symlink("/nowhere", share[1]))
	do(os.WriteFile(filepath.Join(root, "home", "new"), []byte("in the other file system\n"), 0o600))
	return changed
}

// rewrite changes one byte and the length of a file, in its place.
func rewrite(path string, x byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(b) > 0 {
		b[len(b)/2] ^= x | 1
	}
	return os.WriteFile(path, append(b, x), 0o644)
}
