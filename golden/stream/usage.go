package stream

import (
	"path"
	"slices"
)

// Usage is what the entries below each of these mount points take on a disk:
// Tree.Usage for a tree that was scanned elsewhere, or that is divided another
// way. Mounts that the tree doesn't have are left out.
func (m *Manifest) Usage(mounts []string) []Usage {
	out := []Usage{{Mount: "/"}}
	names := map[string]bool{} // of directories that may be mount points
	for _, at := range mounts {
		names[path.Base(at)] = true
	}
	of := make([]int32, len(m.Entries)) // index into out
	for i := range m.Entries {
		e := &m.Entries[i]
		if e.Type == HardLink {
			continue
		}
		if e.Parent >= 0 {
			of[i] = of[e.Parent]
		}
		if e.Type == Dir && e.Parent >= 0 && names[e.Name] {
			if at := "/" + m.Path(int32(i)); slices.Contains(mounts, at) {
				of[i] = int32(len(out))
				out = append(out, Usage{Mount: at})
			}
		}
		out[of[i]].add(e)
	}
	return out
}

// add counts an entry. A short link and small attributes fit into the inode
// (ext4: 60 bytes, about 100 bytes).
func (u *Usage) add(e *Entry) {
	const block = 4096
	blocks := func(n int64) { u.Bytes += (n + block - 1) / block * block }
	u.Inodes++
	switch e.Type {
	case Dir:
		blocks(block)
	case File:
		for _, x := range e.Data() {
			blocks(x.Len)
		}
		if e.Sparse != nil {
			for _, x := range e.Sparse.Unwritten {
				blocks(x.Len)
			}
		}
	case Symlink:
		if len(e.Link) >= 60 {
			blocks(block)
		}
	}
	if e.Xattrs != nil {
		var n int64
		for _, a := range e.Xattrs.Attrs {
			n += int64(len(a.Name) + len(a.Value))
		}
		if n > 100 {
			blocks(n)
		}
	}
}
