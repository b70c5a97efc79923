package saved

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/restic/chunker"
	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

// Where streams are cut: where their contents say, so that a file that grows
// changes the piece it is in and not all behind it. The polynomial is any that
// is irreducible; with another one nothing would be found again.
const (
	minPiece    = 256 << 10
	averageBits = 19 // 512 KiB after the first minPiece
	polynomial  = chunker.Pol(0x3DA3358B4DC173)
)

// Options are how to save.
type Options struct {
	Level    int           // zstd's; NoPack
	Progress func(Figures) // told now and then; nil: nobody
}

// Figures say how much was saved, in bytes and pieces.
type Figures struct {
	Total   int64 `json:"total"`  // of the image, as far as it is known
	Read    int64 `json:"read"`   // of these
	Pieces  int64 `json:"pieces"` // they are so many
	Added   int64 `json:"added"`  // of these, that weren't there
	Mended  int64 `json:"mended"` // of these, that were there, and broken
	Written int64 `json:"written"`
}

// Save saves a source as the image about.Name. Nothing is an image before this
// returns; an older one of that name is what it was until then. Pieces that an
// interrupted save has left are used. When all is read, last completes what is
// said about the image.
func (s *Store) Save(ctx context.Context, src chain.Source, about About, opt Options, last func(*About) error) (*Image, Figures, error) {
	if err := checkName(about.Name); err != nil {
		return nil, Figures{}, err
	}
	lock, err := s.lock()
	if err != nil {
		return nil, Figures{}, err
	}
	defer lock.Close()
	dir, err := os.Open(s.dir) // before anything is written: it is told of what the disk doesn't take
	if err != nil {
		return nil, Figures{}, fmt.Errorf("open images: %w", err)
	}
	defer dir.Close()
	if err := s.tidy(); err != nil {
		return nil, Figures{}, err
	}
	w := &saving{s: s, opt: opt, known: map[wire.Hash]*slot{}}
	i := &Image{About: about}
	err = w.all(ctx, src, i)
	if err == nil {
		err = last(&i.About)
	}
	if err == nil {
		err = s.finish(ctx, dir, i)
	}
	return i, w.figures(), err
}

// tidy makes the folders, and removes what was being written when an earlier
// save ended.
func (s *Store) tidy() error {
	if err := os.RemoveAll(filepath.Join(s.dir, tmpDir)); err != nil {
		return fmt.Errorf("tidy %s: %w", s.dir, err)
	}
	for _, d := range []string{tmpDir, piecesDir, imagesDir} {
		if err := os.Mkdir(filepath.Join(s.dir, d), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("make %s: %w", filepath.Join(s.dir, d), err)
		}
	}
	return nil
}

// finish makes the image one: when all of it is on the disk.
func (s *Store) finish(ctx context.Context, dir *os.File, i *Image) error {
	b, err := i.encode()
	if err != nil {
		return err
	}
	if _, err := decode(b); err != nil {
		return fmt.Errorf("BUG: image %s can't be read again: %w", i.Name, err)
	}
	tmp, err := s.writeTmp(b)
	if err != nil {
		return err
	}
	if err := syncAll(dir); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := os.Rename(tmp, s.imagePath(i.Name)); err != nil {
		return fmt.Errorf("save image %s: %w", i.Name, err)
	}
	return syncDir(filepath.Join(s.dir, imagesDir))
}

// saving is one Save at work.
//
//	streamReader ─▶ cut ─▶ jobs ─┬▶ hash, pack, write
//	                             └▶ hash, pack, write
type saving struct {
	s   *Store
	opt Options

	mu    sync.Mutex
	known map[wire.Hash]*slot // pieces that this save has met

	total, read, pieces, added, mended, written atomic.Int64
}

// slot is a piece of the store, as soon as done is closed.
type slot struct {
	done   chan struct{}
	stored int64
	err    error
}

func (w *saving) figures() Figures {
	return Figures{w.total.Load(), w.read.Load(), w.pieces.Load(), w.added.Load(), w.mended.Load(), w.written.Load()}
}

// all saves the streams, and those with what has changed meanwhile.
func (w *saving) all(ctx context.Context, src chain.Source, i *Image) error {
	streams := src.Streams()
	if err := w.streams(ctx, src, streams, i); err != nil {
		return err
	}
	settler, ok := src.(chain.Settler)
	if !ok {
		return nil
	}
	more, err := settler.Settle(ctx, nil)
	if err != nil {
		return fmt.Errorf("settle what has changed: %w", err)
	}
	return w.streams(ctx, src, more, i)
}

func (w *saving) streams(ctx context.Context, src chain.Source, streams []wire.Stream, i *Image) error {
	for _, s := range streams {
		if err := checkStream(s); err != nil {
			return err
		}
		w.total.Add(s.Bytes)
	}
	for _, s := range streams {
		refs, err := w.stream(ctx, src, s)
		if err != nil {
			return err
		}
		i.Streams = append(i.Streams, Stream{s, len(refs)})
		for _, r := range refs {
			i.Refs = append(i.Refs, *r)
		}
	}
	return nil
}

type job struct {
	data []byte
	ref  *Ref
}

func (w *saving) stream(ctx context.Context, src chain.Source, s wire.Stream) ([]*Ref, error) {
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	pool := sync.Pool{New: func() any { return new(make([]byte, 0, MaxPiece)) }}
	var refs []*Ref
	g.Go(func() error {
		defer close(jobs)
		in := openStream(ctx, src, s, func(n int) { w.read.Add(int64(n)) })
		defer in.close()
		cut := chunker.NewWithBoundaries(in, polynomial, minPiece, MaxPiece)
		cut.SetAverageBits(averageBits)
		for {
			c, err := cut.Next((*pool.Get().(*[]byte))[:0])
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			r := &Ref{Len: uint32(c.Length)}
			refs = append(refs, r)
			select {
			case jobs <- job{c.Data, r}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	})
	for range max(2, runtime.GOMAXPROCS(0)) {
		g.Go(func() error {
			c, err := newCodec(w.opt.Level)
			if err != nil {
				return err
			}
			defer c.close()
			for j := range jobs {
				if err := w.keep(c, j); err != nil {
					return err
				}
				pool.Put(&j.data)
			}
			return nil
		})
	}
	err := g.Wait()
	return refs, err
}

// keep stores a piece, or finds that this save has it already.
func (w *saving) keep(c *codec, j job) error {
	j.ref.Hash = blake3.Sum256(j.data)
	w.mu.Lock()
	x := w.known[j.ref.Hash]
	mine := x == nil
	if mine {
		x = &slot{done: make(chan struct{})}
		w.known[j.ref.Hash] = x
	}
	w.mu.Unlock()
	if mine {
		var what outcome
		x.stored, what, x.err = w.s.put(c, j.ref.Hash, j.data)
		w.count(what, x.stored)
		close(x.done)
	}
	<-x.done
	j.ref.Stored = uint32(x.stored)
	w.pieces.Add(1)
	if w.opt.Progress != nil {
		w.opt.Progress(w.figures())
	}
	return x.err
}

func (w *saving) count(what outcome, stored int64) {
	switch what {
	case added:
		w.added.Add(1)
		w.written.Add(stored)
	case mended:
		w.mended.Add(1)
		w.written.Add(stored)
	}
}
