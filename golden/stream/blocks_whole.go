package stream

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/zeebo/blake3"

	"github.com/kamethod/kamethod/golden/wire"
)

// Whole is all that a clone gets as one source: a tree of files, and the
// blocks of partitions beside it. Either may be missing.
//
//	manifest, maps ─▶ contents ─▶ blocks ─▶ patches
//
// What the rest is known by comes first.
type Whole struct {
	tree   *Tree // nil: none
	blocks []*Blocks
	first  []wire.Stream // all but patches
}

// NewWhole joins them. The blocks are those of a plan, all, in its order.
func NewWhole(tree *Tree, blocks []*Blocks) (*Whole, error) {
	w := &Whole{tree: tree, blocks: blocks}
	var data []wire.Stream
	if tree != nil {
		s := tree.Streams()
		w.first, data = append(w.first, s[ManifestID]), append(data, s[ContentsID])
	}
	for n, b := range blocks {
		s := b.Streams()
		if id, _ := BlockIDs(n); s[0].ID != id {
			return nil, fmt.Errorf("BUG: the blocks of %s are stream %d, want %d", s[0].Name, s[0].ID, id)
		}
		w.first, data = append(w.first, s[0]), append(data, s[1])
	}
	w.first = append(w.first, data...)
	return w, nil
}

// Streams announces all, the patches that Settle has made last.
func (w *Whole) Streams() []wire.Stream {
	out := w.first[:len(w.first):len(w.first)]
	if w.tree != nil {
		out = append(out, w.tree.Streams()[2:]...)
	}
	return out
}

// ReadPiece fills buf with a piece.
func (w *Whole) ReadPiece(id uint16, piece uint32, buf []byte) error {
	n, ok := IsBlocks(id)
	switch {
	case !ok && w.tree != nil:
		return w.tree.ReadPiece(id, piece, buf)
	case !ok || n >= len(w.blocks):
		return fmt.Errorf("read piece %d: no stream %d", piece, id)
	}
	return w.blocks[n].ReadPiece(id, piece, buf)
}

// Settle makes patches of files that have changed (Tree.Settle). There is none
// for blocks: who has some as they were has no use for others as they are.
func (w *Whole) Settle(ctx context.Context, void []wire.Range) ([]wire.Stream, error) {
	for _, r := range void {
		if n, ok := IsBlocks(r.Stream); ok && n < len(w.blocks) {
			return nil, fmt.Errorf("the blocks of %s are written to while they are sent, piece %d: unmount it, or mount it read-only", w.blocks[n].Name(), r.From)
		}
	}
	if w.tree == nil {
		return nil, nil
	}
	return w.tree.Settle(ctx, void)
}

// Torn tells what isn't sent as it should be; none is good.
func (w *Whole) Torn() []string {
	var out []string
	if w.tree != nil {
		out = w.tree.Torn()
	}
	for _, b := range w.blocks {
		out = append(out, b.Torn()...)
	}
	return out
}

// Digest names what is sent.
func (w *Whole) Digest() string {
	h := blake3.New()
	if w.tree != nil {
		fmt.Fprintln(h, w.tree.Digest())
	}
	for _, b := range w.blocks {
		fmt.Fprintln(h, b.Digest())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Close closes the blocks. The tree is its owner's to close.
func (w *Whole) Close() error {
	var err error
	for _, b := range w.blocks {
		err = errors.Join(err, b.Close())
	}
	return err
}
