package saved

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sort"
	"sync"

	"github.com/kamethod/kamethod/golden/wire"
)

// Source is a saved image as the chain's source: whatever it was made of, its
// pieces don't change.
type Source struct {
	*Image
	s      *Store
	starts []int64 // of Refs, in their streams
	first  []int   // index of each stream's first ref
	codecs sync.Pool

	mu    sync.Mutex
	cache []*unpacked // the latest last
	size  int         // of these, in bytes

	Unchecked bool // Verify takes it for sound
}

// unpacked is a piece of the store, as soon as done is closed. A piece of the
// chain begins and ends in the middle of one: each is wanted twice or more.
type unpacked struct {
	hash wire.Hash
	size int
	done chan struct{}
	data []byte
	err  error
}

// cacheSize is what unpacked pieces take together: the chain reads up to eight
// of its own side by side, each of which may begin and end in another one.
const cacheSize = 64 << 20

// NewSource gives the image to the chain.
func (s *Store) NewSource(i *Image) *Source {
	x := &Source{Image: i, s: s, starts: make([]int64, len(i.Refs))}
	n := 0
	for _, st := range i.Streams {
		x.first = append(x.first, n)
		var off int64
		for k := range st.Refs {
			x.starts[n+k] = off
			off += int64(i.Refs[n+k].Len)
		}
		n += st.Refs
	}
	return x
}

// Streams announces all that was saved, what had changed meanwhile last.
func (x *Source) Streams() []wire.Stream {
	var out []wire.Stream
	for _, s := range x.Image.Streams {
		out = append(out, s.Stream)
	}
	return out
}

// Digest names what is sent.
func (x *Source) Digest() string { return x.ID }

// Torn names the files that are not one version of what the machine had.
func (x *Source) Torn() []string { return slices.Clone(x.About.Torn) }

// Moved counts what changed while the image was saved.
func (x *Source) Moved() (files, dirs int) { return x.Reread, x.MovedDirs }

// Close lets go of nothing: no file stays open.
func (x *Source) Close() error { return nil }

// ReadPiece fills buf with a piece of the chain.
func (x *Source) ReadPiece(stream uint16, piece uint32, buf []byte) error {
	i := slices.IndexFunc(x.Image.Streams, func(s Stream) bool { return s.ID == stream })
	if i < 0 {
		return fmt.Errorf("read piece %d of image %s: no stream %d", piece, x.Name, stream)
	}
	s := x.Image.Streams[i]
	if piece >= s.Pieces || len(buf) != s.Len(piece) {
		return fmt.Errorf("read piece %d of image %s: stream %d has %d", piece, x.Name, stream, s.Pieces)
	}
	return x.readAt(i, int64(piece)*int64(s.PieceSize), buf)
}

// readAt fills buf with a stream's bytes from off on.
func (x *Source) readAt(i int, off int64, buf []byte) error {
	from, to := x.first[i], x.first[i]+x.Image.Streams[i].Refs
	n := from + sort.Search(to-from, func(k int) bool { return x.starts[from+k] > off }) - 1
	for ; len(buf) > 0; n++ {
		if n < from || n >= to {
			return fmt.Errorf("BUG: image %s: stream %d ends before %d", x.Name, x.Image.Streams[i].ID, off)
		}
		data, err := x.unpack(x.Refs[n])
		if err != nil {
			return fmt.Errorf("image %s: %w: golden-serve check %s says what it holds", x.Name, err, x.s.dir)
		}
		m := copy(buf, data[off-x.starts[n]:])
		buf, off = buf[m:], off+int64(m)
	}
	return nil
}

// unpack gives a piece of the store. Who comes while it is read, waits for it.
func (x *Source) unpack(r Ref) ([]byte, error) {
	x.mu.Lock()
	k := slices.IndexFunc(x.cache, func(u *unpacked) bool { return u.hash == r.Hash })
	if k >= 0 {
		u := x.cache[k]
		x.cache = append(slices.Delete(x.cache, k, k+1), u)
		x.mu.Unlock()
		<-u.done
		return u.data, u.err
	}
	u := &unpacked{hash: r.Hash, size: int(r.Len), done: make(chan struct{})}
	x.cache = append(x.cache, u)
	for x.size += u.size; x.size > cacheSize && len(x.cache) > 1; x.cache = x.cache[1:] {
		x.size -= x.cache[0].size
	}
	x.mu.Unlock()
	u.data, u.err = x.fetch(r)
	if u.err != nil {
		x.forget(u)
	}
	close(u.done)
	return u.data, u.err
}

// forget has a piece read again by who wants it next: what went wrong may not
// happen twice.
func (x *Source) forget(u *unpacked) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if k := slices.Index(x.cache, u); k >= 0 {
		x.cache = slices.Delete(x.cache, k, k+1)
		x.size -= u.size
	}
}

func (x *Source) fetch(r Ref) ([]byte, error) {
	c, ok := x.codecs.Get().(*codec)
	if !ok {
		var err error
		if c, err = newCodec(NoPack); err != nil {
			return nil, err
		}
	}
	defer x.codecs.Put(c)
	data, _, err := x.s.read(c, r.Hash, r.Len)
	return slices.Clone(data), err
}

// Verify compares every piece with its hash, before anything depends on it.
func (x *Source) Verify(ctx context.Context, progress func(done, all int)) error {
	if x.Unchecked {
		return nil
	}
	r := &Report{}
	if _, err := x.s.checkPieces(ctx, []*Image{x.Image}, r, progress); err != nil {
		return fmt.Errorf("verify image %s: %w", x.Name, err)
	}
	if len(r.Broken) > 0 {
		return fmt.Errorf("image %s: %d of %d pieces are missing or broken, the first: %s: golden-serve check %s says what they hold", x.Name, len(r.Broken), r.Pieces, r.Broken[0], x.s.dir)
	}
	return nil
}

// Look sees whether all pieces are there and have the size that they were
// saved with, which takes a moment. Each one's hash is compared when it is
// read.
func (s *Store) Look(i *Image) error {
	seen := map[wire.Hash]bool{}
	var first error
	bad := 0
	for _, r := range i.Refs {
		if seen[r.Hash] {
			continue
		}
		seen[r.Hash] = true
		if err := s.look(r); err != nil {
			if bad++; first == nil {
				first = err
			}
		}
	}
	if bad > 0 {
		return fmt.Errorf("image %s: %d of %d pieces are missing or broken, the first is %w: golden-serve check %s says what they hold", i.Name, bad, len(seen), first, s.dir)
	}
	return nil
}

func (s *Store) look(r Ref) error {
	path := s.piecePath(r.Hash)
	name := path + zstdExt
	if r.Stored == r.Len {
		name = path
	}
	if st, err := os.Lstat(name); err == nil && st.Mode().IsRegular() && st.Size() == int64(r.Stored) {
		return nil
	}
	// A later save may have written it anew, and packed it another way.
	c, err := newCodec(NoPack)
	if err != nil {
		return err
	}
	defer c.close()
	_, _, err = s.read(c, r.Hash, r.Len)
	return err
}
