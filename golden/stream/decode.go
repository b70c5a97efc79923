package stream

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// maxSize bounds file sizes and sums of them, so that adding two can't
// overflow: far above what ext4 (16 TiB) or XFS (8 EiB less one) hold.
const maxSize = 1 << 61

var errShort = errors.New("truncated")

// decoder is one pass over a manifest. Names are parts of s, so an entry
// costs no allocation of its own.
type decoder struct {
	b   []byte
	s   string // b, as a string
	pos int
	end int // of the record being read

	m     Manifest
	sets  []*XattrSet
	had   []bool // directories that had their group
	group int32
	prev  string // name before, in this group
	first bool   // no name yet in this group
	sec   int64
	data  int64 // end of the data of the file before
	sum   int64
}

// Decode reads a whole manifest. It refuses whatever could make a reader
// write outside the root or twice to one place; the error names the entry
// and its offset. What it allocates is bounded by a small multiple of len(b).
func Decode(b []byte) (*Manifest, error) {
	d := &decoder{b: b, s: string(b), group: -1}
	if len(b) < 12 || d.s[:8] != magic {
		return nil, fmt.Errorf("manifest of %d bytes: no manifest begins like that", len(b))
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != formatVersion || b[10] != 0 || b[11] != 0 {
		return nil, fmt.Errorf("manifest: version %d, want %d", v, formatVersion)
	}
	d.pos = 12
	// Entries have some 30 bytes, so this saves the growing; those of a hostile
	// manifest could have 5, and are paid for as they come.
	d.m.Entries = make([]Entry, 0, len(b)/24)
	d.had = make([]bool, 0, len(b)/24)
	for {
		start := d.pos
		last, err := d.record()
		if err != nil {
			return nil, fmt.Errorf("manifest entry %d at offset %d: %w", len(d.m.Entries), start, err)
		}
		if last {
			break
		}
	}
	if d.pos != len(b) {
		return nil, fmt.Errorf("manifest: %d bytes after its end at offset %d", len(b)-d.pos, d.pos)
	}
	d.m.encoded = d.s
	return &d.m, nil
}

// begin reads how long the next record is, and its type.
func (d *decoder) begin() (byte, error) {
	d.end = len(d.b)
	n, err := d.uint(math.MaxInt32, "record length")
	if err != nil {
		return 0, err
	}
	if int(n) > len(d.b)-d.pos {
		return 0, fmt.Errorf("record of %d bytes, %d are left: %w", n, len(d.b)-d.pos, errShort)
	}
	d.end = d.pos + int(n)
	return d.byte()
}

// record reads one record and says whether it was the last.
func (d *decoder) record() (last bool, err error) {
	t, err := d.begin()
	if err != nil {
		return false, err
	}
	switch t {
	case recGroup:
		err = d.beginGroup()
	case recEnd:
		last, err = true, d.finish()
	default:
		err = d.entry(Type(t))
	}
	if err == nil && d.pos != d.end {
		err = fmt.Errorf("%d bytes too many in the record", d.end-d.pos)
	}
	return last, err
}

func (d *decoder) beginGroup() error {
	n, err := d.uint(math.MaxInt32, "directory index")
	if err != nil {
		return err
	}
	if n >= uint64(len(d.m.Entries)) {
		return fmt.Errorf("children of entry %d, which is not earlier", n)
	}
	if d.m.Entries[n].Type != Dir {
		return fmt.Errorf("children of entry %d %q, which is no directory", n, d.m.Path(int32(n)))
	}
	if d.had[n] {
		return fmt.Errorf("directory %d %q twice", n, d.m.Path(int32(n)))
	}
	d.had[n] = true
	d.group, d.first, d.prev = int32(n), true, ""
	return nil
}

func (d *decoder) finish() error {
	if err := d.closed(len(d.m.Entries)); err != nil {
		return err
	}
	d.m.Contents = d.sum
	return nil
}

// closed reads the end record of a manifest of so many entries.
func (d *decoder) closed(entries int) error {
	n, err := d.uint(math.MaxInt32, "number of entries")
	if err != nil {
		return err
	}
	if int(n) != entries || n == 0 {
		return fmt.Errorf("%d entries, the end says %d", entries, n)
	}
	sum, err := d.uint(maxSize, "bytes of contents")
	if err != nil {
		return err
	}
	if int64(sum) != d.sum {
		return fmt.Errorf("%d bytes of contents, the end says %d", d.sum, sum)
	}
	return nil
}

func (d *decoder) entry(t Type) error {
	if len(d.m.Entries) >= math.MaxInt32 {
		return errors.New("too many entries")
	}
	n := len(d.m.Entries)
	d.m.Entries = append(d.m.Entries, Entry{Type: t, Parent: d.group, Target: -1})
	d.had = append(d.had, false)
	e := &d.m.Entries[n] // in its place: an Entry of its own would be one more allocation each
	err := d.named(e, n)
	if err != nil {
		d.m.Entries = d.m.Entries[:n]
	}
	return err
}

// named reads entry n after its type.
func (d *decoder) named(e *Entry, n int) (err error) {
	if e.Name, err = d.string(maxName, "name"); err != nil {
		return err
	}
	if err := d.checkName(e, n); err != nil {
		return err
	}
	if e.Type == HardLink {
		err = d.hardLink(e, n)
	} else {
		err = d.inode(e)
	}
	if err != nil {
		return fmt.Errorf("%q: %w", e.Name, err)
	}
	return nil
}

func (d *decoder) checkName(e *Entry, n int) error {
	if n == 0 {
		if e.Name != "" || e.Type != Dir {
			return fmt.Errorf("first entry %q of type %q is not the root", e.Name, e.Type)
		}
		return nil
	}
	switch {
	case d.group < 0:
		return fmt.Errorf("name %q before any directory's group", e.Name)
	case e.Name == "":
		return errors.New("empty name")
	case e.Name == "." || e.Name == "..":
		return fmt.Errorf("name %q", e.Name)
	case strings.ContainsAny(e.Name, "/\x00"):
		return fmt.Errorf("name %q holds a slash or NUL", e.Name)
	case !d.first && e.Name == d.prev:
		return fmt.Errorf("name %q twice in one directory", e.Name)
	case !d.first && e.Name < d.prev:
		return fmt.Errorf("name %q after %q", e.Name, d.prev)
	}
	d.first, d.prev = false, e.Name
	return nil
}

func (d *decoder) hardLink(e *Entry, own int) error {
	back, err := d.uint(math.MaxInt32, "link target")
	if err != nil {
		return err
	}
	n := int64(own) - int64(back)
	if back == 0 || n < 0 {
		return fmt.Errorf("hard link to entry %d, which is not earlier", n)
	}
	if t := d.m.Entries[n].Type; t == Dir || t == HardLink {
		return fmt.Errorf("hard link to entry %d of type %q", n, t)
	}
	e.Target = int32(n)
	return nil
}

func (d *decoder) inode(e *Entry) error {
	mode, err := d.uint(0o7777, "mode")
	if err != nil {
		return err
	}
	uid, err := d.uint(math.MaxUint32, "uid")
	if err != nil {
		return err
	}
	gid, err := d.uint(math.MaxUint32, "gid")
	if err != nil {
		return err
	}
	sec, err := d.int("mtime")
	if err != nil {
		return err
	}
	nsec, err := d.uint(999999999, "nanoseconds")
	if err != nil {
		return err
	}
	flags, err := d.uint(math.MaxUint32, "flags")
	if err != nil {
		return err
	}
	if flags&^FlagMask != 0 {
		return fmt.Errorf("unknown inode flags %#x", flags&^FlagMask)
	}
	project, err := d.uint(math.MaxUint32, "project")
	if err != nil {
		return err
	}
	d.sec += sec
	e.Mode, e.UID, e.GID, e.Sec, e.Nsec, e.Flags = uint16(mode), uint32(uid), uint32(gid), d.sec, uint32(nsec), uint32(flags)
	e.Project = uint32(project)
	if e.Xattrs, err = d.xattrs(); err != nil {
		return err
	}
	return d.special(e)
}

// special reads what only one type has.
func (d *decoder) special(e *Entry) (err error) {
	switch e.Type {
	case Dir, Fifo, Socket:
		return nil
	case File:
		return d.file(e)
	case Symlink:
		if e.Link, err = d.string(maxLink, "link target"); err != nil {
			return err
		}
		if e.Link == "" || strings.IndexByte(e.Link, 0) >= 0 {
			return fmt.Errorf("link target %q", e.Link)
		}
		return nil
	case Char, Block:
		major, err := d.uint(math.MaxUint32, "major number")
		if err != nil {
			return err
		}
		minor, err := d.uint(math.MaxUint32, "minor number")
		e.Major, e.Minor = uint32(major), uint32(minor)
		return err
	}
	return fmt.Errorf("unknown type %q", byte(e.Type))
}
