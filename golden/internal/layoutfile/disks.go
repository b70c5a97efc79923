package layoutfile

import (
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// disk takes one disk under its golden name.
func (p *parser) disk(e entry) {
	name := strings.TrimPrefix(e.key, "/dev/")
	what := "disk " + name
	if !diskName(name) {
		p.fail(e.line, "disk %q: want a name such as sda or nvme0n1", e.key)
		return
	}
	f := p.fields(e.value, what, append([]string{"match", "table", "partitions", "like"}, fileKeys()...)...)
	d := wire.DiskPlan{Name: name, Match: p.match(f.get("match"), what)}
	index := len(p.out.Disks)
	if like := f.get("like"); like != nil {
		d.Layout = p.like(f, like)
	} else {
		d.Layout.Table = p.table(f)
		p.partitions(f, &d, index)
	}
	p.out.Disks = append(p.out.Disks, d)
	if d.Layout.Table == layout.None {
		p.add(name, "disk", e.line)
		if fs := p.filesystem(f); fs != nil {
			fs.Disk = index
			p.holds(name)
			p.out.Filesystems = append(p.out.Filesystems, *fs)
		}
	} else if key := f.first(fileKeys()); key != "" {
		p.fail(f.get(key).Line, "%s: %s: only a disk with table: none holds files itself", what, key)
	}
	for _, part := range d.Layout.Parts {
		if part.Kind != layout.Extended && f.get("like") != nil {
			p.add(layout.PartitionName(name, part.Number), "partition", e.line)
		}
	}
}

// diskName says whether it can be a disk's name below /dev: cciss/c0d0 is one.
func diskName(s string) bool {
	return s != "" && len(s) <= 64 && path.Clean(s) == s && s[0] != '/' && s[0] != '.' && s[0] != '-' &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_.:-") == ""
}

func (p *parser) table(f fields) layout.Table {
	n := f.get("table")
	switch word := p.text(n, f.what+": table"); word {
	case "", "gpt":
		return layout.GPT
	case "mbr", "dos":
		return layout.MBR
	case "none":
		return layout.None
	default:
		p.fail(n.Line, "%s: table %q: want gpt, mbr or none", f.what, word)
	}
	return layout.GPT
}

// like is the layout of an earlier disk.
func (p *parser) like(f fields, n *yaml.Node) layout.Disk {
	word := strings.TrimPrefix(p.text(n, f.what+": like"), "/dev/")
	if key := f.first(append([]string{"table", "partitions"}, fileKeys()...)); key != "" {
		p.fail(f.get(key).Line, "%s: %s: it is like %s, which says it all", f.what, key, word)
	}
	i := slices.IndexFunc(p.out.Disks, func(d wire.DiskPlan) bool { return d.Name == word })
	if i < 0 {
		p.fail(n.Line, "%s: like %q: no disk before it has that name", f.what, word)
		return layout.Disk{Table: layout.GPT}
	}
	d := p.out.Disks[i].Layout
	d.Parts = slices.Clone(d.Parts)
	for i := range d.Parts {
		d.Parts[i].Flags = slices.Clone(d.Parts[i].Flags)
	}
	return d
}

// partitions takes the list of a disk's.
func (p *parser) partitions(f fields, d *wire.DiskPlan, index int) {
	n := f.get("partitions")
	if d.Layout.Table == layout.None {
		if n != nil {
			p.fail(n.Line, "%s: partitions: a disk with table: none has none", f.what)
		}
		return
	}
	if n = f.need("partitions"); n == nil {
		return
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 || len(n.Content) > 128 {
		p.fail(n.Line, "%s: partitions: want a list of 1 to 128", f.what)
		return
	}
	c := counter{primary: 1, logical: 5}
	bootSaid := false
	for _, m := range n.Content {
		bootSaid = p.partition(m, d, index, &c) || bootSaid
	}
	if !bootSaid {
		d.Layout = d.Layout.Active()
	}
	if err := d.Layout.Valid(); err != nil {
		p.fail(n.Line, "%s: %v", f.what, err)
	}
}

// counter is the numbers that come next.
type counter struct{ primary, logical int }

// partition takes one, and says whether it says anything of booting.
func (p *parser) partition(n *yaml.Node, d *wire.DiskPlan, index int, c *counter) bool {
	what := "partition of " + d.Name
	if n.Kind == yaml.ScalarNode {
		n = p.short(n, what, "type", "size", "fs", "mount")
	}
	keys := slices.Concat([]string{"type", "number", "partlabel", "boot", "flags"}, sizeKeys(), fileKeys())
	f := p.fields(n, what, keys...)
	part := layout.Part{Kind: layout.Primary}
	p.partType(f, &part, d.Layout.Table)
	next := &c.primary
	if part.Kind == layout.Logical {
		next = &c.logical
	}
	if part.Number = p.number(f.get("number"), what+": number", 1, 128); part.Number == 0 {
		part.Number = *next
	}
	*next = part.Number + 1
	p.sizes(f, &part)
	part.Name = p.text(f.get("partlabel"), what+": partlabel")
	if part.Name != "" && d.Layout.Table != layout.GPT {
		p.fail(f.get("partlabel").Line, "%s: partlabel %q: only a GPT has names", what, part.Name)
	}
	part.Boot = p.flag(f.get("boot"), what+": boot")
	part.Flags = p.list(f.get("flags"), what+": flags", 16)
	if err := part.Valid(d.Layout.Table); err != nil {
		p.fail(n.Line, "%s: number %d: %v", what, part.Number, err)
	}
	d.Layout.Parts = append(d.Layout.Parts, part)
	name := layout.PartitionName(d.Name, part.Number)
	if part.Kind == layout.Extended {
		if key := f.first(fileKeys()); key != "" {
			p.fail(f.get(key).Line, "%s: %s: an extended partition holds logical ones, and no files", what, key)
		}
		return f.get("boot") != nil
	}
	p.add(name, "partition", n.Line)
	if fs := p.filesystem(f); fs != nil {
		fs.Disk, fs.Part = index, part.Number
		p.holds(name)
		p.out.Filesystems = append(p.out.Filesystems, *fs)
	}
	return f.get("boot") != nil
}

// partType sets the type: the word of it, or what the file system asks for.
func (p *parser) partType(f fields, part *layout.Part, t layout.Table) {
	n := f.get("type")
	word := p.text(n, f.what+": type")
	if n == nil {
		n, word = &yaml.Node{Line: f.line}, "linux"
		if fs := f.get("fs"); fs != nil && fs.Value == "swap" {
			word = "swap"
		}
	}
	if rest, ok := strings.CutPrefix(word, "logical"); ok {
		part.Kind = layout.Logical
		if word = strings.TrimSpace(rest); word == "" {
			word = "linux"
		}
	}
	if err := part.SetType(word, t); err != nil {
		p.fail(n.Line, "%s: %v", f.what, err)
	}
}

// short takes a line of words for a mapping: "efi 512M vfat /boot/efi", as in a
// desc also "logical swap 2G".
func (p *parser) short(n *yaml.Node, what string, keys ...string) *yaml.Node {
	words := strings.Fields(p.text(n, what))
	if len(words) > 1 && words[0] == "logical" {
		words = append([]string{"logical " + words[1]}, words[2:]...)
	}
	m := &yaml.Node{Kind: yaml.MappingNode, Line: n.Line}
	if len(words) > len(keys) {
		p.fail(n.Line, "%s: %q: want no more than %s", what, words[len(keys)], strings.Join(keys, ", "))
		return m
	}
	for i, w := range words {
		m.Content = append(m.Content, scalar(keys[i], n.Line), scalar(w, n.Line))
	}
	return m
}

func scalar(word string, line int) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Value: word, Line: line}
}

// first is the first of the keys that the mapping has.
func (f fields) first(keys []string) string {
	for _, k := range keys {
		if f.get(k) != nil {
			return k
		}
	}
	return ""
}

// add notes a device that something can be made of.
func (p *parser) add(name, kind string, line int) {
	if d := p.devices[name]; d != nil {
		p.fail(line, "%s %s: line %d has a %s of that name", kind, name, d.line, d.kind)
		return
	}
	p.devices[name] = &device{kind: kind, line: line}
}

// holds notes that a device holds a file system.
func (p *parser) holds(name string) {
	if d := p.devices[name]; d != nil {
		d.used = "a file system"
	}
}

// use notes, when all devices are known, that something is made of one.
func (p *parser) use(n *yaml.Node, name, by string) {
	p.later = append(p.later, func() {
		d := p.devices[name]
		switch {
		case d == nil:
			p.fail(n.Line, "%s: of %q: no such partition, disk without a table, array, container or volume in the file", by, name)
		case d.used != "":
			p.fail(n.Line, "%s: of %q: it is used already, by %s", by, name, d.used)
		default:
			d.used = by
		}
	})
}
