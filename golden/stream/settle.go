package stream

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/kamethod/kamethod/golden/wire"
)

// Settle makes a patch of all files that aren't as they were sent, each as
// one consistent version, and returns the patch's streams: none if there is
// no such file. The first time, and whenever void is empty, those are the
// files that have changed. Of those that have a part in void, pieces that can't
// be read again as they were, it takes the changed ones, and that part of the
// others, unless an earlier patch has them. The copies are kept until Close.
func (t *Tree) Settle(ctx context.Context, void []wire.Range) ([]wire.Stream, error) {
	t.settling.Lock()
	defer t.settling.Unlock()
	if len(void) == 0 {
		t.countDirs()
	}
	needs, err := t.unsettled(void)
	if err != nil || len(needs) == 0 {
		return nil, err
	}
	spool, err := t.openSpool()
	if err != nil {
		return nil, fmt.Errorf("settle: %w", err)
	}
	streams, err := t.settle(ctx, needs, void, spool)
	if err != nil {
		spool.Close()
		return nil, fmt.Errorf("settle: %w", err)
	}
	return streams, nil
}

// need is what of an entry a patch has to have: all of it, or some ranges.
type need struct {
	whole bool
	parts []Extent
}

// unsettled lists the entries of which a patch is needed.
func (t *Tree) unsettled(void []wire.Range) (map[int32]*need, error) {
	needs := map[int32]*need{}
	changed := map[int32]bool{}
	for _, c := range t.Changed() {
		changed[c.Entry] = true
		if len(void) == 0 || len(t.Streams()) == 2 {
			needs[c.Entry] = &need{whole: true}
		}
	}
	for n := range t.copied {
		changed[n] = true
	}
	for _, r := range void {
		if r.Stream != ContentsID {
			return nil, fmt.Errorf("settle: piece %d of stream %d is not what it was, and no file is the reason", r.From, r.Stream)
		}
		for p := r.From; p < r.To; p++ {
			if !t.voided[p] {
				t.lost(p, changed, needs)
			}
		}
	}
	return needs, nil
}

// lost adds what is lost with a void piece: the files that have changed, and
// its share of those that haven't. If none has, one was written to without
// any sign (by mmap), and who knows which.
func (t *Tree) lost(piece uint32, changed map[int32]bool, needs map[int32]*need) {
	s := t.Streams()[ContentsID]
	off := int64(piece) * int64(s.PieceSize)
	end := off + int64(s.Len(piece))
	first := FindSegment(t.segs, off)
	reason := false
	for i := first; i < len(t.segs) && t.segs[i].Off < end; i++ {
		reason = reason || changed[t.segs[i].Entry]
	}
	for i := first; i < len(t.segs) && t.segs[i].Off < end; i++ {
		g := t.segs[i]
		if _, ok := t.copied[g.Entry]; ok {
			continue
		}
		x := needs[g.Entry]
		if x == nil {
			x = new(need)
			needs[g.Entry] = x
		}
		from, to := max(off, g.Off), min(end, g.Off+g.Len)
		x.parts = addExtent(x.parts, Extent{g.Pos + from - g.Off, to - from})
		x.whole = x.whole || changed[g.Entry] || !reason
	}
}

// openSpool opens a file without a name.
func (t *Tree) openSpool() (*os.File, error) {
	f, err := os.CreateTemp(t.Spool, "kamethod-*") // mode 0600; "" is os.TempDir
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (t *Tree) settle(ctx context.Context, needs map[int32]*need, void []wire.Range, spool *os.File) ([]wire.Stream, error) {
	c := copier{t: t, spool: spool, patch: new(Patch), versions: map[int32]version{}, moving: map[int32]string{}}
	for _, n := range slices.Sorted(maps.Keys(needs)) {
		if err := c.add(ctx, n, needs[n]); err != nil {
			return nil, fmt.Errorf("copy /%s: %w", t.m.Path(n), err)
		}
	}
	c.patch.Contents = c.end
	manifest, err := c.patch.encode()
	if err != nil {
		return nil, err
	}
	return t.announce(&c, manifest, void)
}

// announce makes the copies part of what the tree is.
func (t *Tree) announce(c *copier, manifest []byte, void []wire.Range) ([]wire.Stream, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := range c.versions {
		delete(t.moving, n)
	}
	maps.Copy(t.moving, c.moving)
	if len(c.patch.Files) == 0 {
		return nil, c.spool.Close()
	}
	round := len(t.patches) + 1
	if round > MaxPatches {
		return nil, fmt.Errorf("the tree has changed %d times while it was sent", round)
	}
	m, d := PatchIDs(round)
	streams := []wire.Stream{
		wire.NewStream(m, wire.PatchManifestStream, int64(len(manifest))),
		wire.NewStream(d, wire.PatchContentsStream, c.end),
	}
	t.streams = append(slices.Clone(t.streams), streams...)
	t.patches = append(slices.Clone(t.patches), &patched{manifest, c.spool})
	maps.Copy(t.copied, c.versions)
	for _, r := range void {
		for p := r.From; p < r.To; p++ {
			t.voided[p] = true
		}
	}
	for _, f := range c.patch.Files {
		if f.Removed {
			t.removed = append(t.removed, "/"+t.m.Path(f.Base))
		}
	}
	return streams, nil
}

// Removed names the files that were there when the tree was scanned and are
// gone since; Settle has the clones lose them too.
func (t *Tree) Removed() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.removed)
}

// Torn names the files that the clones don't have as golden has or had them,
// and why: what never stood still long enough to be copied, what there was no
// room to copy, and what the disk couldn't read.
func (t *Tree) Torn() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []string
	for _, n := range slices.Sorted(maps.Keys(t.moving)) {
		out = append(out, fmt.Sprintf("/%s: %s", t.m.Path(n), t.moving[n]))
	}
	for _, n := range slices.Sorted(maps.Keys(t.bad)) {
		out = append(out, fmt.Sprintf("/%s: %s", t.m.Path(n), badRanges(t.bad[n])))
	}
	return out
}

func (t *Tree) unreadable(entry int32, x Extent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bad[entry] = addExtent(t.bad[entry], x)
}
