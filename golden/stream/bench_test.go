package stream

import (
	"fmt"
	"testing"
)

// BenchmarkDecode: 100,000 entries in 1000 directories.
func BenchmarkDecode(b *testing.B) {
	var root []Entry
	var groups []group
	var data int64
	for d := range 1000 {
		root = append(root, Entry{Type: Dir, Name: fmt.Sprintf("directory-%04d", d), Mode: 0o755, Sec: 1700000000 + int64(d)*977})
		g := group{dir: d + 1}
		for f := range 100 {
			e := Entry{Type: File, Name: fmt.Sprintf("some-file-%03d.txt", f), Mode: 0o644, Dense: true,
				Size: int64(f * 100), Sec: 1700000000 + int64(f*d), Nsec: uint32(f * 9999999), DataOff: data}
			data += e.Size
			g.children = append(g.children, e)
		}
		groups = append(groups, g)
	}
	m := encode(b, rootEntry, append([]group{{0, root}}, groups...)...)
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(m); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(m))/101001, "B/entry")
}
