package layoutfile

import (
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/layout"
)

// buses are the words that a node has for where a disk hangs.
func buses() []string { return []string{"ata", "scsi", "nvme", "virtio", "mmc", "usb"} }

// match takes which disk of a node it is.
func (p *parser) match(n *yaml.Node, what string) layout.Match {
	what += ": match"
	f := p.fields(n, what, "name", "model", "serial", "wwn", "path", "bus", "size", "rotational")
	if n != nil && len(f.values) == 0 {
		p.fail(n.Line, "%s: no hint in it", what)
	}
	m := layout.Match{
		Name: strings.TrimPrefix(p.pattern(f, "name"), "/dev/"), Model: p.pattern(f, "model"), Serial: p.pattern(f, "serial"),
		WWN: p.pattern(f, "wwn"), Path: strings.TrimPrefix(p.pattern(f, "path"), "/dev/disk/by-path/"), Bus: p.pattern(f, "bus"),
	}
	if m.Bus != "" && !slices.Contains(buses(), m.Bus) {
		p.fail(f.get("bus").Line, "%s: bus %q: want %s", what, m.Bus, strings.Join(buses(), ", "))
	}
	if s := f.get("size"); s != nil {
		m.MinBytes, m.MaxBytes = p.sizeRange(s, what+": size")
	}
	if r := f.get("rotational"); r != nil {
		yes := p.flag(r, what+": rotational")
		m.Rotational = &yes
	}
	return m
}

// pattern is a text that may have * and ?.
func (p *parser) pattern(f fields, key string) string {
	n := f.get(key)
	word := p.text(n, f.what+": "+key)
	if _, err := path.Match(word, ""); err != nil {
		p.fail(n.Line, "%s: %s: %q: want a text with * and ? for what may be anything", f.what, key, word)
	}
	return word
}

// sizeRange takes ">=100G", "<=2T" and "100G..2T".
func (p *parser) sizeRange(n *yaml.Node, what string) (least, most int64) {
	word := strings.ReplaceAll(p.text(n, what), " ", "")
	if word == "" {
		return 0, 0
	}
	one := func(word string) int64 {
		v, err := parseSize(word)
		if err != nil {
			p.fail(n.Line, "%s: %v", what, err)
		}
		return v
	}
	low, high, both := strings.Cut(word, "..")
	switch {
	case both:
		least, most = one(low), one(high)
	case strings.HasPrefix(word, ">="):
		least = one(word[2:])
	case strings.HasPrefix(word, "<="):
		most = one(word[2:])
	default:
		p.fail(n.Line, "%s: %q: want a range such as \">=100G\", \"<=2T\" or 100G..2T", what, word)
	}
	if most > 0 && least > most {
		p.fail(n.Line, "%s: %q: the first is larger than the second", what, word)
	}
	return least, most
}

// printMatch is the keys that match reads.
func printMatch(m layout.Match) pairs {
	var out pairs
	out.text("name", m.Name)
	out.text("model", m.Model)
	out.text("serial", m.Serial)
	out.text("wwn", m.WWN)
	out.text("path", m.Path)
	out.text("bus", m.Bus)
	switch {
	case m.MinBytes > 0 && m.MaxBytes > 0:
		out.add("size", printSize(m.MinBytes)+".."+printSize(m.MaxBytes))
	case m.MinBytes > 0:
		out.add("size", quote(">="+printSize(m.MinBytes)))
	case m.MaxBytes > 0:
		out.add("size", quote("<="+printSize(m.MaxBytes)))
	}
	if m.Rotational != nil {
		out.add("rotational", yesNo(*m.Rotational))
	}
	return out
}
