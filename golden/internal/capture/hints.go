package capture

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kamethod/kamethod/golden/internal/layoutfile"
)

// takeHints sets which disk of a node takes a golden disk's part (--match), as
// in "sda:size>=100G,model=X*".
func (d *describer) takeHints() error {
	seen := map[string]bool{}
	for _, text := range d.opt.Matches {
		disk, words, ok := strings.Cut(text, ":")
		disk = diskName(disk)
		i := d.diskIndex(disk)
		switch {
		case !ok || words == "":
			return fmt.Errorf("--match %s: want a disk and its hints: --match 'sda:size>=100G,model=X*'", text)
		case i < 0:
			return fmt.Errorf("--match %s: disk %s is not in the plan, which has %s", text, disk, d.diskNames())
		case seen[disk]:
			return fmt.Errorf("--match %s: disk %s has hints already: write them together, with commas", text, disk)
		}
		seen[disk] = true
		hints := map[string]string{}
		for w := range strings.SplitSeq(words, ",") {
			at := strings.IndexAny(w, "=<>")
			if at < 1 || hints[strings.TrimSpace(w[:at])] != "" {
				return fmt.Errorf("--match %s: %q: want a hint such as size>=100G, model=X* or rotational=no, each once", text, w)
			}
			hints[strings.TrimSpace(w[:at])] = strings.TrimSpace(strings.TrimPrefix(w[at:], "="))
		}
		// The words are a layout file's, which also says what is wrong.
		file, err := yaml.Marshal(map[string]any{"disks": map[string]any{disk: map[string]any{"table": "none", "match": hints}}})
		if err != nil {
			return fmt.Errorf("--match %s: %w", text, err)
		}
		f, err := layoutfile.Parse(strings.NewReader(string(file)), "--match "+text)
		if err != nil {
			return err
		}
		d.disks[i].Match = f.Disks[0].Match
	}
	return nil
}
