package golden

import (
	"context"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/kamethod/kamethod/golden/internal/capture"
	"github.com/kamethod/kamethod/golden/internal/saved"
	"github.com/kamethod/kamethod/golden/wire"
)

// DefaultImage is the name of an image for which nobody gives one.
const DefaultImage = "golden"

// SaveConfig says where and how a described machine is saved.
type SaveConfig struct {
	Dir      string
	Name     string // of the image; empty: DefaultImage
	Root     string // that was described
	Level    int    // zstd's, 1 to 4; 0: nothing is packed
	Progress func(SaveFigures)
}

// SaveFigures say how far a save is, or how it came out.
type SaveFigures = saved.Figures

// Saved is how a save came out.
type Saved struct {
	Dir     string   `json:"dir"`
	Name    string   `json:"name"`
	ID      string   `json:"id"`
	Bytes   int64    `json:"bytes"`
	Seconds float64  `json:"seconds"`
	Verdict Verdict  `json:"verdict"`
	Reread  int      `json:"reread,omitempty"`
	Torn    []string `json:"torn,omitempty"`

	SaveFigures `json:"figures"`
}

// Summary is the verdict in a line.
func (s Saved) Summary() string {
	return Result{Verdict: s.Verdict, Reread: s.Reread, Torn: s.Torn}.Summary()
}

// PrepareSave makes the folder for images, or opens it, so that what is wrong
// with it is known before anything is read. It returns what of the golden root
// must be left out, as the folder itself is there; empty: nothing.
func PrepareSave(dir, root string) (exclude string, err error) {
	s, err := saved.Create(dir)
	if err == nil {
		err = s.Free()
	}
	if err != nil {
		return "", err
	}
	if dir, err = realPath(dir); err != nil {
		return "", err
	}
	if root, err = realPath(root); err != nil {
		return "", err
	}
	rel, err := filepath.Rel(root, dir)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", nil
	}
	return filepath.Join("/", rel), nil
}

func realPath(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.EvalSymlinks(path)
}

// Save writes what was described into a folder. There is no image before it
// returns without an error.
func (d *Described) Save(ctx context.Context, c SaveConfig) (Saved, error) {
	store, err := saved.Create(c.Dir)
	if err != nil {
		return Saved{}, err
	}
	if c.Name == "" {
		c.Name = DefaultImage
	}
	begun := time.Now()
	about := saved.About{
		Name: c.Name, Root: c.Root, Saved: begun.UTC().Truncate(time.Second), Program: version(), Wire: wire.Version,
		Plan: d.bare(), Facts: saved.Facts(capture.LookForLoaders(c.Root, d.Plan.Excludes)), Notes: d.Notes,
	}
	about.Host, _ = os.Hostname()
	src := d.Source()
	f := &ferry{src: src}
	image, figures, err := store.Save(ctx, src, about, saved.Options{Level: c.Level, Progress: c.Progress}, func(a *saved.About) error {
		v, reread := f.judge()
		a.Verdict, a.Reread, a.Torn = string(v), reread, f.torn()
		if m, ok := src.(interface{ Moved() (files, dirs int) }); ok {
			_, a.MovedDirs = m.Moved()
		}
		return nil
	})
	s := Saved{Dir: c.Dir, Name: c.Name, Seconds: time.Since(begun).Seconds(), SaveFigures: figures}
	if image != nil {
		s.ID, s.Bytes = image.ID, image.Bytes()
		s.Verdict, s.Reread, s.Torn = Verdict(image.Verdict), image.Reread, image.Torn
	}
	return s, err
}

// bare is the plan without what isn't the image's: who the clones are, what
// runs on them and what their containers are opened with is said when they are
// made.
func (d *Described) bare() wire.Plan {
	p := d.Plan
	p.Secrets, p.Hooks, p.Update = nil, nil, false
	p.Identity = wire.Identity{}
	p.Disks, p.Filesystems = slices.Clone(p.Disks), slices.Clone(p.Filesystems)
	return p
}

// version is this program's, as the Go tool knows it.
func version() string {
	b, ok := debug.ReadBuildInfo()
	if !ok {
		return "kamethod"
	}
	v := "kamethod " + b.Main.Version
	for _, s := range b.Settings {
		if s.Key == "vcs.revision" {
			v += " " + s.Value
		}
	}
	return v
}

// CheckReport is what a check of saved images has found.
type CheckReport = saved.Report

// ErrNoImages is a folder that holds no images, and isn't meant to.
var ErrNoImages = saved.ErrNoStore

// CheckImages compares the pieces of an image, or of all in the folder, with
// their hashes.
func CheckImages(ctx context.Context, dir, name string, progress func(done, all int)) (*CheckReport, error) {
	s, err := saved.Open(dir)
	if err != nil {
		return nil, err
	}
	return s.Check(ctx, name, progress)
}
