package rehearsal

import (
	"fmt"
	"strings"

	"github.com/kamethod/kamethod/images/compare"
)

// layout is the cell's as a layout file (docs/disks.md).
func (r Recipe) layout(c *Cell) string {
	var b strings.Builder
	b.WriteString("disks:\n")
	for n, disk := range c.Golden {
		fmt.Fprintf(&b, "  %s:\n    table: %s\n    partitions:\n", disk, map[bool]string{true: "gpt", false: "mbr"}[r.GPT])
		parts, _ := r.number(r.parts(n))
		open := false
		for _, p := range parts {
			if p.logical && !open {
				open = true
				b.WriteString("      - {type: extended}\n")
			}
			fmt.Fprintf(&b, "      - {%s}\n", strings.Join(partWords(p, c), ", "))
		}
	}
	r.arrays(&b, c)
	for _, k := range c.Clone.Crypts {
		p := c.on("mapper/" + k.Name)
		fmt.Fprintf(&b, "luks:\n  %s: {of: %s, version: 2, %s}\n", k.Name, k.On, strings.Join(fileSystem(piece{fs: p.Type, at: p.At}, c), ", "))
	}
	if r.Stacking == LVM {
		fmt.Fprintf(&b, "lvm:\n  vg0:\n    of: %s\n    volumes:\n", r.physical(c))
		for _, p := range r.contents() {
			fmt.Fprintf(&b, "      %s: {size: %s, %s}\n", p.name, size(p), strings.Join(fileSystem(p, c), ", "))
		}
	}
	return b.String()
}

func partWords(p numbered, c *Cell) []string {
	kind := map[string]string{"esp": "efi", "boot": "bios"}[p.kind]
	if kind == "" {
		kind = p.kind
	}
	if p.logical {
		kind = "logical " + kind
	}
	words := []string{"type: " + kind, "size: " + size(p.piece)}
	if p.fs != "" {
		words = append(words, fileSystem(p.piece, c)...)
	}
	return words
}

func size(p piece) string {
	switch {
	case p.size != "":
		return p.size
	case p.mib == 0:
		return "fill"
	}
	return fmt.Sprintf("%dM", p.mib)
}

// fileSystem is the words for what is on a partition, volume or array.
func fileSystem(p piece, c *Cell) []string {
	words := []string{"fs: " + p.fs}
	switch {
	case p.fs == "swap":
	case p.fs == "btrfs":
		var sub []string
		for _, at := range c.Clone.Places {
			if path, ok := strings.CutPrefix(at.Options, "subvol="); ok {
				sub = append(sub, fmt.Sprintf("%q: %s", path, at.At))
			}
		}
		words = append(words, "subvolumes: {"+strings.Join(sub, ", ")+"}")
	case p.fs == "ext4" && p.at == "/home":
		words = append(words, "mount: "+p.at, "features: ["+withQuota+"]")
	default:
		words = append(words, "mount: "+p.at)
	}
	return words
}

// withQuota are the features of /home, an ext4, where a layout file can say so:
// the kernel mounts a file system with quota only if it has a module for the
// quotas' format, which nothing but the mount asks for.
const withQuota = "has_journal, ext_attr, resize_inode, dir_index, filetype, extent, 64bit, flex_bg, sparse_super, large_file, " +
	"huge_file, dir_nlink, extra_isize, metadata_csum, quota, project"

func (r Recipe) arrays(b *strings.Builder, c *Cell) {
	if len(c.Clone.Arrays) == 0 {
		return
	}
	b.WriteString("raid:\n")
	for _, a := range c.Clone.Arrays {
		place := c.on(a.Name)
		p := piece{fs: place.Type, at: place.At}
		fmt.Fprintf(b, "  %s: {level: 1, of: [%s], metadata: 1.2, %s}\n", a.Name, strings.Join(a.Members, ", "), strings.Join(fileSystem(p, c), ", "))
	}
}

// on is the first place on a thing.
func (c *Cell) on(name string) compare.Place {
	for _, p := range c.Clone.Places {
		if p.On == name {
			return p
		}
	}
	return compare.Place{}
}

// physical is the partition that the volume group is made of.
func (r Recipe) physical(c *Cell) string {
	for n, disk := range c.Golden {
		parts, _ := r.number(r.parts(n))
		for _, p := range parts {
			if p.kind == "lvm" {
				return fmt.Sprintf("%s%d", disk, p.number)
			}
		}
	}
	return ""
}
