package saved

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/kamethod/kamethod/golden/wire"
)

// Report is what a check has found.
type Report struct {
	Images  []ImageReport `json:"images"`
	Pieces  int           `json:"pieces"` // that the images have, each counted once
	Bytes   int64         `json:"bytes"`  // of their files
	Broken  []string      `json:"broken,omitempty"`
	Unused  int           `json:"unused"` // pieces that no image has
	Garbage int64         `json:"unused_bytes"`
}

// ImageReport is one image in it.
type ImageReport struct {
	Name     string   `json:"name"`
	Error    string   `json:"error,omitempty"` // of its manifest; then nothing else is known
	Bytes    int64    `json:"bytes"`
	Verdict  string   `json:"verdict,omitempty"`
	Pieces   int      `json:"pieces"`
	Broken   int      `json:"broken,omitempty"`   // of these
	Affected []string `json:"affected,omitempty"` // what of the image is lost with them
	More     int      `json:"more,omitempty"`     // and so much besides
}

// Whole says whether all that was checked is as it was saved.
func (r *Report) Whole() bool {
	return len(r.Broken) == 0 && !slices.ContainsFunc(r.Images, func(i ImageReport) bool { return i.Error != "" || i.Broken > 0 || len(i.Affected) > 0 })
}

// Check compares every piece of the image of that name, or of all, with its
// hash, and reads the manifests.
func (s *Store) Check(ctx context.Context, name string, progress func(done, all int)) (*Report, error) {
	names, err := s.Names()
	if err != nil {
		return nil, err
	}
	if name != "" || len(names) == 0 {
		if name, err = s.Choose(name); err != nil {
			return nil, err
		}
		names = []string{name}
	}
	r := &Report{}
	var images []*Image
	for _, n := range names {
		i, err := s.Load(n)
		x := ImageReport{Name: n}
		if err != nil {
			x.Error = err.Error()
		} else {
			x.Bytes, x.Verdict, x.Pieces = i.Bytes(), i.Verdict, len(i.Refs)
		}
		r.Images, images = append(r.Images, x), append(images, i)
	}
	broken, err := s.checkPieces(ctx, images, r, progress)
	if err != nil {
		return nil, err
	}
	for k, i := range images {
		if i != nil {
			s.judge(i, broken, &r.Images[k])
		}
	}
	if name == "" && !slices.Contains(images, nil) {
		err = s.countUnused(images, r)
	}
	return r, err
}

// checkPieces reads all pieces, and returns the broken ones.
func (s *Store) checkPieces(ctx context.Context, images []*Image, r *Report, progress func(done, all int)) (map[wire.Hash]bool, error) {
	var all []Ref
	seen := map[wire.Hash]bool{}
	for _, i := range images {
		if i == nil {
			continue
		}
		for _, ref := range i.Refs {
			if !seen[ref.Hash] {
				seen[ref.Hash] = true
				all = append(all, ref)
			}
		}
	}
	r.Pieces = len(all)
	broken := map[wire.Hash]bool{}
	var mu sync.Mutex
	done := 0
	g, ctx := errgroup.WithContext(ctx)
	work := make(chan Ref)
	g.Go(func() error {
		defer close(work)
		for _, ref := range all {
			select {
			case work <- ref:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range max(2, runtime.GOMAXPROCS(0)) {
		g.Go(func() error {
			c, err := newCodec(NoPack)
			if err != nil {
				return err
			}
			defer c.close()
			for ref := range work {
				_, stored, err := s.read(c, ref.Hash, ref.Len)
				mu.Lock()
				r.Bytes += stored
				if err != nil {
					broken[ref.Hash] = true
					r.Broken = append(r.Broken, err.Error())
				}
				if done++; progress != nil {
					progress(done, len(all))
				}
				mu.Unlock()
			}
			return nil
		})
	}
	err := g.Wait()
	slices.Sort(r.Broken)
	return broken, err
}

// judge says what an image lacks.
func (s *Store) judge(i *Image, broken map[wire.Hash]bool, x *ImageReport) {
	for _, ref := range i.Refs {
		if broken[ref.Hash] {
			x.Broken++
		}
	}
	names := s.affected(i, broken)
	x.Affected = names[:min(len(names), maxAffected)]
	x.More = len(names) - len(x.Affected)
}

// maxAffected is how many files a report names.
const maxAffected = 1000

// countUnused counts what no image has: of an interrupted save, or of an image
// that was replaced.
func (s *Store) countUnused(images []*Image, r *Report) error {
	used := map[string]bool{}
	for _, i := range images {
		for _, ref := range i.Refs {
			used[filepath.Base(s.piecePath(ref.Hash))] = true
		}
	}
	return s.eachPiece(func(path string, st fs.FileInfo) error {
		if !used[strings.TrimSuffix(filepath.Base(path), zstdExt)] {
			r.Unused++
			r.Garbage += st.Size()
		}
		return nil
	})
}

// eachPiece calls f for every file among the pieces.
func (s *Store) eachPiece(f func(path string, st fs.FileInfo) error) error {
	err := filepath.WalkDir(filepath.Join(s.dir, piecesDir), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		st, err := e.Info()
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(path, st)
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("list pieces: %w", err)
	}
	return nil
}
