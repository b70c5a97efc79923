package golden

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/kamethod/kamethod/golden/internal/capture"
	"github.com/kamethod/kamethod/golden/internal/saved"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// SavedOriginal is a saved image in place of the golden machine. Of an
// Original it takes what can still be said: Descs, Layout, Table, Matches,
// Passphrases, BootCode out of files, Hostname, Images and, where its Kind
// isn't empty, Loader.
type SavedOriginal struct {
	Dir, Name string // Name: empty for the only one
	NoCheck   bool   // its pieces aren't compared with their hashes before disks are erased, only when they are sent
	Original
}

// OpenSaved opens a saved image as a source; without a name the only one. All
// its pieces are there, as far as a look tells.
func OpenSaved(dir, name string) (*saved.Source, error) {
	s, err := saved.Open(dir)
	if err != nil {
		return nil, err
	}
	if name, err = s.Choose(name); err != nil {
		return nil, err
	}
	i, err := s.Load(name)
	if err != nil {
		return nil, err
	}
	if err := s.Look(i); err != nil {
		return nil, err
	}
	return s.NewSource(i), nil
}

// DescribeSaved is Describe for a saved image.
func DescribeSaved(_ context.Context, o SavedOriginal, log *slog.Logger) (*Described, error) {
	if err := checkHostname(o.Hostname); err != nil {
		return nil, err
	}
	hints, err := capture.ParseHints(o.Matches)
	if err != nil {
		return nil, err
	}
	src, err := OpenSaved(o.Dir, o.Name)
	if err != nil {
		return nil, err
	}
	src.Unchecked = o.NoCheck
	log.Info("deploying a saved image", "image", src.Name, "saved", src.Saved, "of", src.Host, "root", src.Root, "verdict", src.Verdict)
	programs, err := stage2Programs(o.Images)
	if err != nil {
		return nil, err
	}
	m, err := capture.Again(src.Plan, capture.LoaderFacts(src.Facts), capture.Options{
		Descs: o.Descs, Layout: o.Layout, Table: o.Table, Loader: o.Loader, Passphrases: o.Passphrases, Programs: programs, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", src.Name, err)
	}
	m.Plan.Identity.Hostname = o.Hostname
	if err := needOf(src, &m.Plan); err != nil {
		return nil, fmt.Errorf("image %s: %w", src.Name, err)
	}
	d := &Described{Plan: m.Plan, Notes: slices.Concat(src.Notes, m.Notes), saved: src}
	if len(src.Torn()) > 0 {
		d.Notes = append(d.Notes, fmt.Sprintf("the image is %s: %s", src.Verdict, tornText(src.Torn())))
	}
	if err := o.addBootCode(&d.Plan); err != nil {
		return nil, err
	}
	return d, capture.TakeHints(d.Plan.Disks, hints)
}

// needOf tells a plan how much goes into each file system: another layout may
// have others than the machine had.
func needOf(src *saved.Source, p *wire.Plan) error {
	i := slices.IndexFunc(src.Image.Streams, func(s saved.Stream) bool { return s.Kind == wire.ManifestStream })
	if i < 0 {
		return nil
	}
	s := src.Image.Streams[i]
	b := make([]byte, 0, s.Bytes)
	for n := range s.Pieces {
		b = b[:len(b)+s.Len(n)]
		if err := src.ReadPiece(s.ID, n, b[len(b)-s.Len(n):]); err != nil {
			return err
		}
	}
	m, err := stream.Decode(b)
	if err != nil {
		return err
	}
	var mounts []string
	for k := range p.Filesystems {
		f := &p.Filesystems[k]
		f.NeedBytes, f.NeedInodes = 0, 0
		mounts = append(mounts, f.MountPoints()...)
	}
	need(p, m.Usage(mounts))
	return nil
}
