package stream

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// group is a directory's children, as they are written.
type group struct {
	dir      int
	children []Entry
}

func encode(t testing.TB, root Entry, groups ...group) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := NewEncoder(&out)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(enc.Entry(&root))
	for _, g := range groups {
		check(enc.Group(g.dir))
		for i := range g.children {
			check(enc.Entry(&g.children[i]))
		}
	}
	check(enc.Close())
	return out.Bytes()
}

var rootEntry = Entry{Type: Dir, Mode: 0o755, Parent: -1, Target: -1}

// sample has one of each.
func sample() []group {
	acl := &XattrSet{Attrs: []Xattr{{"system.posix_acl_access", "\x02\x00"}, {"user.empty", ""}}}
	return []group{
		{0, []Entry{
			{Type: Block, Name: "b", Mode: 0o600, Major: 259, Minor: 1<<20 - 1},
			{Type: Char, Name: "c", Mode: 0o666, Major: 1, Minor: 3},
			{Type: Dir, Name: "d", Mode: 0o1777, Sec: -47000000, Nsec: 999999999, Xattrs: acl, Flags: 0x10},
			{Type: File, Name: "e", Dense: true},
			{Type: File, Name: "f", Dense: true, Mode: 0o4755, UID: 4000000000, GID: 1<<32 - 1, Size: 5, Sec: 1 << 40, Xattrs: acl, DataOff: 8192},
			{Type: HardLink, Name: "h", Target: 5},
			{Type: Symlink, Name: "l", Mode: 0o777, Link: "../x"},
			{Type: Fifo, Name: "p"},
			{Type: Socket, Name: "s"},
		}},
		{3, []Entry{
			{Type: File, Name: "\xff\n", Size: 1 << 30, DataOff: 0, Sparse: &Layout{
				Data:      []Extent{{0, 4096}, {1 << 20, 4096}},
				Unwritten: []Extent{{8192, 4096}},
			}},
		}},
	}
}

func TestManifestRoundTrip(t *testing.T) {
	b := encode(t, rootEntry, sample()...)
	m, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	want := []Entry{rootEntry}
	for _, g := range sample() {
		for _, e := range g.children {
			e.Parent = int32(g.dir)
			if e.Type != HardLink {
				e.Target = -1
			}
			want = append(want, e)
		}
	}
	if d := cmp.Diff(want, m.Entries, cmpopts.EquateEmpty()); d != "" {
		t.Error(d)
	}
	if m.Contents != 8197 || m.Path(10) != "d/\xff\n" {
		t.Errorf("contents %d, path %q", m.Contents, m.Path(10))
	}
	segs, err := m.Segments()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]Segment{{0, 0, 4096, 10}, {4096, 1 << 20, 4096, 10}, {8192, 0, 5, 5}}, segs); d != "" {
		t.Error(d)
	}
	for off, n := range map[int64]int{0: 0, 4095: 0, 4096: 1, 8192: 2, 8196: 2, 8197: 3} {
		if i := FindSegment(segs, off); i != n {
			t.Errorf("segment of %d is %d, want %d", off, i, n)
		}
	}
	if m.Encoded() != string(b) {
		t.Error("Encoded is not what was decoded")
	}
}

// TestManifestTruncated cuts a manifest at every byte and flips every byte: an
// error, or at least no panic.
func TestManifestTruncated(t *testing.T) {
	b := encode(t, rootEntry, sample()...)
	for n := range b {
		_, err := Decode(b[:n])
		if err == nil {
			t.Fatalf("cut at %d of %d: accepted", n, len(b))
		}
		if n >= 12 && !strings.Contains(err.Error(), "at offset") {
			t.Errorf("cut at %d: %v names no offset", n, err)
		}
		for bit := range 8 {
			c := bytes.Clone(b)
			c[n] ^= 1 << bit
			if m, err := Decode(c); err == nil {
				m.Segments()
			}
		}
	}
	if _, err := Decode(append(bytes.Clone(b), 0)); err == nil {
		t.Error("a byte after the end: accepted")
	}
}

func TestManifestHostile(t *testing.T) {
	file := func(name string) Entry { return Entry{Type: File, Name: name, Dense: true} }
	sparse := func(size int64, xs ...Extent) Entry {
		return Entry{Type: File, Name: "f", Size: size, Sparse: &Layout{Data: xs}}
	}
	in := func(es ...Entry) []group { return []group{{0, es}} }
	dir := Entry{Type: Dir, Name: "d"}
	for _, c := range []struct {
		name   string
		groups []group
		want   string
	}{
		{"dot-dot", in(file("..")), `name ".."`},
		{"dot", in(file(".")), `name "."`},
		{"slash", in(file("a/../../b")), "slash"},
		{"absolute", in(file("/etc/passwd")), "slash"},
		{"NUL", in(file("a\x00b")), "NUL"},
		{"empty", in(file("")), "empty name"},
		{"long", in(file(strings.Repeat("n", 256))), "length of name 256"},
		{"twice", in(file("a"), file("a")), "twice"},
		{"order", in(file("b"), file("a")), "after"},
		{"group twice", []group{{0, []Entry{dir}}, {0, []Entry{file("x")}}}, "twice"},
		{"child of a link", []group{{0, []Entry{{Type: Symlink, Name: "a", Link: "/"}}}, {1, []Entry{file("x")}}}, "no directory"},
		{"child of a file", []group{{0, []Entry{file("a")}}, {1, []Entry{file("x")}}}, "no directory"},
		{"child of a later one", []group{{7, []Entry{file("x")}}}, "not earlier"},
		{"link to itself", in(Entry{Type: HardLink, Name: "h", Target: 1}), "not earlier"},
		{"link to a later one", in(Entry{Type: HardLink, Name: "h", Target: 2}, file("z")), "link target"},
		{"link to a directory", in(dir, Entry{Type: HardLink, Name: "h", Target: 1}), "type 'd'"},
		{"link to the root", in(Entry{Type: HardLink, Name: "h", Target: 0}), "type 'd'"},
		{"link to a link", in(file("a"), Entry{Type: HardLink, Name: "b", Target: 1}, Entry{Type: HardLink, Name: "c", Target: 2}), "type 'h'"},
		{"extent outside", in(sparse(10, Extent{8, 4})), "file size 10"},
		{"extents overlap", in(sparse(100, Extent{0, 20}, Extent{10, 20})), "extent offset"},
		{"extent empty", in(sparse(100, Extent{5, 0})), "extent 0 of 0 bytes"},
		{"size", in(Entry{Type: File, Name: "f", Dense: true, Size: 1 << 62}), "size"},
		{"negative", in(Entry{Type: File, Name: "f", Dense: true, Size: 5, DataOff: -1}), "contents offset -1"},
		{"mode", in(Entry{Type: Fifo, Name: "p", Mode: 0o10000}), "mode"},
		{"nsec", in(Entry{Type: Fifo, Name: "p", Nsec: 1e9}), "nanoseconds"},
		{"flags", in(Entry{Type: Fifo, Name: "p", Flags: 0x800}), "flags"},
		{"type", in(Entry{Type: 'x', Name: "p"}), "unknown type"},
		{"empty link", in(Entry{Type: Symlink, Name: "l"}), "link target"},
		{"link with NUL", in(Entry{Type: Symlink, Name: "l", Link: "a\x00"}), "link target"},
		{"long link", in(Entry{Type: Symlink, Name: "l", Link: strings.Repeat("l", 4096)}), "length of link target 4096"},
		{"xattr order", in(Entry{Type: Fifo, Name: "p", Xattrs: &XattrSet{[]Xattr{{"b", ""}, {"a", ""}}}}), "xattr name"},
		{"xattr bomb", in(Entry{Type: Fifo, Name: "p", Xattrs: &XattrSet{[]Xattr{{"a", strings.Repeat("v", 65537)}}}}), "length of xattr value 65537"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(encode(t, rootEntry, c.groups...))
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "at offset") {
				t.Errorf("got %v, want an error with %q and the offset", err, c.want)
			}
		})
	}
}

// TestManifestBombs announces much in few bytes: nothing of it may be
// allocated.
func TestManifestBombs(t *testing.T) {
	head := []byte(magic + "\x01\x00\x00\x00")
	root := []byte{10, 'd', 0, 0, 0, 0, 0, 0, 0, 0}
	root[0] = byte(len(root) - 1)
	record := func(body []byte) []byte {
		return append(binary.AppendUvarint(nil, uint64(len(body))), body...)
	}
	file := append([]byte{'f', 1, 'x', 0, 0, 0, 0, 0, 0, 0}, 0)
	for name, tail := range map[string][]byte{
		"record of 2 GiB":   binary.AppendUvarint(nil, 1<<31-1),
		"record of 2^64":    binary.AppendUvarint(nil, 1<<64-1),
		"varint of 11":      bytes.Repeat([]byte{0xff}, 11),
		"10^9 extents":      record(binary.AppendUvarint(append(bytes.Clone(file[:10]), 0x80, 0x80, 0x80, 0x80, 1, 1), 1e9)),
		"10^9 xattrs":       record(binary.AppendUvarint([]byte{'p', 1, 'x', 0, 0, 0, 0, 0, 0, 1}, 1e9)),
		"name of 2^40":      record(binary.AppendUvarint([]byte{'p'}, 1<<40)),
		"empty record":      {0},
		"10^9 entries":      record(append(binary.AppendUvarint([]byte{'E'}, 1e9), 0)),
		"2^60 of contents":  record(binary.AppendUvarint([]byte{'E', 1}, 1<<60)),
		"group of 2^31":     record(binary.AppendUvarint([]byte{'G'}, 1<<31-1)),
		"entry before root": record([]byte{'p', 1, 'x', 0, 0, 0, 0, 0, 0, 0}),
	} {
		b := append(bytes.Clone(head), root...)
		b = append(b, record([]byte{'G', 0})...)
		if name == "entry before root" {
			b = bytes.Clone(head)
		}
		b = append(b, tail...)
		var err error
		got := testing.AllocsPerRun(1, func() { _, err = Decode(b) })
		if err == nil || got > 100 {
			t.Errorf("%s: %v, %v allocations", name, err, got)
		}
	}
	if _, err := Decode([]byte("kamtree\n\x03\x00\x00\x00")); err == nil || !strings.Contains(err.Error(), "version 3") {
		t.Errorf("version 3: %v", err)
	}
}

func TestSegmentsOverlap(t *testing.T) {
	for _, off := range []int64{0, 4, 6, 1 << 40} {
		m, err := Decode(encode(t, rootEntry, group{0, []Entry{
			{Type: File, Name: "a", Dense: true, Size: 5, DataOff: 0},
			{Type: File, Name: "b", Dense: true, Size: 5, DataOff: off},
		}}))
		if err == nil {
			_, err = m.Segments()
		}
		if err == nil {
			t.Errorf("second file at %d: accepted", off)
		}
	}
}

// FuzzDecode: whatever is accepted is safe to restore, and written once more
// reads the same.
func FuzzDecode(f *testing.F) {
	f.Add(encode(f, rootEntry))
	f.Add(encode(f, rootEntry, sample()...))
	f.Add(encode(f, rootEntry, group{0, []Entry{{Type: Symlink, Name: "a", Link: "/"}}}, group{1, []Entry{{Type: Fifo, Name: "x"}}}))
	f.Add(encode(f, rootEntry, group{0, []Entry{{Type: File, Name: "a", Dense: true, Size: 9}, {Type: HardLink, Name: "b", Target: 1}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		seen := map[string]bool{}
		groups := []group{}
		for i := range m.Entries {
			e := &m.Entries[i]
			if i == 0 {
				continue
			}
			k := fmt.Sprint(e.Parent, "/", e.Name)
			if seen[k] || e.Name == "" || e.Name == "." || e.Name == ".." || strings.ContainsAny(e.Name, "/\x00") {
				t.Fatalf("entry %d: name %q", i, k)
			}
			seen[k] = true
			if e.Parent < 0 || int(e.Parent) >= i || m.Entries[e.Parent].Type != Dir {
				t.Fatalf("entry %d: parent %d", i, e.Parent)
			}
			if e.Type == HardLink && (e.Target < 0 || int(e.Target) >= i || m.Entries[e.Target].Type == Dir) {
				t.Fatalf("entry %d: target %d", i, e.Target)
			}
			for _, x := range e.Data() {
				if x.Off < 0 || x.Len <= 0 || x.Off+x.Len > e.Size {
					t.Fatalf("entry %d: extent %v of %d", i, x, e.Size)
				}
			}
			if n := len(groups); n == 0 || groups[n-1].dir != int(e.Parent) {
				groups = append(groups, group{dir: int(e.Parent)})
			}
			g := &groups[len(groups)-1]
			g.children = append(g.children, *e)
		}
		again, err := Decode(encode(t, m.Entries[0], groups...))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(m.Entries, again.Entries, cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
		if segs, err := m.Segments(); err == nil {
			var sum int64
			for _, s := range segs {
				sum += s.Len
			}
			if sum != m.Contents {
				t.Fatalf("segments hold %d bytes of %d", sum, m.Contents)
			}
		}
	})
}
