package saved

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// text is bytes that zstd can halve, from a seed.
func text(seed uint64, n int) []byte {
	return []byte(hex.EncodeToString(noise(seed, n/2)))
}

// noise is bytes that nothing makes smaller.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

// folder is a tree of files, several to a piece and several pieces to a file.
func folder(t *testing.T) string {
	t.Helper()
	dir := inMemory(t)
	put(t, dir, "large", noise(1, 3<<20))
	for i := range 40 {
		put(t, dir, fmt.Sprintf("d%d/f%d", i%5, i), text(uint64(i), 100<<10))
	}
	put(t, dir, "zeros", make([]byte, 6<<20))
	return dir
}

func put(t *testing.T, dir, name string, b []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, b, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func scan(t *testing.T, dir string) *stream.Tree {
	t.Helper()
	tree, err := stream.Scan(t.Context(), stream.ScanOptions{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// inMemory is a folder that is synced at once: on a disk that would wait for
// whatever others write there.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "kamethod-saved-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func store(t *testing.T) *Store {
	t.Helper()
	s, err := Create(filepath.Join(inMemory(t), "images"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func save(t *testing.T, s *Store, name string, src chain.Source) (*Image, Figures) {
	t.Helper()
	i, f, err := s.Save(t.Context(), src, About{Name: name, Wire: wire.Version}, Options{Level: 1}, func(*About) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	return i, f
}

// wantSame compares all pieces of two sources.
func wantSame(t *testing.T, got, want chain.Source) {
	t.Helper()
	if g, w := fmt.Sprint(got.Streams()), fmt.Sprint(want.Streams()); g != w {
		t.Fatalf("streams %s, want %s", g, w)
	}
	for _, s := range want.Streams() {
		for p := range s.Pieces {
			a, b := make([]byte, s.Len(p)), make([]byte, s.Len(p))
			if err := errors.Join(got.ReadPiece(s.ID, p, a), want.ReadPiece(s.ID, p, b)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(a, b) {
				t.Fatalf("piece %d of %s is another one", p, s.Kind)
			}
		}
	}
}

func load(t *testing.T, s *Store, name string) *Image {
	t.Helper()
	i, err := s.Load(name)
	if err == nil {
		err = s.Look(i)
	}
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func check(t *testing.T, s *Store, name string) *Report {
	t.Helper()
	r, err := s.Check(t.Context(), name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoundTrip(t *testing.T) {
	s, tree := store(t), scan(t, folder(t))
	_, f := save(t, s, "a", tree)
	if f.Added == 0 || f.Added >= f.Pieces || f.Written > f.Read*2/3 || f.Read != f.Total {
		t.Errorf("nothing was found twice, or packed: %+v", f)
	}
	wantSame(t, s.NewSource(load(t, s, "a")), tree)
	if r := check(t, s, ""); !r.Whole() || r.Pieces != int(f.Added) || r.Bytes != f.Written || r.Unused != 0 {
		t.Errorf("%+v", r)
	}
	err := filepath.WalkDir(s.dir, func(path string, e fs.DirEntry, err error) error {
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
	if list, err := os.ReadDir(filepath.Join(s.dir, tmpDir)); err != nil || len(list) > 0 {
		t.Errorf("left over: %v %v", list, err)
	}
}

// What was saved already isn't written again, though a file before it grows.
func TestOnlyWhatIsNewIsWritten(t *testing.T) {
	s, dir := store(t), folder(t)
	_, first := save(t, s, "a", scan(t, dir))
	if _, again := save(t, s, "a", scan(t, dir)); again.Added != 0 || again.Written != 0 {
		t.Errorf("the same once more: %+v", again)
	}
	put(t, dir, "d0/f0", text(99, 101<<10)) // of another length: all behind it moves
	tree := scan(t, dir)
	_, f := save(t, s, "b", tree)
	if f.Added == 0 || f.Added > 5 || f.Written*2 > first.Written {
		t.Errorf("one file of 42 has changed: %+v, of %+v", f, first)
	}
	wantSame(t, s.NewSource(load(t, s, "b")), tree)
	if names, err := s.Names(); err != nil || fmt.Sprint(names) != "[a b]" {
		t.Error(names, err)
	}
	if _, err := s.Choose(""); err == nil || !strings.Contains(err.Error(), "2 images: name one: a, b") {
		t.Error(err)
	}
	if _, err := s.Choose("c"); err == nil || !strings.Contains(err.Error(), `no image "c"`) {
		t.Error(err)
	}
	if r := check(t, s, ""); !r.Whole() || len(r.Images) != 2 {
		t.Errorf("%+v", r)
	}
}

// A patch of what has changed while it was saved is a part of the image.
func TestWhatChangesMeanwhile(t *testing.T) {
	s, dir := store(t), folder(t)
	tree := scan(t, dir)
	put(t, dir, "d1/f1", text(1000, 200<<10)) // after the scan
	i, _ := save(t, s, "a", tree)
	if len(i.Streams) != 4 || i.Streams[2].Kind != wire.PatchManifestStream || i.Streams[3].Bytes != 200<<10 {
		t.Fatalf("no patch: %+v", i.Streams)
	}
	got := make([]byte, 200<<10)
	if err := s.NewSource(load(t, s, "a")).ReadPiece(3, 0, got); err != nil || !bytes.Equal(got, text(1000, 200<<10)) {
		t.Error("the patch is another one", err)
	}
	if r := check(t, s, "a"); !r.Whole() {
		t.Errorf("%+v", r)
	}
}

// pieces are the files of pieces, and which of them holds the bytes.
func pieceOf(t *testing.T, s *Store, i *Image, st int, off int64) string {
	t.Helper()
	x := s.NewSource(i)
	for n := x.first[st]; n < x.first[st]+i.Streams[st].Refs; n++ {
		if r := i.Refs[n]; x.starts[n] <= off && off < x.starts[n]+int64(r.Len) {
			path := s.piecePath(r.Hash)
			if r.Stored < r.Len {
				path += zstdExt
			}
			return path
		}
	}
	t.Fatal("no such piece")
	return ""
}

func flip(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		b[len(b)/2] ^= 1
		err = os.WriteFile(path, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever happens to a piece is seen: at the start what a look tells, the rest
// when it is read; a check names the files, and the next save mends it.
func TestBrokenPieces(t *testing.T) {
	dir := folder(t)
	for name, c := range map[string]struct {
		stream int
		do     func(path string) error
		look   string // what is seen at the start; empty: nothing
		says   string
		files  string
	}{
		"gone":            {1, os.Remove, "missing", "missing", "/d0/f0"},
		"cut off":         {1, func(p string) error { return os.Truncate(p, 100) }, "piece", "piece", "/d0/f0"},
		"empty":           {1, func(p string) error { return os.Truncate(p, 0) }, "0 bytes", "0 bytes", "/d0/f0"},
		"a bit":           {1, func(p string) error { flip(t, p); return nil }, "", "", "/d0/f0"},
		"the manifest's":  {0, func(p string) error { flip(t, p); return nil }, "", "", "all files: the list of them is broken"},
		"another's":       {1, func(p string) error { return os.WriteFile(p, noise(7, 4000), 0o600) }, "", "", "/d0/f0"},
		"endless":         {1, func(p string) error { return os.Truncate(p, 1<<40) }, "1099511627776 bytes", "1099511627776 bytes", "/d0/f0"},
		"not even a file": {1, func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "its file has", "", "/d0/f0"},
	} {
		t.Run(name, func(t *testing.T) {
			s, tree := store(t), scan(t, dir)
			i, _ := save(t, s, "a", tree)
			var off int64
			if c.stream == 1 { // where the file's data is
				m, err := stream.Decode(manifest(t, tree))
				if err != nil {
					t.Fatal(err)
				}
				for k := range m.Entries {
					if m.Path(int32(k)) == "d0/f0" {
						off = m.Entries[k].DataOff + 50<<10
					}
				}
			}
			path := pieceOf(t, s, i, c.stream, off)
			if err := c.do(path); err != nil {
				t.Fatal(err)
			}
			err := s.Look(i)
			if c.look == "" && name != "another's" && err != nil || c.look != "" && (err == nil || !strings.Contains(err.Error(), c.look)) {
				t.Errorf("at a look: %v", err)
			}
			r := check(t, s, "")
			if r.Whole() || len(r.Broken) != 1 || !strings.Contains(r.Broken[0], c.says) || !strings.Contains(r.Broken[0], filepath.Base(path)[:64]) {
				t.Errorf("%+v", r)
			}
			if got := strings.Join(r.Images[0].Affected, "\n"); !strings.Contains(got, c.files) {
				t.Errorf("affected: %s", got)
			}
			buf := make([]byte, i.Streams[c.stream].Len(uint32(off/int64(i.Streams[c.stream].PieceSize))))
			err = s.NewSource(i).ReadPiece(uint16(c.stream), uint32(off/int64(i.Streams[c.stream].PieceSize)), buf)
			var b *BrokenPiece
			if !errors.As(err, &b) || !strings.Contains(err.Error(), "golden-serve check") {
				t.Errorf("read: %v", err)
			}
			if st, err := os.Lstat(path); err == nil && st.IsDir() {
				return // nobody mends that
			}
			if _, f := save(t, s, "b", tree); f.Added+f.Mended != 1 {
				t.Errorf("it isn't mended: %+v", f)
			}
			if r := check(t, s, ""); !r.Whole() {
				t.Errorf("%+v", r)
			}
			wantSame(t, s.NewSource(load(t, s, "a")), tree)
		})
	}
}

func manifest(t *testing.T, src chain.Source) []byte {
	t.Helper()
	var all []byte
	s := src.Streams()[0]
	for p := range s.Pieces {
		b := make([]byte, s.Len(p))
		if err := src.ReadPiece(s.ID, p, b); err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return all
}

// A piece that a later save packs another way is still the same one.
func TestPackedAnotherWay(t *testing.T) {
	s, dir := store(t), folder(t)
	tree := scan(t, dir)
	i, _ := save(t, s, "a", tree)
	path := pieceOf(t, s, i, 1, 4<<20)
	if !strings.HasSuffix(path, zstdExt) {
		t.Fatal("want a packed piece")
	}
	flip(t, path)
	_, f, err := s.Save(t.Context(), tree, About{Name: "b", Wire: wire.Version}, Options{Level: NoPack}, func(*About) error { return nil })
	if err != nil || f.Mended != 1 {
		t.Fatalf("%+v, %v", f, err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the broken one is still there", err)
	}
	load(t, s, "a") // which has it with another size
	if r := check(t, s, ""); !r.Whole() {
		t.Errorf("%+v", r)
	}
	wantSame(t, s.NewSource(load(t, s, "a")), tree)
}

// interrupter ends the context after so many pieces of the chain.
type interrupter struct {
	chain.Source
	left   atomic.Int32
	cancel context.CancelFunc
}

func (i *interrupter) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	if i.left.Add(-1) == 0 {
		i.cancel()
	}
	return i.Source.ReadPiece(stream, piece, buf)
}

// A save that was interrupted is no image, an older one of the name is what it
// was, and the next save uses what is there.
func TestInterrupted(t *testing.T) {
	s, dir := store(t), folder(t)
	old := scan(t, folder(t))
	save(t, s, "old", old)
	put(t, dir, "large", noise(5, 8<<20))
	tree := scan(t, dir)
	for name, left := range map[string]int32{"old": 20, "new": 30} {
		ctx, cancel := context.WithCancel(t.Context())
		src := &interrupter{Source: tree, cancel: cancel}
		src.left.Store(left)
		_, _, err := s.Save(ctx, src, About{Name: name, Wire: wire.Version}, Options{Level: 1}, func(*About) error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if names, err := s.Names(); err != nil || fmt.Sprint(names) != "[old]" {
		t.Error(names, err)
	}
	wantSame(t, s.NewSource(load(t, s, "old")), old)
	r := check(t, s, "")
	if !r.Whole() || r.Unused == 0 {
		t.Errorf("%+v", r)
	}
	_, f := save(t, s, "new", tree)
	if f.Mended != 0 || f.Added > f.Pieces-int64(r.Unused) {
		t.Errorf("nothing of it was used: %+v, %d were there", f, r.Unused)
	}
	wantSame(t, s.NewSource(load(t, s, "new")), tree)
}

// What could not be read once is read again.
func TestReadAgain(t *testing.T) {
	s, tree := store(t), scan(t, folder(t))
	i, _ := save(t, s, "a", tree)
	path := pieceOf(t, s, i, 1, 0)
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	src := s.NewSource(i)
	buf := make([]byte, i.Streams[1].Len(0))
	var broken *BrokenPiece
	for range 2 {
		if err := src.ReadPiece(1, 0, buf); !errors.As(err, &broken) {
			t.Fatalf("a piece that isn't there: %v", err)
		}
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	wantSame(t, src, tree)
	sum := 0
	for _, u := range src.cache {
		sum += u.size
	}
	if sum != src.size {
		t.Errorf("%d bytes are cached, counted %d", sum, src.size)
	}
}

func TestOneSaveAtATime(t *testing.T) {
	s, tree := store(t), scan(t, folder(t))
	l, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = s.Save(t.Context(), tree, About{Name: "a", Wire: wire.Version}, Options{}, func(*About) error { return nil })
	if err == nil || !strings.Contains(err.Error(), "another golden-serve is saving there") {
		t.Error(err)
	}
	l.Close()
	save(t, s, "a", tree)
}

func TestFolders(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "holds no saved images") {
		t.Error(err)
	}
	if _, err := Open(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	put(t, dir, "letter.txt", []byte("dear"))
	if _, err := Create(dir); err == nil || !strings.Contains(err.Error(), "not empty, and has letter.txt") {
		t.Error(err)
	}
	s := store(t)
	if _, err := s.Choose(""); err == nil || !strings.Contains(err.Error(), "holds no whole image") {
		t.Error(err)
	}
	put(t, s.dir, markFile, []byte("kamethod images, format 2\n"))
	if _, err := Create(s.dir); err == nil || !strings.Contains(err.Error(), "this program knows") {
		t.Error(err)
	}
	for _, name := range []string{"", ".", "..", "a/b", "../a", "-n", "a b", "a\n", strings.Repeat("a", 65)} {
		if checkName(name) == nil {
			t.Errorf("%q is taken for a name", name)
		}
	}
}

// A manifest that is damaged or cut off is no image; its neighbours are.
func TestBrokenManifest(t *testing.T) {
	s, tree := store(t), scan(t, folder(t))
	save(t, s, "a", tree)
	save(t, s, "b", tree)
	path := s.imagePath("b")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, headerSize, len(whole) / 2, len(whole) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Load("b"); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("cut off at %d: %v", n, err)
		}
	}
	r := check(t, s, "")
	if r.Whole() || len(r.Broken) > 0 || r.Images[0].Error != "" || r.Images[1].Error == "" {
		t.Errorf("%+v", r)
	}
	if err := os.Rename(s.imagePath("a"), path); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("b"); err == nil || !strings.Contains(err.Error(), "is of an image called a") {
		t.Error(err)
	}
	if err := os.Truncate(path, 1<<40); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load("b"); err == nil || !strings.Contains(err.Error(), "at most") {
		t.Errorf("a file without end: %v", err)
	}
}
