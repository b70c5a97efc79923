package restore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/images/compare"
)

var (
	_ chain.Source = (*stream.Tree)(nil)
	_ chain.Source = (*stream.Image)(nil)
	_ chain.Sink   = (*Tree)(nil)
	_ chain.Sink   = (*Image)(nil)
)

// carry takes all pieces from src to dst as a chain would: shuffled, some
// twice, from four goroutines; what came too early comes again.
func carry(t testing.TB, src chain.Source, dst chain.Sink, seed uint64) {
	t.Helper()
	type piece struct {
		id uint16
		n  uint32
		l  int
	}
	var todo []piece
	for _, s := range src.Streams() {
		for n := range s.Pieces {
			todo = append(todo, piece{s.ID, n, s.Len(n)})
		}
	}
	r := rand.New(rand.NewPCG(seed, 1))
	for range len(todo) / 10 {
		todo = append(todo, todo[r.IntN(len(todo))])
	}
	for lap := 0; len(todo) > 0; lap++ {
		if lap > 10 {
			t.Fatalf("%d pieces are still not taken after %d laps", len(todo), lap)
		}
		r.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
		again := make([]bool, len(todo))
		var g errgroup.Group
		g.SetLimit(4)
		for i, p := range todo {
			g.Go(func() error {
				buf := make([]byte, p.l)
				if err := src.ReadPiece(p.id, p.n, buf); err != nil {
					return err
				}
				err := dst.Put(p.id, p.n, buf)
				if again[i] = errors.Is(err, chain.ErrNotYet); again[i] {
					return nil
				}
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
		var next []piece
		for i, p := range todo {
			if again[i] {
				next = append(next, p)
			}
		}
		todo = next
	}
}

// clone is the whole way of a tree from one directory to another.
func clone(t testing.TB, opt stream.ScanOptions, to string, seed uint64) (*stream.Tree, *Tree) {
	t.Helper()
	src, err := stream.Scan(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	dst, err := NewTree(to, src.Streams(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dst.Close() })
	carry(t, src, dst, seed)
	if err := dst.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	return src, dst
}

// TestTorture copies everything that is hard to copy between two ext4 file
// systems and lets other people's programs judge.
func TestTorture(t *testing.T) {
	need(t, "rsync", "getfattr", "setfacl", "getcap", "lsattr", "mkfs.ext4", "e2fsck")
	if !inNamespace(t) {
		return
	}
	from, _ := ext4(t, "from", "400M")
	to, image := ext4(t, "to", "400M")
	torture(t, from)
	src, dst := clone(t, stream.ScanOptions{Root: from}, to, 42)
	for _, w := range dst.Warnings() {
		t.Errorf("warning: %+v", w)
	}
	for _, w := range src.Warnings() {
		t.Errorf("warning: %s", w)
	}
	judge(t, from, to)
	if c := src.Changed(); len(c) != 0 {
		t.Errorf("changed: %v", c)
	}
	if err := DropCaches(); err != nil {
		t.Error(err)
	}
	readBack(t, src, dst)
	dst.Close()
	if err := syscall.Unmount(to, 0); err != nil {
		t.Fatal(err)
	}
	command(t, "/", "e2fsck", "-fn", image)
}

// readBack compares every piece of the golden side with what the node reads.
func readBack(t *testing.T, src chain.Source, dst *Tree) {
	t.Helper()
	for _, s := range src.Streams() {
		for n := range s.Pieces {
			a, b := make([]byte, s.Len(n)), make([]byte, s.Len(n))
			if err := src.ReadPiece(s.ID, n, a); err != nil {
				t.Fatal(err)
			}
			if err := dst.ReadPiece(s.ID, n, b); err != nil {
				t.Fatal(err)
			}
			if string(a) != string(b) {
				t.Errorf("%s piece %d differs when read back", s.Kind, n)
			}
		}
	}
}

// judge compares two trees that shall be equal, by our own checker and by
// other people's programs.
func judge(t *testing.T, a, b string) {
	t.Helper()
	r := compare.Trees(scanned(t, a), scanned(t, b), lostAndFound())
	for _, d := range r.Differences {
		t.Error(d)
	}
	judgeOutside(t, a, b, nil)
	const all = `%y %m %U %G %T@ %n `
	for what, args := range map[string][]string{
		"find":     {".", "-path", "./lost+found", "-prune", "-o", "-type", "d", "-printf", all + `%P\0`, "-o", "-printf", all + `%s %l %P\0`},
		"getfattr": {"-Rhd", "-m", "-", "-e", "hex", "odd/xattrs", "odd/acls", "odd/special", "odd/modes", "odd/hardlinks"},
		"getcap":   {"-r", "odd/xattrs", "odd/modes"},
		"getfacl":  {"-RPn", "odd/acls", "odd/modes"},
	} {
		if x, y := sorted(command(t, a, what, args...)), sorted(command(t, b, what, args...)); x != y || x == "" {
			t.Errorf("%s (%d bytes) sees differences:\n%s", what, len(x), firstDifference(x, y))
		}
	}
	deep := []string{"odd/deep", "-type", "f", "-execdir", "sha256sum", "{}", "+"}
	if x, y := command(t, a, "find", deep...), command(t, b, "find", deep...); sorted(x) != sorted(y) || !strings.Contains(x, "bottom") {
		t.Errorf("deep files: %q, want %q", y, x)
	}
	if x, y := linkGroups(t, a), linkGroups(t, b); x != y {
		t.Errorf("hard links:\n%s\nwant\n%s", y, x)
	}
}

func sorted(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == 0 })
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func firstDifference(a, b string) string {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return fmt.Sprintf("- %q\n+ %q", x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines, %d lines", len(x), len(y))
}

// linkGroups lists which names are one inode.
func linkGroups(t *testing.T, dir string) string {
	t.Helper()
	by := map[string][]string{}
	for rec := range strings.SplitSeq(command(t, dir, "find", ".", "!", "-type", "d", "-links", "+1", "-printf", `%i %P\0`), "\x00") {
		if ino, name, ok := strings.Cut(rec, " "); ok {
			by[ino] = append(by[ino], name)
		}
	}
	var groups []string
	for _, names := range by {
		slices.Sort(names)
		groups = append(groups, fmt.Sprintf("%q", names))
	}
	slices.Sort(groups)
	if len(groups) == 0 {
		t.Error("no hard links in the tree")
	}
	return strings.Join(groups, "\n")
}
