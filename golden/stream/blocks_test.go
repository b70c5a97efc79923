package stream

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/wire"
)

func TestBlockMap(t *testing.T) {
	for _, m := range []BlockMap{
		{Bytes: 0, How: wire.BlocksNonzero, Extents: []Extent{}},
		{Bytes: 1 << 40, How: wire.BlocksUsed, Extents: []Extent{{0, 4096}, {8192, 512}, {1<<40 - 1, 1}}},
		{Bytes: 100, How: wire.BlocksRaw, Extents: []Extent{{0, 100}}},
		{Bytes: 100, How: wire.BlocksUsed, Extents: []Extent{{7, 93}}},
	} {
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeBlockMap(b)
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		if d := cmp.Diff(m, *got); d != "" {
			t.Error(d)
		}
		for cut := range b {
			if _, err := DecodeBlockMap(b[:cut]); err == nil {
				t.Errorf("%+v: its first %d of %d bytes are taken", m, cut, len(b))
			}
		}
		if _, err := DecodeBlockMap(append(b, 0)); err == nil {
			t.Errorf("%+v: one byte more is taken", m)
		}
	}
}

// hostileMap is a map that no Encode writes.
func hostileMap(numbers ...uint64) []byte {
	b := append([]byte(blockMagic), blockVersion, 0, 'u', 0)
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func TestBlockMapHostile(t *testing.T) {
	const far = 1 << 60
	for name, b := range map[string][]byte{
		"beyond the end":       hostileMap(4096, 1, 4096, 1),
		"over the end":         hostileMap(4096, 1, 4095, 2),
		"very long":            hostileMap(4096, 1, 0, far),
		"very long, large":     hostileMap(far, 2, 0, far, 1, far),
		"around":               hostileMap(4096, 2, 1, 1<<63-1, 1, 1),
		"around by the gap":    hostileMap(4096, 2, 1, 1, 1<<63-1, 1),
		"negative":             hostileMap(4096, 1, 1<<63, 1),
		"empty extent":         hostileMap(4096, 1, 1, 0),
		"touching":             hostileMap(4096, 2, 0, 1, 0, 1),
		"more extents than it": hostileMap(4096, 3, 0, 1, 1, 1),
		"2^60 extents":         hostileMap(far, far, 0, 1),
		"negative size":        hostileMap(1<<63, 0),
		"another version":      append([]byte(blockMagic), 2, 0, 'u', 0, 0, 0),
		"another how":          append([]byte(blockMagic), 1, 0, 'x', 0, 0, 0),
		"another magic":        append([]byte(blockMagic[:7]), 'X', 1, 0, 'u', 0, 0, 0),
	} {
		if m, err := DecodeBlockMap(b); err == nil {
			t.Errorf("%s: is taken: %+v", name, m)
		}
	}
}

func FuzzBlockMap(f *testing.F) {
	f.Add(hostileMap(4096, 1, 0, 4096))
	f.Add(hostileMap(1<<40, 2, 5, 7, 1, 1<<39))
	f.Add(hostileMap(1<<60, 1<<60, 0, 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeBlockMap(b)
		if err != nil {
			return
		}
		var pos int64 = -1
		for _, x := range m.Extents {
			if x.Off <= pos || x.Len <= 0 || x.Off > m.Bytes-x.Len {
				t.Fatalf("%+v in %d bytes, behind %d", x, m.Bytes, pos)
			}
			pos = x.Off + x.Len
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		other, err := DecodeBlockMap(again)
		if err != nil || cmp.Diff(m, other) != "" {
			t.Fatalf("%+v became %+v, %v", m, other, err)
		}
		d := NewBlockData(m)
		buf := make([]byte, min(d.Bytes(), 1<<16))
		sum := 0
		err = d.Each(d.Bytes()-int64(len(buf)), buf, func(part []byte, at int64) error {
			if at < 0 || at+int64(len(part)) > m.Bytes {
				t.Fatalf("%d bytes at %d of %d", len(part), at, m.Bytes)
			}
			sum += len(part)
			return nil
		})
		if err != nil || sum != len(buf) {
			t.Fatalf("%d of %d bytes, %v", sum, len(buf), err)
		}
	})
}

func TestBlockMapJoin(t *testing.T) {
	m := BlockMap{Bytes: 1000, Extents: []Extent{{500, 10}, {-5, 10}, {20, 30}, {40, 5}, {52, 1}, {990, 1 << 40}, {2000, 1}, {300, 0}}}
	m.Join(4)
	if d := cmp.Diff([]Extent{{0, 5}, {20, 33}, {500, 10}, {990, 10}}, m.Extents); d != "" {
		t.Error(d)
	}
	// More than a node takes: the nearest become one.
	m = BlockMap{Bytes: 1 << 50, How: wire.BlocksUsed}
	for i := range int64(MaxExtents + 1000) {
		m.Extents = append(m.Extents, Extent{i * 100_000, 4096})
	}
	m.Join(4096)
	if n := len(m.Extents); n > MaxExtents || m.Data() < (MaxExtents+1000)*4096 {
		t.Errorf("%d extents, %d bytes", n, m.Data())
	}
	if _, err := m.Encode(); err != nil {
		t.Error(err)
	}
}

// image is a file of noise.
func image(t *testing.T, size int) (string, []byte) {
	t.Helper()
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(size)})
	r.Read(b)
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return name, b
}

// Every piece gives the extents' bytes, in any order and again.
func TestBlocksPieces(t *testing.T) {
	name, content := image(t, 3<<20+17)
	m := BlockMap{Bytes: int64(len(content)), How: wire.BlocksUsed}
	var want []byte
	for off := int64(0); off < m.Bytes; off += 70_001 {
		n := min(1+off%40_000, m.Bytes-off)
		m.Extents = append(m.Extents, Extent{off, n})
		want = append(want, content[off:off+n]...)
	}
	b, err := OpenBlocks(3, name, "sda4", m)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	s := b.Streams()
	if id, data := BlockIDs(3); s[0].ID != id || s[1].ID != data || s[0].Name != "sda4" || s[1].Bytes != int64(len(want)) {
		t.Fatalf("streams %+v, want %d bytes", s, len(want))
	}
	for range 2 {
		for p := s[1].Pieces; p > 0; p-- {
			buf := make([]byte, s[1].Len(p-1))
			if err := b.ReadPiece(s[1].ID, p-1, buf); err != nil {
				t.Fatal(err)
			}
			off := int64(p-1) * int64(s[1].PieceSize)
			if !bytes.Equal(buf, want[off:off+int64(len(buf))]) {
				t.Fatalf("piece %d differs", p-1)
			}
		}
	}
	buf := make([]byte, s[0].Len(0))
	if err := b.ReadPiece(s[0].ID, 0, buf); err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBlockMap(buf)
	if err != nil || cmp.Diff(&m, got) != "" {
		t.Errorf("%+v, %v", got, err)
	}
	if err := b.ReadPiece(1, 0, buf); err == nil {
		t.Error("reads a stream that it hasn't")
	}
	if torn := b.Torn(); len(torn) > 0 {
		t.Error(torn)
	}
}

// A source that is written to, or that shrinks, is noticed; its digest is the
// same as long as it isn't.
func TestBlocksChange(t *testing.T) {
	name, content := image(t, 1<<20)
	m := BlockMap{Bytes: int64(len(content)), How: wire.BlocksRaw, Extents: []Extent{{0, int64(len(content))}}}
	open := func() *Blocks {
		t.Helper()
		b, err := OpenBlocks(0, name, "sda1", m)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { b.Close() })
		return b
	}
	a, b := open(), open()
	if a.Digest() != b.Digest() {
		t.Error("nothing has changed, but the digest")
	}
	// A time that no write within the clock's grain could give it.
	if err := os.Chtimes(name, time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if c := open(); c.Digest() == a.Digest() {
		t.Error("the digest is that of before the change")
	}
	if torn := a.Torn(); len(torn) != 1 || !strings.Contains(torn[0], "was written to") {
		t.Errorf("torn %q", torn)
	}
	w, err := NewWhole(nil, []*Blocks{a})
	if err != nil {
		t.Fatal(err)
	}
	_, id := BlockIDs(0)
	if _, err := w.Settle(context.Background(), []wire.Range{{Stream: id, From: 0, To: 1}}); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("void blocks: %v", err)
	}
	if more, err := w.Settle(context.Background(), nil); err != nil || len(more) > 0 {
		t.Errorf("settled: %v, %v", more, err)
	}
	if err := os.Truncate(name, 100); err != nil {
		t.Fatal(err)
	}
	if err := a.ReadPiece(id, 0, make([]byte, a.Streams()[1].Len(0))); err == nil {
		t.Error("reads what isn't there any more")
	}
	if _, err := OpenBlocks(0, name, "sda1", m); err == nil {
		t.Error("opens what the map isn't of")
	}
}

// The streams of a whole are the tree's and the blocks', what the rest is known
// by first, and patches come last.
func TestWhole(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/a", bytes.Repeat([]byte("a"), 1000), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := Scan(context.Background(), ScanOptions{Root: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	var blocks []*Blocks
	for n := range 2 {
		name, content := image(t, 1<<20+n)
		b, err := OpenBlocks(n, name, "sda"+string(rune('5'+n)), BlockMap{Bytes: int64(len(content)), How: wire.BlocksRaw, Extents: []Extent{{0, int64(len(content))}}})
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	w, err := NewWhole(tree, blocks)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	kinds := func() (out []string) {
		for _, s := range w.Streams() {
			out = append(out, string(s.Kind)+s.Name)
			for p := range s.Pieces {
				if err := w.ReadPiece(s.ID, p, make([]byte, s.Len(p))); err != nil {
					t.Error(err)
				}
			}
		}
		return out
	}
	first := []string{"manifest", "block-mapsda5", "block-mapsda6", "contents", "blockssda5", "blockssda6"}
	if d := cmp.Diff(first, kinds()); d != "" {
		t.Error(d)
	}
	before := w.Digest()
	if err := os.WriteFile(dir+"/a", bytes.Repeat([]byte("b"), 2000), 0o600); err != nil {
		t.Fatal(err)
	}
	more, err := w.Settle(context.Background(), nil)
	if err != nil || len(more) != 2 {
		t.Fatalf("%v, %v", more, err)
	}
	if d := cmp.Diff(append(first, "patch-manifest", "patch-contents"), kinds()); d != "" {
		t.Error(d)
	}
	if w.Digest() != before || len(w.Torn()) > 0 {
		t.Errorf("digest %s, was %s; torn %q", w.Digest(), before, w.Torn())
	}
	if _, err := NewWhole(tree, blocks[1:]); err == nil {
		t.Error("takes blocks that aren't the first")
	}
}
