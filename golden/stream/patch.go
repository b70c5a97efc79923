package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	"github.com/kamethod/kamethod/golden/wire"
)

const (
	patchMagic   = "kampatch"
	patchVersion = 2

	recFile    = 'f'
	recRemoved = 'r'
	recPart    = 'w'
)

// PatchIDs are the numbers of the two streams of patch n, from 1; those of
// the tree itself would be patch 0.
func PatchIDs(n int) (manifest, contents uint16) { return uint16(2 * n), uint16(2*n + 1) }

// MaxPatches is how many patches there can be: a void frame counts streams in
// one byte.
const MaxPatches = 255/2 - 1

// Patch is files of a tree as they are after the tree was scanned.
type Patch struct {
	Files    []Patched
	Contents int64 // bytes in the patch's contents stream
}

// Patched is what becomes of an entry of the tree.
type Patched struct {
	Base    int32 // its index in the manifest
	Removed bool  // its name is gone; File is empty then
	Part    bool  // only ranges of it, as they were from the beginning: File has its size, and the ranges as if they were all its data
	File    Entry // without name and parent; DataOff is in the patch's contents
}

// Segments lists the patch's contents from the first byte to the last; Entry
// is an index into Files. It fails where they overlap.
func (p *Patch) Segments() ([]Segment, error) {
	m := Manifest{Contents: p.Contents, Entries: make([]Entry, len(p.Files))}
	for i := range p.Files {
		m.Entries[i] = p.Files[i].File
		m.Entries[i].Parent = -1
	}
	return m.Segments()
}

// encode writes the patch's manifest.
func (p *Patch) encode() ([]byte, error) {
	var out bytes.Buffer
	e := newEncoder(&out)
	e.w.WriteString(patchMagic)
	e.w.Write([]byte{patchVersion, 0, 0, 0})
	for i := range p.Files {
		f := &p.Files[i]
		switch {
		case f.Removed:
			e.body = binary.AppendUvarint(append(e.body[:0], recRemoved), uint64(f.Base))
		case f.Part:
			e.body = appendExtents(binary.AppendUvarint(append(e.body[:0], recPart), uint64(f.Base)), f.File.Data())
			e.body = e.appendData(e.body, &f.File)
		default:
			e.body = e.appendInode(binary.AppendUvarint(append(e.body[:0], recFile), uint64(f.Base)), &f.File)
		}
		e.n++
		if err := e.record(); err != nil {
			return nil, err
		}
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// DecodePatch reads the manifest of a patch to the entries given. It refuses
// what is no file among them, and what Decode would refuse.
func DecodePatch(b []byte, entries []Entry) (*Patch, error) {
	d := &decoder{b: b, s: string(b), group: -1}
	if len(b) < 12 || d.s[:8] != patchMagic {
		return nil, fmt.Errorf("patch of %d bytes: no patch begins like that", len(b))
	}
	if v := binary.LittleEndian.Uint16(b[8:]); v != patchVersion || b[10] != 0 || b[11] != 0 {
		return nil, fmt.Errorf("patch: version %d, want %d", v, patchVersion)
	}
	d.pos = 12
	p := new(Patch)
	for last := false; !last; {
		start := d.pos
		var err error
		if last, err = d.patched(p, entries); err != nil {
			return nil, fmt.Errorf("patch record %d at offset %d: %w", len(p.Files), start, err)
		}
	}
	if d.pos != len(b) {
		return nil, fmt.Errorf("patch: %d bytes after its end at offset %d", len(b)-d.pos, d.pos)
	}
	p.Contents = d.sum
	return p, nil
}

// patched reads one record and says whether it was the last.
func (d *decoder) patched(p *Patch, entries []Entry) (last bool, err error) {
	t, err := d.begin()
	if err != nil {
		return false, err
	}
	switch t {
	case recEnd:
		last, err = true, d.closed(len(p.Files))
	case recFile, recRemoved, recPart:
		var x Patched
		if x, err = d.patchedFile(t, entries); err == nil {
			if n := len(p.Files); n > 0 && x.Base <= p.Files[n-1].Base {
				return false, fmt.Errorf("entry %d after entry %d", x.Base, p.Files[n-1].Base)
			}
			p.Files = append(p.Files, x)
		}
	default:
		err = fmt.Errorf("unknown type %q", t)
	}
	if err == nil && d.pos != d.end {
		err = fmt.Errorf("%d bytes too many in the record", d.end-d.pos)
	}
	return last, err
}

func (d *decoder) patchedFile(t byte, entries []Entry) (Patched, error) {
	n, err := d.uint(math.MaxInt32, "entry")
	if err != nil {
		return Patched{}, err
	}
	if n >= uint64(len(entries)) {
		return Patched{}, fmt.Errorf("entry %d of %d", n, len(entries))
	}
	if entries[n].Type != File {
		return Patched{}, fmt.Errorf("entry %d is of type %q, no file", n, entries[n].Type)
	}
	x := Patched{Base: int32(n), Removed: t == recRemoved, Part: t == recPart}
	if x.Removed {
		return x, nil
	}
	x.File = Entry{Type: File, Parent: -1, Target: -1}
	if !x.Part {
		return x, d.inode(&x.File)
	}
	x.File.Size, x.File.Sparse = entries[n].Size, new(Layout)
	if x.File.Sparse.Data, err = d.extents(x.File.Size); err != nil {
		return x, err
	}
	if len(x.File.Sparse.Data) == 0 {
		return x, errors.New("a part without ranges")
	}
	return x, d.place(&x.File)
}

// patched is a patch that was announced.
type patched struct {
	manifest []byte
	spool    *os.File // its contents
}

func (p *patched) read(kind wire.StreamKind, off int64, buf []byte) error {
	if kind == wire.PatchManifestStream {
		copy(buf, p.manifest[off:])
		return nil
	}
	if _, err := p.spool.ReadAt(buf, off); err != nil {
		return fmt.Errorf("read copy of what has changed: %w", err)
	}
	return nil
}
