package layoutfile

import (
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/wire"
)

// fileKeys are what can be said of a file system, wherever it is.
func fileKeys() []string {
	return []string{"fs", "mount", "label", "options", "features", "inode", "block", "reserved", "subvolumes"}
}

// types are the file systems that a node can make.
func types() []string {
	return []string{"ext2", "ext3", "ext4", "xfs", "jfs", "reiserfs", "btrfs", "f2fs", wire.VFAT, "swap"}
}

// filesystem takes what fileKeys say; nil if there is none. One that only says
// where it is mounted is of golden's type.
func (p *parser) filesystem(f fields) *wire.Filesystem {
	n := f.get("fs")
	fs := &wire.Filesystem{Type: p.text(n, f.what+": fs")}
	switch {
	case n != nil && !slices.Contains(types(), fs.Type):
		p.fail(n.Line, "%s: fs %q: want %s", f.what, fs.Type, strings.Join(types(), ", "))
	case n == nil && f.get("mount") == nil:
		if key := f.first(fileKeys()); key != "" {
			p.fail(f.get(key).Line, "%s: %s: of no file system: say which with fs or mount", f.what, key)
		}
		return nil
	}
	fs.Label = p.text(f.get("label"), f.what+": label")
	fs.Options = p.word(f, "options", "mount options, without blanks", func(r rune) bool { return r > ' ' && r < 0x7f })
	fs.Features = p.list(f.get("features"), f.what+": features", 64)
	for _, w := range fs.Features {
		if strings.Trim(w, "abcdefghijklmnopqrstuvwxyz0123456789_=-^") != "" || w == "" || w[0] == '-' {
			p.fail(f.get("features").Line, "%s: feature %q: want words of mkfs's", f.what, w)
		}
	}
	fs.InodeSize = p.number(f.get("inode"), f.what+": inode", 128, 65536)
	fs.BlockSize = p.number(f.get("block"), f.what+": block", 512, 65536)
	if r := f.get("reserved"); r != nil {
		fs.Reserved = p.reserved(r, f.what+": reserved")
	}
	fs.MountPoint = p.mount(f.get("mount"), f.what+": mount", fs.Type)
	p.subvolumes(f, fs)
	return fs
}

// word is a text without what some reader of it would stumble over.
func (p *parser) word(f fields, key, want string, ok func(rune) bool) string {
	n := f.get(key)
	s := p.text(n, f.what+": "+key)
	if strings.ContainsFunc(s, func(r rune) bool { return !ok(r) }) {
		p.fail(n.Line, "%s: %s: %q: want %s", f.what, key, s, want)
	}
	return s
}

// reserved takes "5%" and "none", which a plan calls less than nothing.
func (p *parser) reserved(n *yaml.Node, what string) float64 {
	word := p.text(n, what)
	if word == "none" {
		return -1
	}
	v, ok := percent(word)
	if !ok || v > 50 { // mke2fs(8), -m
		p.fail(n.Line, "%s: %q: want a percentage up to 50%%, or none", what, word)
	}
	return v
}

func (p *parser) mount(n *yaml.Node, what, fstype string) string {
	at := p.text(n, what)
	switch {
	case at == "":
		return ""
	case fstype == "swap":
		p.fail(n.Line, "%s: %q: swap isn't mounted", what, at)
	case at[0] != '/' || path.Clean(at) != at:
		p.fail(n.Line, "%s: %q: want an absolute path such as /home", what, at)
	case p.mounts[at] > 0:
		p.fail(n.Line, "%s: %q: line %d mounts another one there", what, at, p.mounts[at])
	}
	p.mounts[at] = n.Line
	return at
}

// subvolumes takes a btrfs's: a path and where it is mounted, or more of it.
func (p *parser) subvolumes(f fields, fs *wire.Filesystem) {
	n := f.get("subvolumes")
	if n != nil && fs.Type != "btrfs" && fs.Type != "" {
		p.fail(n.Line, "%s: subvolumes: only btrfs has them", f.what)
		return
	}
	for _, e := range p.entries(n, f.what+": subvolumes", 1024) {
		what := f.what + ": subvolume " + e.key
		if path.Clean(e.key) != e.key || e.key[0] == '/' || e.key == "." || e.key == ".." || strings.HasPrefix(e.key, "../") {
			p.fail(e.line, "%s: want a path from the file system's top, such as @home", what)
		}
		v := wire.Subvolume{Path: e.key}
		if e.value.Kind == yaml.ScalarNode {
			e.value = p.short(e.value, what, "mount")
		}
		k := p.fields(e.value, what, "mount", "inside", "default")
		mount, inside := k.get("mount"), k.get("inside")
		if mount != nil && inside != nil {
			p.fail(e.line, "%s: want mount, where it is mounted, or inside, where it lies within another one: not both", what)
		}
		v.Mounted = mount != nil
		if v.Mounted && p.text(mount, what) == fs.MountPoint && fs.MountPoint != "" {
			v.MountPoint = fs.MountPoint // said twice, which is no harm
		} else if v.Mounted {
			v.MountPoint = p.mount(mount, what+": mount", fs.Type)
		} else {
			v.MountPoint = p.mount(inside, what+": inside", fs.Type)
		}
		v.Default = p.flag(k.get("default"), what+": default")
		fs.Subvolumes = append(fs.Subvolumes, v)
		if fs.MountPoint == "" && v.Mounted {
			fs.MountPoint = v.MountPoint
		}
	}
}

// printFilesystem is the keys that filesystem reads.
func printFilesystem(fs *wire.Filesystem) pairs {
	var out pairs
	if fs == nil {
		return nil
	}
	out.text("fs", fs.Type)
	first := slices.IndexFunc(fs.Subvolumes, func(v wire.Subvolume) bool { return v.Mounted })
	if first < 0 || fs.Subvolumes[first].MountPoint != fs.MountPoint {
		out.text("mount", fs.MountPoint)
	}
	out.text("label", fs.Label)
	out.text("options", fs.Options)
	out.list("features", fs.Features)
	if fs.InodeSize > 0 {
		out.number("inode", fs.InodeSize)
	}
	if fs.BlockSize > 0 {
		out.number("block", fs.BlockSize)
	}
	switch {
	case fs.Reserved < 0:
		out.add("reserved", "none")
	case fs.Reserved > 0:
		out.add("reserved", printPercent(fs.Reserved))
	}
	var vols pairs
	for _, v := range fs.Subvolumes {
		var one pairs
		key := "inside"
		if v.Mounted {
			key = "mount"
		}
		one.text(key, v.MountPoint)
		if v.Default {
			one.add("default", "yes")
		}
		vols.add(quote(v.Path), one.flow())
	}
	if len(vols) > 0 {
		out.add("subvolumes", vols.flow())
	}
	return out
}
