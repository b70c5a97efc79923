package layoutfile

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/layout"
)

// units are sizes as sfdisk reads them: K and KiB are 1024, KB is 1000.
func units() []struct {
	word  string
	bytes int64
} {
	return []struct {
		word  string
		bytes int64
	}{
		{"B", 1}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"P", 1 << 50},
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50},
		{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"PB", 1e15},
	}
}

// parseSize takes a number with a unit; without one it is megabytes, as in a
// desc.
func parseSize(word string) (int64, error) {
	digits := strings.TrimRight(word, "BKMGTPi")
	unit := int64(1 << 20)
	if suffix := word[len(digits):]; suffix != "" {
		unit = 0
		for _, u := range units() {
			if u.word == suffix {
				unit = u.bytes
			}
		}
	}
	if unit == 0 || digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q: want a size such as 500M, 20G, 1.5T, or a number of megabytes", word)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(digits, 64)
		if ferr != nil || f*float64(unit) > 1<<62 {
			return 0, fmt.Errorf("%q: no size that a disk can have", word)
		}
		n, unit = int64(math.Round(f*float64(unit))), 1
	}
	if n <= 0 || n > math.MaxInt64/4/unit {
		return 0, fmt.Errorf("%q: no size that a disk can have", word)
	}
	return n * unit, nil
}

// printSize is the size in the largest unit that it is a whole number of.
func printSize(n int64) string {
	word := "B"
	for _, u := range units()[1:6] {
		if n%1024 != 0 {
			break
		}
		n, word = n/1024, u.word
	}
	return fmt.Sprintf("%d%s", n, word)
}

func (p *parser) size(n *yaml.Node, what string) int64 {
	word := p.text(n, what)
	if word == "" {
		return 0
	}
	v, err := parseSize(word)
	if err != nil {
		p.fail(n.Line, "%s: %v", what, err)
	}
	return v
}

// percent takes "20%"; what isn't one is said by ok.
func percent(word string) (v float64, ok bool) {
	digits, ok := strings.CutSuffix(word, "%")
	if !ok || digits == "" || strings.Trim(digits, "0123456789.") != "" {
		return 0, false
	}
	v, err := strconv.ParseFloat(digits, 64)
	return v, err == nil && v > 0 && v <= 100
}

func printPercent(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) + "%" }

// sizes are the keys of a size that a partition or a volume can have.
func sizeKeys() []string { return []string{"size", "min", "max", "grow"} }

// sizes sets what sizeKeys say.
func (p *parser) sizes(f fields, part *layout.Part) {
	switch word := p.text(f.get("size"), f.what+": size"); {
	case word == "":
	case word == "fill":
		part.Fill = true
	case strings.HasSuffix(word, "%"):
		var ok bool
		if part.Percent, ok = percent(word); !ok {
			p.fail(f.get("size").Line, "%s: size %q: want more than 0%%, at most 100%%", f.what, word)
		}
	default:
		part.Size = p.size(f.get("size"), f.what+": size")
	}
	part.Min = p.size(f.get("min"), f.what+": min")
	part.Max = p.size(f.get("max"), f.what+": max")
	part.Fill = p.flag(f.get("grow"), f.what+": grow") || part.Fill
}

// printSizes is the keys that sizes reads.
func printSizes(part layout.Part) pairs {
	var out pairs
	switch {
	case part.Percent > 0:
		out.add("size", printPercent(part.Percent))
	case part.Size > 0:
		out.add("size", printSize(part.Size))
	case part.Fill:
		out.add("size", "fill")
	}
	if part.Min > 0 {
		out.add("min", printSize(part.Min))
	}
	if part.Max > 0 {
		out.add("max", printSize(part.Max))
	}
	if part.Fill && (part.Size > 0 || part.Percent > 0) {
		out.add("grow", "yes")
	}
	return out
}
