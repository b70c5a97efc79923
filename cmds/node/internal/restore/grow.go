package restore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// ErrReplaced is ReadPiece's answer to a piece of which a part can't be read
// back: a patch has replaced a file that has a share in it.
var ErrReplaced = errors.New("a later patch has replaced what was in the piece")

// patch is files that golden has sent once more. It waits in files without a
// name, beside the tree, until Finish.
type patch struct {
	manifest, contents spooled
	*stream.Patch      // decoded by Finish
	segs               []stream.Segment
}

// spooled is a stream that is kept in a file.
type spooled struct {
	wire.Stream
	file *os.File
	got  []atomic.Bool
}

// which is the latest patch of an entry.
type which struct {
	*patch
	file int // index into Files
}

// Grow makes the patches those that golden announces (chain.Grower). streams
// are all, the tree's first. A golden that has been started again may announce
// others than before: then those are dropped.
func (t *Tree) Grow(streams []wire.Stream) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(streams) < 2 || len(streams)%2 != 0 || len(streams) > 2*(stream.MaxPatches+1) {
		return fmt.Errorf("restore tree: %d streams", len(streams))
	}
	byID := map[uint16]wire.Stream{}
	for _, s := range streams {
		byID[s.ID] = s
	}
	for _, s := range []wire.Stream{t.manifest, t.contents} {
		if byID[s.ID] != s {
			return fmt.Errorf("restore tree: stream %d was announced as %+v, and now as %+v", s.ID, s, byID[s.ID])
		}
	}
	for n := 1; 2*n < len(streams); n++ {
		m, c := stream.PatchIDs(n)
		if n <= len(t.patches) {
			if p := t.patches[n-1]; p.manifest.Stream == byID[m] && p.contents.Stream == byID[c] {
				continue
			}
			t.dropPatches(n - 1)
		}
		p, err := t.newPatch(byID, m, c)
		if err != nil {
			return fmt.Errorf("restore tree: patch %d: %w", n, err)
		}
		t.patches = append(t.patches, p)
	}
	t.dropPatches(len(streams)/2 - 1)
	return nil
}

// dropPatches keeps the first n patches only.
func (t *Tree) dropPatches(n int) {
	for _, p := range t.patches[min(n, len(t.patches)):] {
		p.close()
	}
	t.patches = t.patches[:min(n, len(t.patches))]
}

func (t *Tree) newPatch(byID map[uint16]wire.Stream, m, c uint16) (*patch, error) {
	p := &patch{manifest: spooled{Stream: byID[m]}, contents: spooled{Stream: byID[c]}}
	if a, b := p.manifest.Kind, p.contents.Kind; a != wire.PatchManifestStream || b != wire.PatchContentsStream {
		return nil, fmt.Errorf("streams %d and %d are of kinds %q and %q", m, c, a, b)
	}
	if err := errors.Join(checkStream(p.manifest.Stream), checkStream(p.contents.Stream)); err != nil {
		return nil, err
	}
	if n := p.manifest.Bytes; n == 0 || n > maxManifest {
		return nil, fmt.Errorf("manifest of %d bytes, at most %d", n, maxManifest)
	}
	for _, s := range []*spooled{&p.manifest, &p.contents} {
		s.got = make([]atomic.Bool, s.Pieces)
		var err error
		if s.file, err = t.spool(); err != nil {
			p.close()
			return nil, err
		}
	}
	return p, nil
}

func (p *patch) close() {
	for _, s := range []*spooled{&p.manifest, &p.contents} {
		if s.file != nil {
			s.file.Close()
		}
	}
}

// spool makes a file without a name on the target's own disk: a node may not
// have the memory for it.
func (t *Tree) spool() (*os.File, error) {
	const mode = 0o600
	fd, err := unix.Openat(t.root, ".", unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, mode)
	// What a file system or a kernel without O_TMPFILE answers (open(2)).
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOENT) {
		name := ".kamethod-" + rand.Text()
		fd, err = unix.Openat(t.root, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_RDWR|unix.O_CLOEXEC, mode)
		if err == nil {
			if err = unix.Unlinkat(t.root, name, 0); err != nil {
				unix.Close(fd)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("make a spool file in %s: %w", t.path, err)
	}
	return os.NewFile(uintptr(fd), "spool"), nil
}

// spooled is the stream with that number, nil if none was announced.
func (t *Tree) spooled(id uint16) *spooled {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := int(id)/2 - 1
	if n < 0 || n >= len(t.patches) {
		return nil
	}
	if id%2 == 0 {
		return &t.patches[n].manifest
	}
	return &t.patches[n].contents
}

func (s *spooled) put(piece uint32, data []byte) error {
	if err := checkPiece(s.Stream, piece, len(data)); err != nil {
		return err
	}
	if _, err := s.file.WriteAt(data, int64(piece)*int64(s.PieceSize)); err != nil {
		return fmt.Errorf("keep %s piece %d: %w", s.Kind, piece, err)
	}
	s.got[piece].Store(true)
	return nil
}

func (s *spooled) complete() error {
	for n := range s.got {
		if !s.got[n].Load() {
			return fmt.Errorf("%s piece %d is missing", s.Kind, n)
		}
	}
	return nil
}

// readPatches reads all patches, and nothing happens before all are right:
// then each file's entry is replaced by what its latest patch says.
func (t *Tree) readPatches(context.Context) error {
	for n, p := range t.patches {
		if err := p.decode(t.m.Entries); err != nil {
			return fmt.Errorf("finish %s: patch %d: %w", t.path, n+1, err)
		}
	}
	for _, p := range t.patches {
		for k := range p.Files {
			if x := &p.Files[k]; x.Part {
				t.parts[x.Base] = append(t.parts[x.Base], which{p, k})
			} else {
				t.latest[x.Base] = which{p, k}
			}
		}
	}
	for i, w := range t.latest {
		if x := &w.Files[w.file]; !x.Removed {
			e := x.File
			e.Name, e.Parent, e.Target = t.m.Entries[i].Name, t.m.Entries[i].Parent, -1
			t.m.Entries[i], t.old[i] = e, true
		}
	}
	return nil
}

func (p *patch) decode(entries []stream.Entry) error {
	if err := errors.Join(p.manifest.complete(), p.contents.complete()); err != nil {
		return err
	}
	b := make([]byte, p.manifest.Bytes)
	if _, err := p.manifest.file.ReadAt(b, 0); err != nil {
		return fmt.Errorf("read its manifest: %w", err)
	}
	var err error
	if p.Patch, err = stream.DecodePatch(b, entries); err != nil {
		return err
	}
	if p.Contents != p.contents.Bytes {
		return fmt.Errorf("contents are %d bytes, %d are announced", p.Contents, p.contents.Bytes)
	}
	p.segs, err = p.Segments()
	return err
}

// patchFile gives a file the contents of its latest patch, in its place: its
// other names follow.
func (t *Tree) patchFile(h *held, i int32, w which) error {
	dir, err := h.open(t.m.Entries[i].Parent)
	if err != nil {
		return err
	}
	fd, err := t.openFile(dir, i)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Ftruncate(fd, 0); err != nil {
		return fmt.Errorf("truncate %s: %w", t.name(i), err)
	}
	if err := t.shape(fd, i); err != nil {
		return err
	}
	if err := t.copyPatch(fd, &t.m.Entries[i], w); err != nil {
		return err
	}
	return t.setOpen(fd, i)
}

// patchParts gives a file the ranges that void pieces have taken from it, if
// it lacks anything.
func (t *Tree) patchParts(h *held, i int32, parts []which) error {
	if t.made[i] && !t.old[i] && t.left[i] <= 0 {
		return nil
	}
	dir, err := h.open(t.m.Entries[i].Parent)
	if err != nil {
		return err
	}
	fd, err := t.openFile(dir, i)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for _, w := range parts {
		if err := t.copyPatch(fd, &w.Files[w.file].File, w); err != nil {
			return err
		}
	}
	return t.setOpen(fd, i)
}

// copyPatch copies the data of e from a patch to where it belongs.
func (t *Tree) copyPatch(fd int, e *stream.Entry, w which) error {
	from := e.DataOff
	buf := make([]byte, 256<<10)
	for _, x := range e.Data() {
		if err := copyRange(fd, int(w.contents.file.Fd()), x.Off, from, x.Len, buf); err != nil {
			return fmt.Errorf("patch %s: %w", t.name(w.Files[w.file].Base), err)
		}
		from += x.Len
	}
	return nil
}

// patched says whether the patches have all of a file that a void piece had
// of it.
func (t *Tree) patched(i int32, from, to int64) bool {
	if _, ok := t.latest[i]; ok {
		return true
	}
	var xs []stream.Extent
	for _, w := range t.parts[i] {
		xs = append(xs, w.Files[w.file].File.Data()...)
	}
	slices.SortFunc(xs, func(a, b stream.Extent) int { return cmp.Compare(a.Off, b.Off) })
	for _, x := range xs {
		if x.Off <= from {
			from = max(from, x.Off+x.Len)
		}
	}
	return from >= to
}

// removeGone removes the names that golden has lost since.
func (t *Tree) removeGone(context.Context) error {
	h := t.hold()
	defer h.close()
	for i, w := range t.latest {
		if !w.Files[w.file].Removed {
			continue
		}
		dir, err := h.open(t.m.Entries[i].Parent)
		if err != nil {
			return err
		}
		err = unix.Unlinkat(dir, t.m.Entries[i].Name, 0)
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", t.name(i), err)
		}
	}
	return nil
}

// removed says whether the entry's name is gone.
func (t *Tree) removed(i int32) bool {
	w, ok := t.latest[i]
	return ok && w.Files[w.file].Removed
}

// readBack reads a piece of a patch.
func (t *Tree) readBack(s *spooled, piece uint32, buf []byte) error {
	if err := checkPiece(s.Stream, piece, len(buf)); err != nil {
		return err
	}
	off := int64(piece) * int64(s.PieceSize)
	if s.Kind == wire.PatchManifestStream {
		if _, err := s.file.ReadAt(buf, off); err != nil {
			return fmt.Errorf("read %s piece %d: %w", s.Kind, piece, err)
		}
		return nil
	}
	p := t.patches[s.ID/2-1]
	segs := make([]stream.Segment, len(p.segs))
	for k, x := range p.segs {
		base := p.Files[x.Entry].Base
		w, ok := t.latest[base]
		mine := !ok && p.Files[x.Entry].Part || w.patch == p && w.file == int(x.Entry)
		if x.Off < off+int64(len(buf)) && x.Off+x.Len > off && !mine {
			return ErrReplaced
		}
		x.Entry = base
		segs[k] = x
	}
	return t.readFiles(segs, off, buf)
}
