package saved

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// benchTree is the tree that SAVED_BENCH names, or a made one.
func benchTree(b *testing.B) *stream.Tree {
	b.Helper()
	dir := os.Getenv("SAVED_BENCH")
	if dir == "" {
		dir = b.TempDir()
		for i := range 60 {
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), text(uint64(i), 1<<20), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	tree, err := stream.Scan(b.Context(), stream.ScanOptions{Root: dir})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { tree.Close() })
	b.SetBytes(tree.Streams()[0].Bytes + tree.Streams()[1].Bytes)
	return tree
}

func benchStore(b *testing.B) *Store {
	b.Helper()
	s, err := Create(filepath.Join(b.TempDir(), "images"))
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// BenchmarkSave saves into an empty store, and again into the same.
func BenchmarkSave(b *testing.B) {
	tree := benchTree(b)
	for level := range 5 {
		b.Run(fmt.Sprintf("level=%d", level), func(b *testing.B) {
			b.SetBytes(tree.Streams()[1].Bytes)
			for b.Loop() {
				s := benchStore(b)
				_, f, err := s.Save(b.Context(), tree, About{Name: "a", Wire: wire.Version}, Options{Level: level}, func(*About) error { return nil })
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(f.Written)/float64(f.Read), "stored/byte")
				b.ReportMetric(float64(f.Added), "pieces")
				if err := os.RemoveAll(s.dir); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.Run("again", func(b *testing.B) {
		b.SetBytes(tree.Streams()[1].Bytes)
		s := benchStore(b)
		if _, _, err := s.Save(b.Context(), tree, About{Name: "a", Wire: wire.Version}, Options{Level: 1}, func(*About) error { return nil }); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if _, _, err := s.Save(b.Context(), tree, About{Name: "a", Wire: wire.Version}, Options{Level: 1}, func(*About) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRead reads all pieces as the chain does, from the tree and from its
// image.
func BenchmarkRead(b *testing.B) {
	tree := benchTree(b)
	s := benchStore(b)
	i, _, err := s.Save(b.Context(), tree, About{Name: "a", Wire: wire.Version}, Options{Level: 2}, func(*About) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	for name, src := range map[string]interface {
		ReadPiece(uint16, uint32, []byte) error
	}{"tree": tree, "image": s.NewSource(i)} {
		b.Run(name, func(b *testing.B) {
			st := tree.Streams()[1]
			b.SetBytes(st.Bytes)
			buf := make([]byte, st.PieceSize)
			for b.Loop() {
				for p := range st.Pieces {
					if err := src.ReadPiece(st.ID, p, buf[:st.Len(p)]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
	b.Run("look", func(b *testing.B) {
		for b.Loop() {
			if err := s.Look(i); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("check", func(b *testing.B) {
		b.SetBytes(tree.Streams()[1].Bytes)
		for b.Loop() {
			if r, err := s.Check(b.Context(), "", nil); err != nil || !r.Whole() {
				b.Fatal(r, err)
			}
		}
	})
}
