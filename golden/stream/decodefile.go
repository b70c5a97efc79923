package stream

import (
	"encoding/binary"
	"fmt"
	"strings"
)

func (d *decoder) file(e *Entry) error {
	size, err := d.uint(maxSize, "size")
	if err != nil {
		return err
	}
	e.Size = int64(size)
	layout, err := d.byte()
	if err != nil {
		return err
	}
	switch layout {
	case 0:
		e.Dense = true
	case 1:
		if e.Sparse, err = d.layout(e.Size); err != nil {
			return err
		}
	default:
		return fmt.Errorf("unknown file layout %d", layout)
	}
	return d.place(e)
}

// place reads where in the contents the data of a file is.
func (d *decoder) place(e *Entry) error {
	n := e.DataLen()
	if n == 0 {
		return nil
	}
	gap, err := d.int("contents offset")
	if err != nil {
		return err
	}
	e.DataOff = d.data + gap
	if e.DataOff < 0 || e.DataOff > maxSize || d.sum > maxSize-n {
		return fmt.Errorf("contents offset %d, %d bytes", e.DataOff, n)
	}
	d.data = e.DataOff + n
	d.sum += n
	return nil
}

func (d *decoder) layout(size int64) (l *Layout, err error) {
	l = new(Layout)
	if l.Data, err = d.extents(size); err != nil {
		return nil, err
	}
	l.Unwritten, err = d.extents(maxSize) // space may be reserved behind the end
	return l, err
}

// extents reads ranges that ascend, don't touch each other's bytes and lie
// within size; each is at least two bytes long here, which bounds their
// number before anything is allocated.
func (d *decoder) extents(size int64) ([]Extent, error) {
	n, err := d.uint(uint64(d.end-d.pos)/2, "number of extents")
	if err != nil || n == 0 {
		return nil, err
	}
	xs := make([]Extent, n)
	var end int64
	for i := range xs {
		gap, err := d.uint(maxSize, "extent offset")
		if err != nil {
			return nil, err
		}
		length, err := d.uint(maxSize, "extent length")
		if err != nil {
			return nil, err
		}
		off := end + int64(gap)
		if length == 0 || off > size || int64(length) > size-off {
			return nil, fmt.Errorf("extent %d of %d bytes at %d, file size %d", i, length, off, size)
		}
		xs[i] = Extent{off, int64(length)}
		end = off + int64(length)
	}
	return xs, nil
}

func (d *decoder) xattrs() (*XattrSet, error) {
	id, err := d.uint(uint64(len(d.sets))+1, "xattr set")
	if err != nil || id == 0 {
		return nil, err
	}
	if id <= uint64(len(d.sets)) {
		return d.sets[id-1], nil
	}
	n, err := d.uint(min(maxXattrs, uint64(d.end-d.pos)/2), "number of xattrs")
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return nil, fmt.Errorf("empty xattr set")
	}
	set := &XattrSet{Attrs: make([]Xattr, n)}
	for i := range set.Attrs {
		a := &set.Attrs[i]
		if a.Name, err = d.string(maxXattrName, "xattr name"); err != nil {
			return nil, err
		}
		if a.Name == "" || strings.IndexByte(a.Name, 0) >= 0 || i > 0 && a.Name <= set.Attrs[i-1].Name {
			return nil, fmt.Errorf("xattr name %q", a.Name)
		}
		if a.Value, err = d.string(maxXattrValue, "xattr value"); err != nil {
			return nil, err
		}
	}
	d.sets = append(d.sets, set)
	return set, nil
}

// uint reads a uvarint of at most limit.
func (d *decoder) uint(limit uint64, what string) (uint64, error) {
	v, n := binary.Uvarint(d.b[d.pos:d.end])
	if n == 0 {
		return 0, fmt.Errorf("%s: %w", what, errShort)
	}
	if n < 0 || v > limit {
		return 0, fmt.Errorf("%s %d, at most %d", what, v, limit)
	}
	d.pos += n
	return v, nil
}

func (d *decoder) int(what string) (int64, error) {
	v, n := binary.Varint(d.b[d.pos:d.end])
	if n == 0 {
		return 0, fmt.Errorf("%s: %w", what, errShort)
	}
	if n < 0 {
		return 0, fmt.Errorf("%s: more than 64 bits", what)
	}
	d.pos += n
	return v, nil
}

func (d *decoder) byte() (byte, error) {
	if d.pos >= d.end {
		return 0, errShort
	}
	d.pos++
	return d.b[d.pos-1], nil
}

func (d *decoder) string(limit uint64, what string) (string, error) {
	n, err := d.uint(limit, what)
	if err != nil {
		return "", fmt.Errorf("length of %w", err)
	}
	if int(n) > d.end-d.pos {
		return "", fmt.Errorf("%s of %d bytes, %d are left: %w", what, n, d.end-d.pos, errShort)
	}
	s := d.s[d.pos : d.pos+int(n)]
	d.pos += int(n)
	return s, nil
}
