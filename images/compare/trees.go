package compare

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Aspect names what differs about an entry.
type Aspect string

// Aspects.
const (
	Missing    Aspect = "missing" // the clone hasn't got it
	Extra      Aspect = "extra"   // golden hasn't got it
	Type       Aspect = "type"
	Mode       Aspect = "mode"
	Owner      Aspect = "owner"
	Size       Aspect = "size"
	Mtime      Aspect = "mtime"
	Content    Aspect = "content"
	Target     Aspect = "target"
	Device     Aspect = "device"
	Links      Aspect = "links"
	Xattr      Aspect = "xattr"
	Flags      Aspect = "flags"
	Project    Aspect = "project"
	Allocation Aspect = "allocation" // holes filled, or reserved space lost
)

// Difference is one aspect of one entry that isn't as on the golden node.
type Difference struct {
	Path   string `json:"path"`
	Aspect Aspect `json:"aspect"`
	Golden string `json:"golden,omitempty"`
	Clone  string `json:"clone,omitempty"`
	Reason string `json:"reason,omitempty"` // why it was expected; empty: it wasn't
}

func (d Difference) String() string {
	return fmt.Sprintf("%s: %s: golden %s, clone %s", brief(d.Path), d.Aspect, orNone(d.Golden), orNone(d.Clone))
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// Report is the judgement over one clone.
type Report struct {
	Entries     int          `json:"entries"` // held against each other
	Bytes       int64        `json:"bytes"`   // of file contents hashed on the golden side
	Differences []Difference `json:"differences"`
	Expected    []Difference `json:"expected"` // each has a Reason
}

// blockTolerance is how many 512-byte blocks an equal file may take more or
// less: extent tree and xattr blocks depend on where its data came to lie.
const blockTolerance = 64

// Trees compares. Differences that a rule names are set apart.
func Trees(golden, clone Tree, rules []Rule) *Report {
	r := &Report{}
	paths := slices.Sorted(maps.Keys(golden))
	for p := range clone {
		if golden[p] == nil {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		r.Entries++
		for _, d := range entries(golden[p], clone[p]) {
			d.Path = p
			if d.Reason = reason(rules, d); d.Reason != "" {
				r.Expected = append(r.Expected, d)
			} else {
				r.Differences = append(r.Differences, d)
			}
		}
		if g := golden[p]; g != nil && g.is(unix.S_IFREG) {
			r.Bytes += g.Size
		}
	}
	return r
}

func entries(g, c *Entry) []Difference {
	switch {
	case c == nil:
		return []Difference{{Aspect: Missing, Golden: kind(g)}}
	case g == nil:
		return []Difference{{Aspect: Extra, Clone: kind(c)}}
	case kind(g) != kind(c):
		return []Difference{{Aspect: Type, Golden: kind(g), Clone: kind(c)}}
	}
	var out []Difference
	add := func(differs bool, a Aspect, golden, clone any) {
		if differs {
			out = append(out, Difference{Aspect: a, Golden: fmt.Sprint(golden), Clone: fmt.Sprint(clone)})
		}
	}
	add(g.Mode != c.Mode, Mode, octal(g.Mode), octal(c.Mode))
	add(g.UID != c.UID || g.GID != c.GID, Owner, owner(g), owner(c))
	add(g.Size != c.Size, Size, g.Size, c.Size)
	add(g.Mtime != c.Mtime, Mtime, stamp(g), stamp(c))
	add(g.Hash != c.Hash, Content, short(g), short(c))
	add(g.Target != c.Target, Target, quote(g.Target), quote(c.Target))
	if g.is(unix.S_IFCHR) || g.is(unix.S_IFBLK) {
		add(g.Rdev != c.Rdev, Device, device(g), device(c))
	}
	if !g.is(unix.S_IFDIR) { // a directory's links are its subdirectories, and its size is its history
		add(g.Links != c.Links || g.LinkGroup != c.LinkGroup, Links, links(g), links(c))
		add(absolute(g.Blocks-c.Blocks) > blockTolerance, Allocation, g.Blocks, c.Blocks)
	}
	add(g.Flags != c.Flags, Flags, fmt.Sprintf("%#x", g.Flags), fmt.Sprintf("%#x", c.Flags))
	add(g.Project != c.Project, Project, g.Project, c.Project)
	return append(out, xattrDifferences(g.Xattrs, c.Xattrs)...)
}

func xattrDifferences(g, c map[string]string) []Difference {
	var out []Difference
	keys := map[string]bool{}
	for k := range g {
		keys[k] = true
	}
	for k := range c {
		keys[k] = true
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		gv, inGolden := g[k]
		cv, inClone := c[k]
		if gv != cv || inGolden != inClone {
			out = append(out, Difference{Aspect: Xattr, Golden: xattrText(k, gv, inGolden), Clone: xattrText(k, cv, inClone)})
		}
	}
	return out
}

func xattrText(key, value string, there bool) string {
	if !there {
		return "no " + key
	}
	if len(value) > 40 {
		return fmt.Sprintf("%s=%x… (%d bytes)", key, value[:40], len(value))
	}
	return fmt.Sprintf("%s=%x", key, value)
}

var kinds = map[uint32]string{
	unix.S_IFREG: "file", unix.S_IFDIR: "directory", unix.S_IFLNK: "symlink", unix.S_IFIFO: "fifo",
	unix.S_IFSOCK: "socket", unix.S_IFCHR: "character device", unix.S_IFBLK: "block device",
}

func kind(e *Entry) string     { return kinds[e.Mode&unix.S_IFMT] }
func octal(mode uint32) string { return fmt.Sprintf("%04o", mode&0o7777) }
func owner(e *Entry) string    { return fmt.Sprintf("%d:%d", e.UID, e.GID) }
func short(e *Entry) string    { return fmt.Sprintf("md5 %x…", e.Hash[:6]) }
func links(e *Entry) string    { return fmt.Sprintf("%d with %q", e.Links, e.LinkGroup) }
func device(e *Entry) string   { return fmt.Sprintf("%d:%d", unix.Major(e.Rdev), unix.Minor(e.Rdev)) }

func stamp(e *Entry) string {
	return time.Unix(e.Mtime.Sec, e.Mtime.Nsec).UTC().Format("2006-01-02T15:04:05.000000000Z")
}

// brief keeps both ends of a path: the deepest of them has 6000 bytes.
func brief(path string) string {
	if len(path) > 160 {
		path = path[:80] + "…" + path[len(path)-76:]
	}
	return fmt.Sprintf("%q", path)
}

func quote(s string) string {
	if len(s) > 80 {
		return fmt.Sprintf("%q… (%d bytes)", s[:80], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func absolute(n int64) int64 { return max(n, -n) }
