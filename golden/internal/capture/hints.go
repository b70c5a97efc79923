package capture

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/internal/layoutfile"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// Hint says which disk of a node takes a golden disk's part.
type Hint struct {
	disk  string
	match layout.Match
	text  string // as it was given
}

// ParseHints takes what --match has, as in "sda:size>=100G,model=X*".
func ParseHints(texts []string) ([]Hint, error) {
	var list []Hint
	for _, text := range texts {
		disk, words, ok := strings.Cut(text, ":")
		disk = diskName(disk)
		switch {
		case !ok || disk == "" || words == "":
			return nil, fmt.Errorf("--match %s: want a disk and its hints: --match 'sda:size>=100G,model=X*'", text)
		case slices.ContainsFunc(list, func(h Hint) bool { return h.disk == disk }):
			return nil, fmt.Errorf("--match %s: disk %s has hints already: write them together, with commas", text, disk)
		}
		hints := map[string]string{}
		for w := range strings.SplitSeq(words, ",") {
			at := strings.IndexAny(w, "=<>")
			if at < 1 || hints[strings.TrimSpace(w[:at])] != "" {
				return nil, fmt.Errorf("--match %s: %q: want a hint such as size>=100G, model=X* or rotational=no, each once", text, w)
			}
			hints[strings.TrimSpace(w[:at])] = strings.TrimSpace(strings.TrimPrefix(w[at:], "="))
		}
		// The words are a layout file's, which also says what is wrong.
		file, err := yaml.Marshal(map[string]any{"disks": map[string]any{disk: map[string]any{"table": "none", "match": hints}}})
		if err != nil {
			return nil, fmt.Errorf("--match %s: %w", text, err)
		}
		f, err := layoutfile.Parse(strings.NewReader(string(file)), "--match "+text)
		if err != nil {
			return nil, err
		}
		list = append(list, Hint{disk, f.Disks[0].Match, text})
	}
	return list, nil
}

// TakeHints gives the hints to the plan's disks, when it has all of them.
func TakeHints(disks []wire.DiskPlan, hints []Hint) error {
	for _, h := range hints {
		i := slices.IndexFunc(disks, func(d wire.DiskPlan) bool { return d.Name == h.disk })
		if i < 0 {
			return fmt.Errorf("--match %s: disk %s is not in the plan, which has %s", h.text, h.disk, names(disks))
		}
		disks[i].Match = h.match
	}
	return nil
}

func names(disks []wire.DiskPlan) string {
	var list []string
	for _, d := range disks {
		list = append(list, d.Name)
	}
	return strings.Join(list, ", ")
}
