package layoutfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// pairs is a mapping as it is printed.
type pairs []struct{ key, value string }

func (p *pairs) add(key, value string) { *p = append(*p, struct{ key, value string }{key, value}) }

// text adds a word, if there is one.
func (p *pairs) text(key, value string) {
	if value != "" {
		p.add(key, quote(value))
	}
}

func (p *pairs) number(key string, n int) { p.add(key, fmt.Sprint(n)) }

// list adds a sequence, if there is one.
func (p *pairs) list(key string, values []string) {
	var words []string
	for _, v := range values {
		words = append(words, quote(v))
	}
	if len(words) > 0 {
		p.add(key, "["+strings.Join(words, ", ")+"]")
	}
}

// flow is the mapping in one line.
func (p pairs) flow() string {
	var all []string
	for _, e := range p {
		all = append(all, e.key+": "+e.value)
	}
	return "{" + strings.Join(all, ", ") + "}"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// quote is a word as YAML has it: in quotes, which are JSON's, where it could
// be taken for something else.
func quote(s string) string {
	if regexp.MustCompile(`^[A-Za-z0-9/_][A-Za-z0-9/_.=+-]*$`).MatchString(s) {
		return s
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return `""` // a string always has a form
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// Print is the text that Parse reads the file from: a line for each partition
// and whatever else there is. It leaves out what the golden node's own things
// are known by, such as UUIDs.
func Print(f File) string {
	var b strings.Builder
	b.WriteString("disks:\n")
	for i, d := range f.Disks {
		fmt.Fprintf(&b, "  %s:\n", quote(d.Name))
		if m := printMatch(d.Match); len(m) > 0 {
			fmt.Fprintf(&b, "    match: %s\n", m.flow())
		}
		fmt.Fprintf(&b, "    table: %s\n", tableWord(d.Layout.Table))
		if d.Layout.Table == layout.None {
			for _, e := range printFilesystem(f.on(i, 0, "")) {
				fmt.Fprintf(&b, "    %s: %s\n", e.key, e.value)
			}
			continue
		}
		b.WriteString("    partitions:\n")
		for _, line := range f.partitions(i) {
			fmt.Fprintf(&b, "      - %s\n", line)
		}
	}
	f.printStack(&b)
	return b.String()
}

func tableWord(t layout.Table) string {
	if t == layout.MBR {
		return "mbr"
	}
	return string(t)
}

// on is the file system on a partition or on something else.
func (f File) on(disk, part int, name string) *wire.Filesystem {
	i := slices.IndexFunc(f.Filesystems, func(fs wire.Filesystem) bool {
		return fs.On == name && (name != "" || fs.Disk == disk && fs.Part == part)
	})
	if i < 0 {
		return nil
	}
	return &f.Filesystems[i]
}

// partitions are the lines of a disk's.
func (f File) partitions(disk int) []string {
	l := f.Disks[disk].Layout
	c := counter{primary: 1, logical: 5}
	silent := l.Table == layout.MBR && !slices.ContainsFunc(l.Parts, func(p layout.Part) bool { return p.Boot })
	var lines []string
	for _, p := range l.Parts {
		var out pairs
		word, next := p.TypeWord(l.Table), &c.primary
		if p.Kind == layout.Logical {
			word, next = "logical "+word, &c.logical
		}
		out.add("type", word)
		if p.Number != *next {
			out.number("number", p.Number)
		}
		*next = p.Number + 1
		out = append(out, printSizes(p)...)
		out.text("partlabel", p.Name)
		switch {
		case p.Boot:
			out.add("boot", "yes")
		case silent:
			out.add("boot", "no") // else the first one would be made active
			silent = false
		}
		out.list("flags", p.Flags)
		lines = append(lines, append(out, printFilesystem(f.on(disk, p.Number, ""))...).flow())
	}
	return lines
}

func (f File) printStack(b *strings.Builder) {
	section := func(name string, n int) {
		if n > 0 {
			fmt.Fprintf(b, "%s:\n", name)
		}
	}
	section("raid", len(f.Stack.Arrays))
	for _, a := range f.Stack.Arrays {
		fmt.Fprintf(b, "  %s: %s\n", quote(a.Name), printArray(a, f.on(0, 0, a.Name)).flow())
	}
	section("luks", len(f.Stack.Crypts))
	for _, c := range f.Stack.Crypts {
		fmt.Fprintf(b, "  %s: %s\n", quote(c.Name), printCrypt(c, f.on(0, 0, "mapper/"+c.Name)).flow())
	}
	section("lvm", len(f.Stack.Groups))
	for _, g := range f.Stack.Groups {
		var of pairs
		of.list("of", g.Devices)
		fmt.Fprintf(b, "  %s:\n    of: %s\n", quote(g.Name), of[0].value)
		if g.Extent > 0 {
			fmt.Fprintf(b, "    extent: %s\n", printSize(g.Extent))
		}
		if len(g.Volumes) > 0 {
			b.WriteString("    volumes:\n")
		}
		for _, v := range g.Volumes {
			fmt.Fprintf(b, "      %s: %s\n", quote(v.Name), printVolume(v, f.on(0, 0, g.Name+"/"+v.Name)).flow())
		}
	}
}
