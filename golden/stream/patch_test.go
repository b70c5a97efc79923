package stream

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// base is what patches are made to in tests: files 1, 3 and 4.
func patchBase(t testing.TB) []Entry {
	m, err := Decode(encode(t, rootEntry, group{0, []Entry{
		{Type: File, Name: "a", Dense: true, Size: 9}, {Type: Dir, Name: "b"}, {Type: File, Name: "c", Dense: true},
		{Type: File, Name: "d", Dense: true}, {Type: HardLink, Name: "e", Target: 1}, {Type: Symlink, Name: "l", Link: "/"}}}))
	if err != nil {
		t.Fatal(err)
	}
	return m.Entries
}

func patchSample() *Patch {
	file := func(e Entry) Entry { e.Type, e.Parent, e.Target = File, -1, -1; return e }
	return &Patch{Contents: 4105, Files: []Patched{
		{Base: 1, Part: true, File: file(Entry{Size: 9, Sparse: &Layout{Data: []Extent{{1, 2}, {6, 3}}}})},
		{Base: 3, File: file(Entry{Dense: true, Size: 4, DataOff: 5, Mode: 0o4755, Sec: -5, Nsec: 7, Xattrs: &XattrSet{[]Xattr{{"user.x", "y"}}}})},
		{Base: 4, File: file(Entry{Size: 1 << 30, DataOff: 9, Sparse: &Layout{Data: []Extent{{8192, 4096}}, Unwritten: []Extent{{0, 4096}}}})},
	}}
}

func encodePatch(t testing.TB, p *Patch) []byte {
	t.Helper()
	b, err := p.encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPatchRoundTrip(t *testing.T) {
	b := encodePatch(t, patchSample())
	p, err := DecodePatch(b, patchBase(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(patchSample(), p, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if segs, err := p.Segments(); err != nil || !slices.Equal(segs, []Segment{{0, 1, 2, 0}, {2, 6, 3, 0}, {5, 0, 4, 1}, {9, 8192, 4096, 2}}) {
		t.Errorf("%v, %v", segs, err)
	}
	for n := range b {
		if _, err := DecodePatch(b[:n], patchBase(t)); err == nil {
			t.Errorf("cut at %d: accepted", n)
		}
		for bit := range 8 {
			c := bytes.Clone(b)
			c[n] ^= 1 << bit
			if p, err := DecodePatch(c, patchBase(t)); err == nil {
				p.Segments()
			}
		}
	}
	if _, err := DecodePatch(append(bytes.Clone(b), 0), patchBase(t)); err == nil {
		t.Error("a byte after the end: accepted")
	}
}

func TestPatchHostile(t *testing.T) {
	file := func(base int32, e Entry) Patched { e.Type = File; return Patched{Base: base, File: e} }
	for want, files := range map[string][]Patched{
		"entry 7 of 7":       {{Base: 7, Removed: true}},
		"entry 2147483647":   {{Base: 1<<31 - 1, Removed: true}},
		"type 'd'":           {file(2, Entry{Dense: true})},
		"is of type 'h'":     {file(5, Entry{Dense: true})},
		"is of type 'l'":     {file(6, Entry{Dense: true})},
		"entry 0 is of type": {{Base: 0, Removed: true}},
		"entry 3 after":      {{Base: 4, Removed: true}, {Base: 3, Removed: true}},
		"entry 4 after":      {{Base: 4, Removed: true}, {Base: 4, Removed: true}},
		"size":               {file(1, Entry{Dense: true, Size: 1<<61 + 1})},
		"contents offset":    {file(1, Entry{Dense: true, Size: 1 << 61}), file(3, Entry{Dense: true, Size: 1 << 61, DataOff: 1 << 61})},
		"extent 0":           {file(1, Entry{Size: 5, Sparse: &Layout{Data: []Extent{{4, 4}}}})},
		"4 bytes at 6":       {{Base: 1, Part: true, File: Entry{Type: File, Sparse: &Layout{Data: []Extent{{6, 4}}}}}},
		"without ranges":     {{Base: 1, Part: true}},
		"mode":               {file(1, Entry{Dense: true, Mode: 0o10000})},
		"the end says 0":     {},
	} {
		_, err := DecodePatch(encodePatch(t, &Patch{Files: files}), patchBase(t))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "at offset") {
			t.Errorf("got %v, want an error with %q and the offset", err, want)
		}
	}
	p, err := DecodePatch(encodePatch(t, &Patch{Files: []Patched{file(1, Entry{Dense: true, Size: 5}), file(3, Entry{Dense: true, Size: 5, DataOff: 3})}}), patchBase(t))
	if err == nil {
		_, err = p.Segments()
	}
	if err == nil {
		t.Error("contents overlap: accepted")
	}
	head := []byte(patchMagic + "\x01\x00\x00\x00")
	for _, tail := range [][]byte{
		{0}, binary.AppendUvarint(nil, 1<<31-1), {2, 'G', 0}, {3, 'x', 1, 0}, bytes.Repeat([]byte{0xff}, 11), {3, 'r', 1, 0},
	} {
		if _, err := DecodePatch(append(bytes.Clone(head), tail...), patchBase(t)); err == nil {
			t.Errorf("%x: accepted", tail)
		}
	}
	if _, err := DecodePatch([]byte(patchMagic+"\x03\x00\x00\x00"), nil); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("version 3: %v", err)
	}
}

// FuzzDecodePatch: what is accepted names files only, in order, and is the
// same when it is written once more.
func FuzzDecodePatch(f *testing.F) {
	f.Add(encodePatch(f, patchSample()))
	f.Add(encodePatch(f, &Patch{Files: []Patched{{Base: 3, Removed: true}}}))
	f.Add(encodePatch(f, &Patch{Files: []Patched{{Base: 6, Removed: true}}}))
	f.Add([]byte(patchMagic + "\x01\x00\x00\x00\x03E\x00\x00"))
	base := patchBase(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := DecodePatch(b, base)
		if err != nil {
			return
		}
		last := int32(0)
		for _, x := range p.Files {
			if x.Base <= last || int(x.Base) >= len(base) || base[x.Base].Type != File {
				t.Fatalf("entry %d after %d", x.Base, last)
			}
			last = x.Base
			for _, d := range x.File.Data() {
				if d.Off < 0 || d.Len <= 0 || d.Off+d.Len > x.File.Size {
					t.Fatalf("extent %v of %d", d, x.File.Size)
				}
			}
		}
		again, err := DecodePatch(encodePatch(t, p), base)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(p, again, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if segs, err := p.Segments(); err == nil {
			var sum int64
			for _, s := range segs {
				sum += s.Len
			}
			if sum != p.Contents {
				t.Fatalf("segments hold %d bytes of %d", sum, p.Contents)
			}
		}
	})
}
