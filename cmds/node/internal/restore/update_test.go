package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

var (
	_ chain.Holder = (*Tree)(nil)
	_ chain.Holder = (*Image)(nil)
)

// tally is how a transfer to a node that held something went.
type tally struct {
	pieces, told, kept int // of the contents
	sent               int64
}

// carryLacking does what the chain does for a node that holds something: the
// streams in order, each piece after the node has told of it or passed it;
// what it holds with golden's hash is not Put.
func carryLacking(t testing.TB, src chain.Source, dst interface {
	chain.Sink
	chain.Holder
}) tally {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	type key struct {
		id uint16
		n  uint32
	}
	var mu sync.Mutex
	claims := map[key]wire.Hash{}
	last := key{}
	done := make(chan error, 1)
	go func() {
		done <- dst.Held(ctx, func(id uint16, n uint32, h wire.Hash) {
			mu.Lock()
			defer mu.Unlock()
			k := key{id, n}
			if len(claims) > 0 && (k.id < last.id || k.id == last.id && k.n <= last.n) {
				t.Errorf("told of %v after %v", k, last)
			}
			last, claims[k] = k, h
		})
	}()
	streams := src.Streams()
	if streams[0].Kind == wire.ManifestStream {
		for n := range streams[0].Pieces {
			buf := make([]byte, streams[0].Len(n))
			if err := errors.Join(src.ReadPiece(0, n, buf), dst.Put(0, n, buf)); err != nil {
				t.Fatal(err)
			}
		}
		streams = streams[1:]
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	sum := tally{told: len(claims)}
	var g errgroup.Group
	g.SetLimit(4)
	for _, s := range streams {
		for n := range s.Pieces {
			sum.pieces++
			g.Go(func() error {
				buf := make([]byte, s.Len(n))
				if err := src.ReadPiece(s.ID, n, buf); err != nil {
					return err
				}
				mu.Lock()
				h, ok := claims[key{s.ID, n}]
				same := ok && h == blake3.Sum256(buf)
				if same {
					sum.kept++
				} else {
					sum.sent += int64(len(buf))
				}
				mu.Unlock()
				if same {
					return nil
				}
				return dst.Put(s.ID, n, buf)
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	return sum
}

// update brings a directory from an older tree to what opt scans.
func update(t testing.TB, opt stream.ScanOptions, to string) (*Tree, tally) {
	t.Helper()
	src, err := stream.Scan(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	dst, err := NewTree(to, src.Streams(), Options{Update: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dst.Close() })
	sum := carryLacking(t, src, dst)
	if err := dst.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	return dst, sum
}

// TestUpdate brings a clone of the torture tree to what golden is after much
// has changed, on both sides; other people's programs judge.
func TestUpdate(t *testing.T) {
	need(t, "rsync", "getfattr", "setfacl", "getcap", "lsattr", "mkfs.ext4", "e2fsck")
	if !inNamespace(t) {
		return
	}
	from, _ := ext4(t, "from", "400M")
	to, image := ext4(t, "to", "400M")
	torture(t, from)
	beforeUpdate(t, from)
	_, first := clone(t, stream.ScanOptions{Root: from}, to, 9)
	first.Close()
	second, sum := update(t, stream.ScanOptions{Root: from}, to)
	second.Close()
	if sum.kept != sum.pieces || sum.sent != 0 {
		t.Errorf("nothing had changed: %+v", sum)
	}
	judge(t, from, to)
	ino := inode(t, to+"/up/same")

	changeGolden(t, from)
	mounted := changeClone(t, to)
	dst, sum := update(t, stream.ScanOptions{Root: from}, to)
	t.Logf("%+v", sum)
	ws := dst.Warnings()
	if len(ws) != 1 || ws[0].Count != 2 || !strings.Contains(ws[0].What, `"foreign" is not golden's`) {
		t.Errorf("warnings %+v, want one about the foreign mounts", ws)
	}
	for _, p := range mounted {
		if b, err := os.ReadFile(p + "/precious"); err != nil || string(b) != "precious" {
			t.Errorf("in the foreign mount: %q, %v", b, err)
		}
		command(t, "/", "umount", p)
	}
	if err := errors.Join(os.RemoveAll(to+"/foreign"), os.RemoveAll(to+"/up/foreign")); err != nil {
		t.Fatal(err)
	}
	// The mounts kept their directories from going: the times moved as we removed them.
	for _, d := range []string{"", "/up"} {
		copyTime(t, from+d, to+d)
	}
	judge(t, from, to)
	for _, args := range [][]string{{"lsattr", "-aR", "up"}, {"getcap", "-r", "up"}, {"getfacl", "-RPn", "up"}} {
		if x, y := sorted(command(t, from, args[0], args[1:]...)), sorted(command(t, to, args[0], args[1:]...)); x != y {
			t.Errorf("%v: %s", args, firstDifference(x, y))
		}
	}
	if inode(t, to+"/up/same") != ino {
		t.Error("up/same was made anew")
	}
	if sum.kept == 0 || sum.told <= sum.kept {
		t.Errorf("%+v: want some pieces kept, and some told of that differ", sum)
	}
	dst.Close()
	if err := syscall.Unmount(to, 0); err != nil {
		t.Fatal(err)
	}
	command(t, "/", "e2fsck", "-fn", image)
}

func copyTime(t *testing.T, from, to string) {
	t.Helper()
	var st unix.Stat_t
	err := unix.Stat(from, &st)
	err = errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, to, []unix.Timespec{{Nsec: unix.UTIME_OMIT}, st.Mtim}, 0))
	if err != nil {
		t.Fatal(err)
	}
}

// TestUpdateShare: how much is kept of a tree of which 1 % of the files
// change: small files mostly share their pieces with one that did.
func TestUpdateShare(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	from, to := t.TempDir(), t.TempDir()
	for _, d := range []string{from, to} {
		command(t, "/", "mount", "-t", "tmpfs", "none", d)
		t.Cleanup(func() { syscall.Unmount(d, syscall.MNT_DETACH) })
	}
	r := rand.New(rand.NewPCG(1, 2))
	var files []string
	for d := range 40 {
		sub := fmt.Sprintf("%s/d%d", from, d)
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for f := range 50 { // like /usr: half below 4 KiB, a few of some MiB
			n := 1 << (8 + r.IntN(7))
			if f%10 == 0 {
				n = 1 << (18 + r.IntN(4))
			}
			p := fmt.Sprintf("%s/f%d", sub, f)
			if err := os.WriteFile(p, noise(uint64(d*50+f), n+f), 0o644); err != nil {
				t.Fatal(err)
			}
			files = append(files, p)
		}
	}
	clone(t, stream.ScanOptions{Root: from}, to, 1)
	for range len(files) / 100 {
		p := files[r.IntN(len(files))]
		if err := os.WriteFile(p, append([]byte("changed"), noise(9999, 1+r.IntN(5000))...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, sum := update(t, stream.ScanOptions{Root: from}, to)
	t.Logf("%d files, 1 %% changed: %d of %d pieces kept, %d bytes sent", len(files), sum.kept, sum.pieces, sum.sent)
	if sum.kept*10 < sum.pieces*6 {
		t.Errorf("only %d of %d pieces are kept", sum.kept, sum.pieces)
	}
	if out := command(t, "/", "rsync", "-aHAXSn", "--checksum", "--delete", "-i", from+"/", to+"/"); out != "" {
		t.Errorf("rsync sees differences:\n%s", out)
	}
}

// TestUpdateRace: pieces are Put while Held is running, as when another node
// has spoken for them.
func TestUpdateRace(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	for i := range 60 {
		if err := os.WriteFile(fmt.Sprintf("%s/f%d", from, i), noise(uint64(i), 200_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	clone(t, stream.ScanOptions{Root: from}, to, 1)
	for i := 0; i < 60; i += 7 {
		if err := os.WriteFile(fmt.Sprintf("%s/f%d", from, i), noise(uint64(i+100), 200_000), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := NewTree(to, src.Streams(), Options{Update: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	var g errgroup.Group
	g.Go(func() error { return dst.Held(context.Background(), func(uint16, uint32, wire.Hash) {}) })
	carry(t, src, dst, 5)
	if err := errors.Join(g.Wait(), dst.Finish(context.Background())); err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		a, err1 := os.ReadFile(fmt.Sprintf("%s/f%d", from, i))
		b, err2 := os.ReadFile(fmt.Sprintf("%s/f%d", to, i))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("f%d differs", i)
		}
	}
}

// TestUpdateWithout: Held is over when its context is, and tells of nothing
// where nothing is updated; Finish wants what was neither Put nor told of.
func TestUpdateWithout(t *testing.T) {
	root, _ := field(t)
	m := manifest(t, children{0, []stream.Entry{file("x", 0, 4)}})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	none := func(uint16, uint32, wire.Hash) { t.Error("told of a piece") }
	tree := open(t, root, m, 4)
	if err := tree.Held(ctx, none); err != nil {
		t.Error(err)
	}
	tree.opt.Update = true
	if err := tree.Held(ctx, none); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without a manifest: %v", err)
	}
	if err := tree.Put(0, 0, m); err != nil {
		t.Fatal(err)
	}
	if err := tree.Finish(context.Background()); err == nil || !strings.Contains(err.Error(), root+"/x") {
		t.Errorf("finish: %v, want an error that names x", err)
	}
}

func TestUpdateImage(t *testing.T) {
	dir := t.TempDir()
	data := picture()
	old := bytes.Clone(data)
	old[3<<20] ^= 1
	for name, there := range map[string][]byte{"same": data, "changed": old, "short": data[:2<<20+5], "long": append(bytes.Clone(data), "tail"...), "none": nil} {
		from, to := filepath.Join(dir, name+"-from"), filepath.Join(dir, name)
		if err := os.WriteFile(from, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if there != nil {
			if err := os.WriteFile(to, there, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		src, err := stream.OpenImage(4, from)
		if err != nil {
			t.Fatal(err)
		}
		defer src.Close()
		dst, err := UpdateImage(to, src.Streams()[0])
		if err != nil {
			t.Fatal(err)
		}
		defer dst.Close()
		sum := carryLacking(t, src, dst)
		all, size := int(src.Streams()[0].Pieces), int(src.Streams()[0].PieceSize)
		if want := map[string]int{"same": all, "changed": all - 1, "short": (2<<20 + 5) / size, "long": all}[name]; sum.kept != want {
			t.Errorf("%s: %+v, want %d kept", name, sum, want)
		}
		if err := dst.Finish(context.Background()); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(to); err != nil || !bytes.Equal(b, data) {
			t.Errorf("%s differs (%v)", name, err)
		}
	}
}
