package stream

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/zeebo/blake3"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// ManifestID and ContentsID are the numbers of a tree's two streams.
const (
	ManifestID uint16 = 0
	ContentsID uint16 = 1
)

// Tree is a scanned golden root: the source of its manifest and contents. Its
// methods may be called from several goroutines.
type Tree struct {
	// Spool is where Settle keeps its copies: a directory with room for all
	// files that are in use. "" is os.TempDir. Set it before the tree is used.
	Spool string

	// config
	path     string
	root     int
	m        Manifest
	encoded  []byte
	segs     []Segment
	ctimes   []stamp            // by entry
	linked   map[int32]inodeKey // entries that have further names
	usage    []Usage
	warnings []string

	// state
	settling sync.Mutex // one Settle at a time
	mu       sync.Mutex
	streams  []wire.Stream
	patches  []*patched
	torn     map[int32]bool     // files that gave fewer bytes than they had
	copied   map[int32]version  // what is in the patches, the latest
	voided   map[uint32]bool    // pieces of the contents all of which is in patches
	bad      map[int32][]Extent // what the disk can't read
	moving   map[int32]string   // files that have no consistent copy, and why
	names    map[int32][]int32  // further names of entries, once somebody asks
	removed  []string

	movedDirs int
}

// Usage is what the entries below one mount point take on another disk.
type Usage struct {
	Mount  string // "/", "/home"
	Bytes  int64  // in blocks of 4 KiB
	Inodes int64
}

type inodeKey struct{ dev, ino uint64 }

// builder numbers what the scan found, parents first.
type builder struct {
	t     *Tree
	enc   *Encoder
	links map[inodeKey]int32
	data  int64 // where the next file's contents go
	usage map[string]*Usage
	sets  map[string]*XattrSet
}

// newTree makes a tree of count entries of what was found.
func newTree(path string, root int, top *found, count int, warns []string) (*Tree, error) {
	var out bytes.Buffer
	t := &Tree{
		path: path, root: root, warnings: warns, ctimes: make([]stamp, 0, count), linked: map[int32]inodeKey{},
		torn: map[int32]bool{}, copied: map[int32]version{}, voided: map[uint32]bool{}, bad: map[int32][]Extent{}, moving: map[int32]string{},
	}
	t.m.Entries = make([]Entry, 0, count)
	b := &builder{t: t, enc: NewEncoder(&out), links: map[inodeKey]int32{}, usage: map[string]*Usage{}, sets: map[string]*XattrSet{}}
	if err := b.add(top, -1, "/"); err != nil {
		return nil, err
	}
	if err := b.descend(top.sub); err != nil {
		return nil, err
	}
	if err := b.enc.Close(); err != nil {
		return nil, err
	}
	t.encoded, t.m.Contents = out.Bytes(), b.data
	var err error
	if t.segs, err = t.m.Segments(); err != nil {
		return nil, fmt.Errorf("BUG: %w", err)
	}
	for _, u := range b.usage {
		t.usage = append(t.usage, *u)
	}
	slices.SortFunc(t.usage, func(a, b Usage) int { return strings.Compare(a.Mount, b.Mount) })
	t.streams = []wire.Stream{
		wire.NewStream(ManifestID, wire.ManifestStream, int64(len(t.encoded))),
		wire.NewStream(ContentsID, wire.ContentsStream, t.m.Contents),
	}
	return t, nil
}

// pending is a directory that has its number.
type pending struct {
	task  *dirTask
	index int32
}

// descend writes the groups depth first, which is how a disk was filled.
func (b *builder) descend(top *dirTask) error {
	stack := []pending{{top, 0}}
	for len(stack) > 0 {
		p := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if len(p.task.found) == 0 {
			continue
		}
		if err := b.enc.Group(int(p.index)); err != nil {
			return err
		}
		subs, err := b.group(p)
		if err != nil {
			return err
		}
		slices.Reverse(subs)
		stack = append(stack, subs...)
	}
	return nil
}

func (b *builder) group(p pending) (subs []pending, err error) {
	fs := p.task.found
	p.task.found = nil // the entries keep what is needed
	b.layOut(fs)
	slices.SortFunc(fs, func(x, y found) int { return strings.Compare(x.Name, y.Name) })
	for i := range fs {
		mount := p.task.mount
		if fs[i].sub != nil {
			mount = fs[i].sub.mount
			subs = append(subs, pending{fs[i].sub, int32(len(b.t.m.Entries))})
		}
		if err := b.add(&fs[i], p.index, mount); err != nil {
			return nil, err
		}
	}
	return subs, nil
}

// layOut gives a directory's files their place in the contents, in the order
// they were looked at: by inode. Whatever turns out to be a hard link has no
// contents of its own.
func (b *builder) layOut(fs []found) {
	first := map[inodeKey]string{} // of several names here, the least is the file
	for i := range fs {
		f := &fs[i]
		if f.Type == Dir || f.links < 2 {
			continue
		}
		k := inodeKey{f.dev, f.ino}
		if n, ok := first[k]; !ok || f.Name < n {
			first[k] = f.Name
		}
	}
	for i := range fs {
		f := &fs[i]
		if f.Type != Dir && f.links > 1 {
			k := inodeKey{f.dev, f.ino}
			if target, ok := b.links[k]; ok {
				b.asLink(f, target)
				continue
			}
			if first[k] != f.Name {
				continue // add finds its target then
			}
		}
		if n := f.DataLen(); n > 0 {
			f.DataOff = b.data
			b.data += n
		}
	}
}

func (b *builder) asLink(f *found, target int32) {
	b.t.linked[target] = inodeKey{f.dev, f.ino}
	f.Entry = Entry{Type: HardLink, Name: f.Name, Parent: f.Parent, Target: target}
}

// add gives the entry the next number and writes it.
func (b *builder) add(f *found, parent int32, mount string) error {
	t, n := b.t, int32(len(b.t.m.Entries))
	f.Parent = parent
	if f.Type != Dir && f.Type != HardLink && f.links > 1 {
		k := inodeKey{f.dev, f.ino}
		if target, ok := b.links[k]; ok {
			b.asLink(f, target)
		} else {
			b.links[k] = n
		}
	}
	if err := b.enc.Entry(&f.Entry); err != nil {
		return err
	}
	if f.Type != HardLink {
		b.count(f, mount)
	}
	f.Xattrs, f.Link = nil, "" // they are in the manifest; a million of them would weigh
	t.m.Entries = append(t.m.Entries, f.Entry)
	t.ctimes = append(t.ctimes, f.ctime)
	return nil
}

// count adds what the entry takes to its mount's usage.
func (b *builder) count(f *found, mount string) {
	u := b.usage[mount]
	if u == nil {
		u = &Usage{Mount: mount}
		b.usage[mount] = u
	}
	u.add(&f.Entry)
}

// Streams announces the manifest and the contents,
// and the patches that Settle has made.
func (t *Tree) Streams() []wire.Stream {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.streams)
}

// Usage is what each listed mount must have room for.
func (t *Tree) Usage() []Usage { return slices.Clone(t.usage) }

// Warnings names what was left out of the tree or lost a property, and why.
func (t *Tree) Warnings() []string { return slices.Clone(t.warnings) }

// Entries is how many entries the tree has, the root included.
func (t *Tree) Entries() int { return len(t.m.Entries) }

// Digest names what the tree was when it was scanned: it is the same for
// every scan of a tree in which nothing has changed.
func (t *Tree) Digest() string {
	h := blake3.New()
	h.Write(t.encoded)
	b := make([]byte, 0, 12*1024)
	for i, c := range t.ctimes {
		if t.m.Entries[i].DataLen() == 0 {
			continue // all that there is of it is in the manifest
		}
		b = binary.LittleEndian.AppendUint64(b, uint64(c.sec))
		b = binary.LittleEndian.AppendUint32(b, c.nsec)
		if len(b) == cap(b) {
			h.Write(b)
			b = b[:0]
		}
	}
	h.Write(b)
	return hex.EncodeToString(h.Sum(nil))
}

// Close lets go of the root and of Settle's copies.
func (t *Tree) Close() error {
	err := unix.Close(t.root)
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.patches {
		err = errors.Join(err, p.spool.Close())
	}
	if err != nil {
		return fmt.Errorf("close %s: %w", t.path, err)
	}
	return nil
}
