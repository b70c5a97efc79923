package stream

import (
	"fmt"
	"slices"
	"strings"
)

// Type is what an entry is; its value is the type byte of its record.
type Type byte

const (
	Dir      Type = 'd'
	File     Type = 'f'
	Symlink  Type = 'l'
	Char     Type = 'c'
	Block    Type = 'b'
	Fifo     Type = 'p'
	Socket   Type = 's'
	HardLink Type = 'h'
)

// FlagMask are the inode flags that are carried over: those that a person can
// set (linux/fs.h, FS_FL_USER_MODIFIABLE; ext4.h, EXT4_FL_USER_MODIFIABLE)
// and that mean something on another disk: secrm, unrm, compr, sync,
// immutable, append, nodump, noatime, nocompr, journal_data, notail, dirsync,
// topdir, nocow, dax, projinherit, casefold.
const FlagMask = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x400 | 0x4000 | 0x8000 | 0x10000 |
	0x20000 | 0x800000 | 0x2000000 | 0x20000000 | 0x40000000

// FlagEarly are the flags of FlagMask that work only on an empty file or
// directory: compr, nocompr, nocow, casefold.
const FlagEarly = 0x4 | 0x400 | 0x800000 | 0x40000000

// Bounds of linux/limits.h: NAME_MAX, PATH_MAX less its NUL, XATTR_NAME_MAX,
// XATTR_SIZE_MAX, XATTR_LIST_MAX (which holds at most half as many names).
const (
	maxName       = 255
	maxLink       = 4095
	maxXattrName  = 255
	maxXattrValue = 65536
	maxXattrs     = 65536 / 2
)

// Entry is one name in a tree.
type Entry struct {
	Parent   int32  // index of the directory it is in; -1: the root itself
	Target   int32  // HardLink: index of the entry it is another name of
	Name     string // one component
	Link     string // Symlink: what it points to
	Type     Type
	Dense    bool   // File: one extent, 0 to Size; Extents is empty then
	Mode     uint16 // the low 12 bits of st_mode
	UID, GID uint32
	Nsec     uint32 // of mtime
	Sec      int64  // of mtime
	Flags    uint32 // inode flags, of FlagMask
	Project  uint32 // File, Dir: the project that quotas count it to
	Major    uint32 // Char, Block
	Minor    uint32
	Size     int64 // File
	DataOff  int64 // File: where its data begins in the contents stream
	Sparse   *Layout
	Xattrs   *XattrSet
}

// Layout is where a sparse file has data, and where it has space that was
// allocated but never written, which may lie behind the end of the file.
type Layout struct {
	Data      []Extent
	Unwritten []Extent
}

// Extent is a range of a file, in bytes.
type Extent struct{ Off, Len int64 }

// XattrSet is all extended attributes of an entry, by name. Entries with the
// same attributes share one set.
type XattrSet struct{ Attrs []Xattr }

// Xattr is one extended attribute: ACLs, capabilities and labels are some.
type Xattr struct {
	Name  string
	Value string
}

// Data are the ranges of the file whose bytes are in the contents stream.
func (e *Entry) Data() []Extent {
	switch {
	case e.Type != File:
		return nil
	case e.Dense && e.Size > 0:
		return []Extent{{0, e.Size}}
	case e.Sparse != nil:
		return e.Sparse.Data
	}
	return nil
}

// DataLen is how many bytes the entry has in the contents stream.
func (e *Entry) DataLen() int64 {
	if e.Type != File {
		return 0
	}
	if e.Dense {
		return e.Size
	}
	var n int64
	if e.Sparse != nil {
		for _, x := range e.Sparse.Data {
			n += x.Len
		}
	}
	return n
}

// Manifest is a decoded manifest.
type Manifest struct {
	Entries  []Entry
	Contents int64 // bytes in the contents stream

	encoded string
}

// Encoded is what the manifest was decoded from.
func (m *Manifest) Encoded() string { return m.encoded }

// Path is the path of entry i below the root: "" for the root, else without
// a leading slash. It may be longer than PATH_MAX.
func (m *Manifest) Path(i int32) string { return pathOf(m.Entries, i) }

func pathOf(entries []Entry, i int32) string {
	var parts []string
	for ; i > 0; i = entries[i].Parent {
		parts = append(parts, entries[i].Name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// Segment is a run of the contents stream that is a run of one file.
type Segment struct {
	Off   int64 // in the contents stream
	Pos   int64 // in the file
	Len   int64
	Entry int32
}

// Segments lists the contents stream from its first byte to its last. It
// fails if two files overlap in it or if a byte of it belongs to none.
func (m *Manifest) Segments() ([]Segment, error) {
	segs := make([]Segment, 0, len(m.Entries))
	for i := range m.Entries {
		e := &m.Entries[i]
		off := e.DataOff
		add := func(x Extent) {
			segs = append(segs, Segment{Off: off, Pos: x.Off, Len: x.Len, Entry: int32(i)})
			off += x.Len
		}
		if e.Type == File && e.Dense {
			if e.Size > 0 {
				add(Extent{0, e.Size})
			}
			continue
		}
		for _, x := range e.Data() {
			add(x)
		}
	}
	byOff := func(a, b Segment) int {
		switch {
		case a.Off < b.Off:
			return -1
		case a.Off > b.Off:
			return 1
		}
		return 0
	}
	if !slices.IsSortedFunc(segs, byOff) {
		slices.SortFunc(segs, byOff)
	}
	var end int64
	for _, s := range segs {
		if s.Off != end {
			return nil, fmt.Errorf("manifest entry %d %q: contents begin at %d, want %d", s.Entry, m.Path(s.Entry), s.Off, end)
		}
		end += s.Len
	}
	if end != m.Contents {
		return nil, fmt.Errorf("manifest: contents are %d bytes, files add up to %d", m.Contents, end)
	}
	return segs, nil
}

// FindSegment is the index of the segment that holds offset off, or
// len(segs).
func FindSegment(segs []Segment, off int64) int {
	n, _ := slices.BinarySearchFunc(segs, off, func(s Segment, off int64) int {
		switch {
		case s.Off+s.Len <= off:
			return -1
		case s.Off > off:
			return 1
		}
		return 0
	})
	return n
}
