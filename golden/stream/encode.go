package stream

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

const (
	magic         = "kamtree\n"
	formatVersion = 2

	recGroup = 'G'
	recEnd   = 'E'
)

// Encoder writes a manifest. Entries come in the order that the package
// comment asks for; Decode is what checks it.
type Encoder struct {
	w    *bufio.Writer
	body []byte
	n    int // entries so far
	sec  int64
	end  int64 // of the data of the file before
	sum  int64 // bytes of contents
	sets map[string]uint64
	ptrs map[*XattrSet]uint64
}

// NewEncoder begins a manifest on w.
func NewEncoder(w io.Writer) *Encoder {
	e := newEncoder(w)
	e.w.WriteString(magic)
	e.w.Write([]byte{formatVersion, 0, 0, 0})
	return e
}

func newEncoder(w io.Writer) *Encoder {
	return &Encoder{w: bufio.NewWriterSize(w, 64<<10), sets: map[string]uint64{}, ptrs: map[*XattrSet]uint64{}}
}

// Group says that the entries to come are the children of entry dir.
func (e *Encoder) Group(dir int) error {
	e.body = append(e.body[:0], recGroup)
	e.body = binary.AppendUvarint(e.body, uint64(dir))
	return e.record()
}

// Entry adds the next entry.
func (e *Encoder) Entry(x *Entry) error {
	b := append(e.body[:0], byte(x.Type))
	b = appendString(b, x.Name)
	if x.Type == HardLink {
		b = binary.AppendUvarint(b, uint64(e.n)-uint64(x.Target))
	} else {
		b = e.appendInode(b, x)
	}
	e.body = b
	e.n++
	return e.record()
}

// Close ends the manifest; it doesn't close the writer.
func (e *Encoder) Close() error {
	b := append(e.body[:0], recEnd)
	b = binary.AppendUvarint(b, uint64(e.n))
	e.body = binary.AppendUvarint(b, uint64(e.sum))
	if err := e.record(); err != nil {
		return err
	}
	if err := e.w.Flush(); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

func (e *Encoder) record() error {
	var head [binary.MaxVarintLen64]byte
	e.w.Write(head[:binary.PutUvarint(head[:], uint64(len(e.body)))])
	if _, err := e.w.Write(e.body); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	return nil
}

func (e *Encoder) appendInode(b []byte, x *Entry) []byte {
	b = binary.AppendUvarint(b, uint64(x.Mode))
	b = binary.AppendUvarint(b, uint64(x.UID))
	b = binary.AppendUvarint(b, uint64(x.GID))
	b = binary.AppendVarint(b, x.Sec-e.sec)
	e.sec = x.Sec
	b = binary.AppendUvarint(b, uint64(x.Nsec))
	b = binary.AppendUvarint(b, uint64(x.Flags))
	b = binary.AppendUvarint(b, uint64(x.Project))
	b = e.appendXattrs(b, x.Xattrs)
	switch x.Type {
	case File:
		b = e.appendFile(b, x)
	case Symlink:
		b = appendString(b, x.Link)
	case Char, Block:
		b = binary.AppendUvarint(b, uint64(x.Major))
		b = binary.AppendUvarint(b, uint64(x.Minor))
	}
	return b
}

func (e *Encoder) appendFile(b []byte, x *Entry) []byte {
	b = binary.AppendUvarint(b, uint64(x.Size))
	if x.Dense {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		var l Layout
		if x.Sparse != nil {
			l = *x.Sparse
		}
		b = appendExtents(b, l.Data)
		b = appendExtents(b, l.Unwritten)
	}
	return e.appendData(b, x)
}

// appendData says where in the contents the data of a file is.
func (e *Encoder) appendData(b []byte, x *Entry) []byte {
	if n := x.DataLen(); n > 0 {
		b = binary.AppendVarint(b, x.DataOff-e.end)
		e.end = x.DataOff + n
		e.sum += n
	}
	return b
}

func (e *Encoder) appendXattrs(b []byte, set *XattrSet) []byte {
	if set == nil || len(set.Attrs) == 0 {
		return append(b, 0)
	}
	if id, ok := e.ptrs[set]; ok {
		return binary.AppendUvarint(b, id)
	}
	s := binary.AppendUvarint(nil, uint64(len(set.Attrs)))
	for _, a := range set.Attrs {
		s = appendString(s, a.Name)
		s = appendString(s, a.Value)
	}
	if id, ok := e.sets[string(s)]; ok {
		e.ptrs[set] = id
		return binary.AppendUvarint(b, id)
	}
	id := uint64(len(e.sets) + 1)
	e.sets[string(s)], e.ptrs[set] = id, id
	return append(binary.AppendUvarint(b, id), s...)
}

func appendExtents(b []byte, xs []Extent) []byte {
	b = binary.AppendUvarint(b, uint64(len(xs)))
	var end int64
	for _, x := range xs {
		b = binary.AppendUvarint(b, uint64(x.Off-end))
		b = binary.AppendUvarint(b, uint64(x.Len))
		end = x.Off + x.Len
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
