package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// Whole is the sink of all that a clone gets: files, and the blocks of
// partitions beside them. Either may be missing.
type Whole struct {
	Tree   *Tree // nil: no files come
	blocks []*Blocks
	first  []wire.Stream // announced in the beginning, but patches
}

// NewWhole prepares to take the streams announced: the files go below root,
// each of the plan's blocks to the device that the node has for it.
func NewWhole(root string, streams []wire.Stream, plan wire.Plan, made wire.DiskResult, opt Options) (*Whole, error) {
	w := &Whole{}
	tree, blocks := split(streams)
	byID := map[uint16]wire.Stream{}
	for _, s := range blocks {
		byID[s.ID] = s
	}
	if len(blocks) != len(byID) || len(blocks) != 2*len(plan.Blocks) || len(made.Blocks) != len(plan.Blocks) {
		return nil, fmt.Errorf("restore: %d streams of blocks for %d partitions and %d devices", len(blocks), len(plan.Blocks), len(made.Blocks))
	}
	for n, b := range plan.Blocks {
		id, data := stream.BlockIDs(n)
		x, err := NewBlocks(byID[id], byID[data], b, made.Blocks[n], opt.Update)
		if err != nil {
			return nil, err
		}
		w.blocks = append(w.blocks, x)
	}
	if len(tree) > 0 || len(blocks) == 0 {
		var err error
		if w.Tree, err = NewTree(root, tree, opt); err != nil {
			return nil, err
		}
	}
	w.first = blocks
	return w, nil
}

// split takes the streams of a tree and those of blocks apart.
func split(streams []wire.Stream) (tree, blocks []wire.Stream) {
	for _, s := range streams {
		if _, ok := stream.IsBlocks(s.ID); ok {
			blocks = append(blocks, s)
		} else {
			tree = append(tree, s)
		}
	}
	return tree, blocks
}

// Put takes a piece.
func (w *Whole) Put(id uint16, piece uint32, data []byte) error {
	n, ok := stream.IsBlocks(id)
	switch {
	case ok && n < len(w.blocks):
		return w.blocks[n].Put(id, piece, data)
	case !ok && w.Tree != nil:
		return w.Tree.Put(id, piece, data)
	}
	return fmt.Errorf("put piece %d: no stream %d", piece, id)
}

// Grow takes further streams: patches of files (chain.Grower).
func (w *Whole) Grow(streams []wire.Stream) error {
	tree, blocks := split(streams)
	if !slices.Equal(blocks, w.first) {
		return errors.New("restore: golden announces other blocks than before")
	}
	if w.Tree == nil {
		if len(tree) > 0 {
			return fmt.Errorf("restore: golden announces files, %d streams", len(tree))
		}
		return nil
	}
	return w.Tree.Grow(tree)
}

// Held tells of what is there, of the files first (chain.Holder).
func (w *Whole) Held(ctx context.Context, tell func(stream uint16, piece uint32, h wire.Hash)) error {
	if w.Tree != nil {
		if err := w.Tree.Held(ctx, tell); err != nil {
			return err
		}
	}
	for _, b := range w.blocks {
		if err := b.Held(ctx, tell); err != nil {
			return err
		}
	}
	return nil
}

// Finish puts everything in its place and waits until it is on the disk.
func (w *Whole) Finish(ctx context.Context) error {
	for _, b := range w.blocks {
		if err := b.Finish(ctx); err != nil {
			return err
		}
	}
	if w.Tree != nil {
		return w.Tree.Finish(ctx)
	}
	return nil
}

// Warnings are the tree's.
func (w *Whole) Warnings() []Warning {
	if w.Tree == nil {
		return nil
	}
	return w.Tree.Warnings()
}

// Close lets go of everything.
func (w *Whole) Close() error {
	var err error
	for _, b := range w.blocks {
		err = errors.Join(err, b.Close())
	}
	if w.Tree != nil {
		err = errors.Join(err, w.Tree.Close())
	}
	return err
}
