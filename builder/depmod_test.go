package builder_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestDepmod lets depmod(8) make its lists for the modules of stage 1 and
// compares them with ours.
func TestDepmod(t *testing.T) {
	need(t, "depmod")
	b := images(t)
	a := readArchive(t, filepath.Join(b.dir, "all.rdz"))
	release := a.release(t)
	root := t.TempDir()
	for name, body := range a.bodies {
		if !strings.HasPrefix(name, "lib/modules/") || a.headers[name].Mode&0o170000 != 0o100000 {
			continue
		}
		base := filepath.Base(name)
		if base == "modules.dep" || base == "modules.alias" || base == "modules.softdep" {
			continue
		}
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, body, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("depmod", "-b", root, release).CombinedOutput(); err != nil {
		t.Fatalf("depmod: %v: %s", err, out)
	}
	dir := "lib/modules/" + release + "/"
	theirs := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	ours := func(name string) string { return string(a.bodies[dir+name]) }

	ourDeps, theirDeps := depSets(ours("modules.dep")), depSets(theirs("modules.dep"))
	if len(theirDeps) < 100 {
		t.Fatalf("depmod lists only %d modules", len(theirDeps))
	}
	if d := cmp.Diff(theirDeps, ourDeps, cmpopts.SortSlices(strings.Compare)); d != "" {
		t.Errorf("modules.dep, depmod's and ours: %s", d)
	}
	for _, name := range []string{"modules.alias", "modules.softdep"} {
		if d := cmp.Diff(lineSet(theirs(name)), lineSet(ours(name))); d != "" {
			t.Errorf("%s, depmod's and ours: %s", name, d)
		}
	}
	loadOrderHolds(t, ours("modules.dep"))
}

func depSets(text string) map[string][]string {
	m := map[string][]string{}
	for line := range strings.Lines(text) {
		file, deps, _ := strings.Cut(strings.TrimSpace(line), ":")
		m[file] = strings.Fields(deps)
	}
	return m
}

func lineSet(text string) []string {
	var lines []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// loadOrderHolds plays a loader: from the end of each line to its start,
// nothing is loaded before what it needs itself.
func loadOrderHolds(t *testing.T, text string) {
	deps := depSets(text)
	for file, order := range deps {
		loaded := map[string]bool{}
		for _, m := range slices.Backward(append([]string{file}, order...)) {
			for _, d := range deps[m] {
				if !loaded[d] {
					t.Errorf("%s: %s would be loaded before %s", file, m, d)
				}
			}
			loaded[m] = true
		}
	}
}
