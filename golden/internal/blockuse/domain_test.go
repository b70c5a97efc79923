package blockuse

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/stream"
)

const good = `# Domain logfile created by unset_name v0.3.23
# Source: x
# Offset: 0x00000000
# current_pos  current_status
0x00010000     ?
#      pos        size  status
0x00000000  0x00003000  +
0x00003000  0x00001000  ?
0x00004000  0x0000C000  +
`

func TestDomain(t *testing.T) {
	want := []stream.Extent{{Off: 0, Len: 0x3000}, {Off: 0x4000, Len: 0xc000}}
	for _, text := range []string{good, strings.Replace(good, "0x00010000     ?\n", "0x00010000     ?  1\n", 1), strings.ReplaceAll(good, "0x0000C000", "49152")} {
		xs, err := parseDomain(strings.NewReader(text), 0x10000)
		if err != nil || cmp.Diff(want, xs) != "" {
			t.Errorf("%v, %v", xs, err)
		}
	}
	for name, text := range map[string]string{
		"empty":            "",
		"no ranges":        "0x0 ?\n",
		"nothing used":     "0x0 ?\n0x0 0x1000 ?\n",
		"beyond the end":   strings.Replace(good, "0x0000C000", "0x0000C001", 1),
		"2^60":             "0 ?\n0 0x1000000000000000 +\n",
		"2^64-1":           "0 ?\n0 0xffffffffffffffff +\n",
		"overlapping":      strings.Replace(good, "0x00004000", "0x00003fff", 1),
		"a gap":            strings.Replace(good, "0x00004000", "0x00004001", 1),
		"no length":        "0 ?\n0 0 +\n",
		"negative":         "0 ?\n0 -1 +\n",
		"another status":   strings.Replace(good, "?\n0x00004000", "-\n0x00004000", 1),
		"a word more":      "0 ?\n0 0x1000 + +\n",
		"no position":      "0 0x1000 +\n",
		"a very long line": "0 ?\n" + strings.Repeat("0", 5000) + " 0x1000 +\n",
		"text":             "partclone failed\n",
	} {
		if xs, err := parseDomain(strings.NewReader(text), 0x10000); err == nil {
			t.Errorf("%s: is taken: %v", name, xs)
		}
	}
}

// TestDomainJoins: ranges are joined while they are read, not when all of them
// are in memory.
func TestDomainJoins(t *testing.T) {
	var text strings.Builder
	text.WriteString("0 ?\n")
	const n = 1000
	for i := range n {
		fmt.Fprintf(&text, "%d 4096 +\n%d 4096 ?\n", i<<13, i<<13+4096)
	}
	xs, err := parseRanges(strings.NewReader(text.String()), n<<13, 100)
	if err != nil {
		t.Fatal(err)
	}
	if len(xs) > 101 || xs[0].Off != 0 {
		t.Errorf("%d ranges are kept, from %d on", len(xs), xs[0].Off)
	}
	if last := xs[len(xs)-1]; last.Off+last.Len != (n-1)<<13+4096 {
		t.Errorf("they end at %d", last.Off+last.Len)
	}
	if all, err := parseRanges(strings.NewReader(text.String()), n<<13, n); err != nil || len(all) != n {
		t.Errorf("%d ranges, %v", len(all), err)
	}
}

func FuzzDomain(f *testing.F) {
	f.Add(good, int64(0x10000))
	f.Add("0 ?\n0 0x1000000000000000 +\n", int64(1<<62))
	f.Add("0 ? 1\n0 512 +\n512 512 ?\n", int64(1024))
	f.Fuzz(func(t *testing.T, text string, size int64) {
		xs, err := parseDomain(strings.NewReader(text), size)
		if err != nil {
			return
		}
		m := stream.BlockMap{Bytes: size, How: "used", Extents: append(xs, edges(xs, size)...)}
		m.Join(joinGap)
		if _, err := m.Encode(); err != nil {
			t.Fatal(err)
		}
	})
}
