package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/google/renameio/v2"
)

// ManifestName is the manifest's name below Config.Out.
const ManifestName = "manifest.json"

// Manifest says what a Build made. It holds no time and no path of the
// machine, so equal images have equal manifests.
type Manifest struct {
	Kernel   KernelEntry  `json:"kernel"`
	Files    []FileEntry  `json:"files"`
	Images   []ImageEntry `json:"images"`
	Warnings []string     `json:"warnings,omitempty"`
}

// KernelEntry says which kernel it is.
type KernelEntry struct {
	Release string `json:"release"`
	Origin  string `json:"origin"`
}

// FileEntry is one file below Config.Out.
type FileEntry struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	Goal   int64  `json:"goal,omitempty"`
}

// ImageEntry says what is in an image.
type ImageEntry struct {
	Name            string   `json:"name"`
	Format          Format   `json:"format"`
	Entries         int      `json:"entries"`
	Commands        []string `json:"commands"`
	Programs        []string `json:"programs,omitempty"`
	Modules         []string `json:"modules"`
	FirmwareMissing []string `json:"firmware_missing,omitempty"`
	Base            string   `json:"base,omitempty"`
	Collisions      []string `json:"collisions,omitempty"` // what ours took the place of
}

func (m *Manifest) write(dir string) error {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return renameio.WriteFile(filepath.Join(dir, ManifestName), append(b, '\n'), 0o644)
}

// Table prints the files, and for each with a goal whether it is met.
func (m *Manifest) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "FILE\tBYTES\tSHA256")
	for _, f := range m.Files {
		fmt.Fprintf(tw, "%s\t%d\t%s\n", f.Name, f.Size, f.SHA256)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for _, f := range m.Files {
		if f.Goal > 0 && f.Size <= f.Goal {
			fmt.Fprintf(w, "%s meets its goal of %d bytes\n", f.Name, f.Goal)
		} else if f.Goal > 0 {
			fmt.Fprintf(w, "warning: %s misses its goal of %d bytes by %d\n", f.Name, f.Goal, f.Size-f.Goal)
		}
	}
	return nil
}

// result makes one file below Out: under a temporary name, then renamed, so
// that a server never gives out half a file.
func (r *run) result(name string, goal int64, write func(tmp string) error) error {
	final := filepath.Join(r.Out, name)
	if err := os.MkdirAll(filepath.Dir(final), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	tmp := filepath.Join(filepath.Dir(final), "."+filepath.Base(final)+".new")
	if err := os.Remove(tmp); err != nil && !os.IsNotExist(err) {
		return err
	}
	defer os.Remove(tmp)
	if err := write(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o644); err != nil {
		return err
	}
	entry, err := describe(tmp)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, final); err != nil {
		return fmt.Errorf("put %s in place: %w", name, err)
	}
	entry.Name, entry.Goal = name, goal
	r.manifest.Files = append(r.manifest.Files, entry)
	if goal > 0 && entry.Size > goal {
		r.warn("%s has %d bytes, %d more than its goal", name, entry.Size, entry.Size-goal)
	}
	return nil
}

// sumLine is a result's hash as sha256sum(1) prints it.
func (m *Manifest) sumLine(name string) ([]byte, error) {
	for _, f := range m.Files {
		if f.Name == name {
			return fmt.Appendf(nil, "%s  %s\n", f.SHA256, filepath.Base(name)), nil
		}
	}
	return nil, fmt.Errorf("hash of %s: it isn't made yet", name)
}

func (r *run) treeFile(ctx context.Context, f TreeFile) error {
	from, err := r.source(ctx, f)
	if err != nil && !f.Optional {
		return err
	}
	if err != nil {
		if f.Package != "" {
			r.warn("no %s: %v", f.Name, err)
		}
		return nil
	}
	return r.result(f.Name, 0, func(tmp string) error {
		switch {
		case f.Of != "":
			return linkOrCopy(filepath.Join(r.Out, f.Of), tmp)
		case f.From != "":
			return copyFile(from, tmp)
		case f.SumOf != "":
			line, err := r.manifest.sumLine(f.SumOf)
			if err != nil {
				return err
			}
			return os.WriteFile(tmp, line, 0o644)
		}
		return os.WriteFile(tmp, f.Data, 0o644)
	})
}

func describe(file string) (FileEntry, error) {
	f, err := os.Open(file)
	if err != nil {
		return FileEntry{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return FileEntry{}, fmt.Errorf("read %s: %w", file, err)
	}
	return FileEntry{Size: n, SHA256: hex.EncodeToString(h.Sum(nil))}, nil
}

func linkOrCopy(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	return copyFile(from, to) // some file systems have no hard links
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return renameio.WriteFile(to, b, 0o644)
}
