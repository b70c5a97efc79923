package layoutfile

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// of takes what a thing is made of.
func (p *parser) of(f fields, most int) []string {
	n := f.need("of")
	list := p.list(n, f.what+": of", most)
	for i, name := range list {
		list[i] = strings.TrimPrefix(name, "/dev/")
		at := n
		if len(n.Content) > 0 {
			at = n.Content[i]
		}
		p.use(at, list[i], f.what)
	}
	return list
}

// array takes one under its name, md0 or md/home.
func (p *parser) array(e entry) {
	f := p.fields(e.value, "raid "+e.key, append([]string{"level", "of", "metadata", "chunk"}, fileKeys()...)...)
	a := layout.Array{Name: strings.TrimPrefix(e.key, "/dev/"), Members: p.of(f, 384)}
	level := f.need("level")
	if word := p.text(level, f.what+": level"); word != "" {
		n := *level
		n.Value = strings.TrimPrefix(word, "raid")
		a.Level = p.number(&n, f.what+": level", 0, 10)
	}
	a.Metadata = p.text(f.get("metadata"), f.what+": metadata")
	a.Chunk = p.size(f.get("chunk"), f.what+": chunk")
	if err := a.Valid(); err != nil {
		p.fail(e.line, "raid %q: %v", e.key, err)
	}
	p.out.Stack.Arrays = append(p.out.Stack.Arrays, a)
	p.add(a.Name, "array", e.line)
	p.on(f, a.Name)
}

// crypt takes a LUKS container under its name, which is also its file's in
// /dev/mapper.
func (p *parser) crypt(e entry) {
	f := p.fields(e.value, "luks "+e.key, append([]string{"of", "version"}, fileKeys()...)...)
	c := layout.Crypt{Name: strings.TrimPrefix(strings.TrimPrefix(e.key, "/dev/"), "mapper/")}
	if of := p.of(f, 1); len(of) == 1 {
		c.Device = of[0]
	}
	c.Version = p.number(f.get("version"), f.what+": version", 1, 2)
	if err := c.Valid(); err != nil {
		p.fail(e.line, "luks %q: %v", e.key, err)
	}
	p.out.Stack.Crypts = append(p.out.Stack.Crypts, c)
	p.add("mapper/"+c.Name, "container", e.line)
	p.on(f, "mapper/"+c.Name)
}

// group takes a volume group and its volumes.
func (p *parser) group(e entry) {
	f := p.fields(e.value, "lvm "+e.key, "of", "extent", "volumes")
	g := layout.Group{Name: e.key, Devices: p.of(f, 384), Extent: p.size(f.get("extent"), "lvm "+e.key+": extent")}
	for _, v := range p.entries(f.get("volumes"), f.what+": volumes", 256) {
		g.Volumes = append(g.Volumes, p.volume(e.key, v))
	}
	if err := g.Valid(); err != nil {
		line := e.line
		for _, v := range g.Volumes {
			if d := p.devices[g.Name+"/"+v.Name]; d != nil && v.Valid(g) != nil {
				line = d.line
				break
			}
		}
		p.fail(line, "lvm %q: %v", e.key, err)
	}
	p.out.Stack.Groups = append(p.out.Stack.Groups, g)
	// A group is no device, but has a folder in /dev.
	p.add(g.Name, "volume group", e.line)
	p.devices[g.Name].used = "its volumes"
}

func (p *parser) volume(group string, e entry) layout.Volume {
	what := "lvm " + group + "/" + e.key
	if e.value.Kind == yaml.ScalarNode {
		e.value = p.short(e.value, what, "size", "fs", "mount")
	}
	f := p.fields(e.value, what, append(append([]string{"stripes"}, sizeKeys()...), fileKeys()...)...)
	var part layout.Part
	p.sizes(f, &part)
	v := layout.Volume{Name: e.key, Size: part.Size, Percent: part.Percent, Min: part.Min, Max: part.Max, Fill: part.Fill,
		Stripes: p.number(f.get("stripes"), what+": stripes", 1, 128)}
	p.add(group+"/"+e.key, "volume", e.line)
	p.on(f, group+"/"+e.key)
	return v
}

// on takes the file system on something that isn't a partition.
func (p *parser) on(f fields, name string) {
	if fs := p.filesystem(f); fs != nil {
		fs.On = name
		p.holds(name)
		p.stacked = append(p.stacked, *fs)
	}
}

func printArray(a layout.Array, fs *wire.Filesystem) pairs {
	var out pairs
	out.number("level", a.Level)
	out.list("of", a.Members)
	out.text("metadata", a.Metadata)
	if a.Chunk > 0 {
		out.add("chunk", printSize(a.Chunk))
	}
	return append(out, printFilesystem(fs)...)
}

func printCrypt(c layout.Crypt, fs *wire.Filesystem) pairs {
	var out pairs
	out.text("of", c.Device)
	if c.Version > 0 {
		out.number("version", c.Version)
	}
	return append(out, printFilesystem(fs)...)
}

func printVolume(v layout.Volume, fs *wire.Filesystem) pairs {
	out := printSizes(layout.Part{Size: v.Size, Percent: v.Percent, Min: v.Min, Max: v.Max, Fill: v.Fill})
	if v.Stripes > 0 {
		out.number("stripes", v.Stripes)
	}
	return append(out, printFilesystem(fs)...)
}
