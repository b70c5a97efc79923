package chain

import (
	"os"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// program is a piece of this test's own code: what a root file system is made of.
func program(b testing.TB) []byte {
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil || len(data) < wire.PieceSize {
		b.Fatalf("read %s: %d bytes, %v", self, len(data), err)
	}
	return data[:wire.PieceSize]
}

func sealed(s *sealer, data []byte) *frame { return s.seal(0, 0, data, blake3.Sum256(data), true) }

func BenchmarkSeal(b *testing.B) {
	s, err := newSealer(CompressAuto, &buffers{})
	if err != nil {
		b.Fatal(err)
	}
	data := program(b)
	b.SetBytes(wire.PieceSize)
	for b.Loop() {
		f := sealed(s, data)
		b.ReportMetric(float64(f.Stored)/float64(f.True), "stored/true")
		f.drop()
	}
}

func BenchmarkOpen(b *testing.B) {
	pool := &buffers{}
	s, err := newSealer(CompressAuto, pool)
	if err != nil {
		b.Fatal(err)
	}
	o, err := newOpener()
	if err != nil {
		b.Fatal(err)
	}
	defer o.close()
	f := sealed(s, program(b))
	room := make([]byte, wire.PieceSize)
	b.SetBytes(wire.PieceSize)
	for b.Loop() {
		if _, err := o.open(f, room); err != nil {
			b.Fatal(err)
		}
	}
}
