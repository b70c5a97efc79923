package golden

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/kamethod/kamethod/golden/internal/capture"
)

// Loaders is what -r takes, what finds out by itself first.
func Loaders() []string { return slices.Clone(capture.Loaders) }

// IsLayoutFile says whether a file's name is a layout file's and not a desc's.
func IsLayoutFile(name string) bool { return capture.IsLayoutFile(name) }

// maxManifest bounds what is read of a manifest: ten times what one has today.
const maxManifest = 1 << 20

// stage2Programs is what the image that nodes run has, by the manifest that
// make image wrote beside it; none where there is no manifest.
func stage2Programs(images string) ([]string, error) {
	if images == "" {
		return nil, nil
	}
	name := filepath.Join(images, "manifest.json")
	st, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	if st.Size() > maxManifest {
		return nil, fmt.Errorf("manifest %s: larger than %d bytes", name, maxManifest)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("manifest: %w", err)
	}
	var m struct {
		Images []struct {
			Name     string
			Programs []string
		}
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return nil, fmt.Errorf("manifest %s: %w (make image makes it)", name, err)
	}
	for _, i := range m.Images {
		if i.Name == "rescue.sqfs" {
			return i.Programs, nil
		}
	}
	return nil, nil
}
