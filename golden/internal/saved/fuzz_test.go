package saved

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

func example() *Image {
	s := wire.NewStream(0, wire.ImageStream, 300)
	return &Image{About: About{Name: "a", Wire: wire.Version, Streams: []Stream{{s, 2}}}, Refs: []Ref{{wire.Hash{1}, 200, 100}, {wire.Hash{2}, 100, 100}}}
}

// endless makes an image one of a stream that no memory has room for.
func endless(i *Image, kind wire.StreamKind) {
	const n = 257
	i.Refs = slices.Repeat([]Ref{{wire.Hash{1}, MaxPiece, MaxPiece}}, n)
	i.Streams = []Stream{{wire.NewStream(0, kind, n*MaxPiece), n}}
}

// sealed gives what is before a hash its hash.
func sealed(b []byte) []byte {
	sum := blake3.Sum256(b)
	return append(b, sum[:]...)
}

// FuzzManifest: whatever is in the file, it is an image that holds together, or
// an error. What it is of is written again as it was.
func FuzzManifest(f *testing.F) {
	good, err := example().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-hashSize])
	f.Add([]byte(magic))
	f.Add([]byte{})
	huge := append([]byte(magic), 1, 0, 0, 0, 0, 0, 0, 0)
	f.Add(binary.LittleEndian.AppendUint32(huge, 1<<32-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := decode(sealed(bytes.Clone(b)))
		if err != nil {
			return
		}
		n := 0
		for _, s := range i.Streams {
			n += s.Refs
		}
		if n != len(i.Refs) || checkName(i.Name) != nil {
			t.Errorf("%+v", i)
		}
		again, err := i.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(again); err != nil {
			t.Errorf("what was read can't be read again: %v", err)
		}
		(&Store{}).NewSource(i)
	})
}

func TestManifestRefusals(t *testing.T) {
	good, err := example().encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := decode(good); err != nil {
		t.Fatal(err)
	}
	for n := range good { // cut off anywhere, and any bit of any byte wrong
		if _, err := decode(good[:n]); err == nil {
			t.Errorf("cut off at %d it is taken for whole", n)
		}
		b := bytes.Clone(good)
		b[n] ^= 1 << (n % 8)
		if _, err := decode(b); err == nil {
			t.Errorf("byte %d is wrong, and it is taken for right", n)
		}
	}
	for what, c := range map[string]struct {
		change func(i *Image)
		says   string
	}{
		"name":          {func(i *Image) { i.Name = "../a" }, "image name"},
		"sum":           {func(i *Image) { i.Refs[0].Len = 201 }, "300 bytes, its pieces 301"},
		"length":        {func(i *Image) { i.Refs[0].Len = MaxPiece + 1 }, "at most"},
		"nothing":       {func(i *Image) { i.Refs[1].Len, i.Refs[1].Stored = 0, 0 }, "at most"},
		"stored":        {func(i *Image) { i.Refs[0].Stored = 201 }, "at most"},
		"refs":          {func(i *Image) { i.Streams[0].Refs = 3 }, "has 3 pieces, 2 are left"},
		"negative":      {func(i *Image) { i.Streams[0].Refs = -1 }, "-1 pieces"},
		"left":          {func(i *Image) { i.Streams = nil }, "belong to no stream"},
		"twice":         {func(i *Image) { i.Streams = append(i.Streams, i.Streams[0]) }, "comes twice"},
		"piece size":    {func(i *Image) { i.Streams[0].PieceSize = 0 }, "pieces of 0 bytes"},
		"a manifest":    {func(i *Image) { endless(i, wire.ManifestStream) }, "a manifest of 1077936128 bytes, at most 1073741824"},
		"a patch":       {func(i *Image) { endless(i, wire.PatchManifestStream) }, "at most 1073741824"},
		"a block map":   {func(i *Image) { endless(i, wire.BlockMapStream) }, "at most 1073741824"},
		"version":       {func(i *Image) { i.Wire = wire.Version + 1 }, fmt.Sprintf("protocol version %d, this program speaks %d", wire.Version+1, wire.Version)},
		"chain's count": {func(i *Image) { i.Streams[0].Pieces = 2 }, "want 1 for 300 bytes"},
	} {
		i := example()
		c.change(i)
		b, err := i.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decode(b); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", what, err, c.says)
		}
	}
	later := bytes.Replace(good[:len(good)-hashSize], []byte(`{"name"`), []byte(`{"nome"`), 1)
	if _, err := decode(sealed(later)); err == nil || !strings.Contains(err.Error(), "unknown field") {
		t.Errorf("a field of a later program is dropped: %v", err)
	}
	later = bytes.Replace(later, fmt.Appendf(nil, `"wire":%d`, wire.Version), []byte(`"wire":9`), 1)
	if _, err := decode(sealed(later)); err == nil || !strings.Contains(err.Error(), "protocol version 9") {
		t.Errorf("a later program's plan: %v", err)
	}
	binary.LittleEndian.PutUint16(later[8:], 2)
	if _, err := decode(sealed(later)); err == nil || !strings.Contains(err.Error(), "format 2, this program knows 1") {
		t.Error(err)
	}
}
