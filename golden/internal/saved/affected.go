package saved

import (
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// lost is a range of a stream that isn't there.
type lost struct{ off, n int64 }

// affected names what of an image is lost with the broken pieces, and what is
// wrong with manifests all of whose pieces are right.
func (s *Store) affected(i *Image, broken map[wire.Hash]bool) []string {
	x := &examined{Source: s.NewSource(i), broken: broken}
	var out []string
	for k, st := range i.Streams {
		ranges := x.lost(k)
		switch st.Kind {
		case wire.ManifestStream:
			out = append(out, x.tree(k, ranges)...)
		case wire.PatchManifestStream:
			out = append(out, x.patch(k, ranges)...)
		case wire.ContentsStream:
			if x.m != nil {
				out = append(out, x.files(ranges, x.segs, func(n int32) string { return x.m.Path(n) })...)
			}
		case wire.PatchContentsStream:
			if p := x.last; p != nil {
				out = append(out, x.files(ranges, x.lastSegs, func(n int32) string { return x.m.Path(p.Files[n].Base) })...)
			}
		case wire.BlockMapStream:
			out = append(out, x.blocks(k, ranges)...)
		default:
			for _, r := range ranges {
				out = append(out, fmt.Sprintf("%s %s: %d bytes at %d", st.Kind, st.Name, r.n, r.off))
			}
		}
	}
	return slices.Compact(out)
}

// examined is an image that is looked into.
type examined struct {
	*Source
	broken map[wire.Hash]bool

	m        *stream.Manifest // nil: there is none, or it can't be read
	segs     []stream.Segment
	last     *stream.Patch // whose contents come next
	lastSegs []stream.Segment
}

// lost is what of a stream is in broken pieces.
func (x *examined) lost(k int) []lost {
	var out []lost
	for n := x.first[k]; n < x.first[k]+x.Image.Streams[k].Refs; n++ {
		if r := x.Refs[n]; x.broken[r.Hash] {
			out = append(out, lost{x.starts[n], int64(r.Len)})
		}
	}
	return out
}

// whole reads a stream of those that heldWhole names.
func (x *examined) whole(k int) ([]byte, error) {
	b := make([]byte, x.Image.Streams[k].Bytes)
	return b, x.readAt(k, 0, b)
}

func (x *examined) tree(k int, broken []lost) []string {
	if len(broken) > 0 {
		return []string{"all files: the list of them is broken"}
	}
	b, err := x.whole(k)
	if err == nil {
		x.m, err = stream.Decode(b)
	}
	if err == nil {
		x.segs, err = x.m.Segments()
	}
	if err == nil {
		err = x.long(wire.ContentsStream, x.m.Contents)
	}
	if err != nil {
		x.m = nil
		return []string{fmt.Sprintf("all files: the list of them: %v", err)}
	}
	return nil
}

// long compares what a manifest says of the length of its contents.
func (x *examined) long(kind wire.StreamKind, want int64) error {
	i := slices.IndexFunc(x.Image.Streams, func(s Stream) bool { return s.Kind == kind })
	if i < 0 || x.Image.Streams[i].Bytes != want {
		return fmt.Errorf("their contents are not %d bytes", want)
	}
	return nil
}

func (x *examined) patch(k int, broken []lost) []string {
	x.last, x.lastSegs = nil, nil
	if x.m == nil {
		return nil // all are lost already
	}
	if len(broken) > 0 {
		return []string{"the files that changed while the image was saved: the list of them is broken"}
	}
	b, err := x.whole(k)
	if err == nil {
		x.last, err = stream.DecodePatch(b, x.m.Entries)
	}
	if err == nil {
		x.lastSegs, err = x.last.Segments()
	}
	if err != nil {
		x.last = nil
		return []string{fmt.Sprintf("the files that changed while the image was saved: the list of them: %v", err)}
	}
	return nil
}

func (x *examined) blocks(k int, broken []lost) []string {
	name := x.Image.Streams[k].Name
	if len(broken) > 0 {
		return []string{name + ": the map of its blocks is broken"}
	}
	b, err := x.whole(k)
	if err == nil {
		_, err = stream.DecodeBlockMap(b)
	}
	if err != nil {
		return []string{fmt.Sprintf("%s: the map of its blocks: %v", name, err)}
	}
	return nil
}

// files names the files that have a share in what is lost.
func (x *examined) files(ranges []lost, segs []stream.Segment, path func(int32) string) []string {
	var out []string
	for _, r := range ranges {
		for i := stream.FindSegment(segs, r.off); i < len(segs) && segs[i].Off < r.off+r.n; i++ {
			if name := "/" + path(segs[i].Entry); len(out) == 0 || out[len(out)-1] != name {
				out = append(out, name)
			}
		}
	}
	return out
}
