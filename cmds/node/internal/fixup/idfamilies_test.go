package fixup

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// identitySteps are those that make the clone somebody, and the scan.
func identitySteps() []step {
	own := []string{"machine-id", "host-name", "ssh-host-keys", "net-rules", "network", "dhcp-leases", "seeds", "apps", "traces", "leftovers"}
	return slices.DeleteFunc(steps(), func(s step) bool { return !slices.Contains(own, s.name) })
}

// TestIdentityFamilies compares what these steps together make of the tree of
// each family with what is expected, file by file, and what they say of it.
func TestIdentityFamilies(t *testing.T) {
	names, err := filepath.Glob("testdata/identity/*.txt")
	if err != nil || len(names) < 7 {
		t.Fatalf("%d families, %v", len(names), err)
	}
	for _, name := range names {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			ar, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			before := map[string]string{}
			for _, f := range ar.Files {
				before[f.Name] = string(f.Data)
			}
			root := t.TempDir()
			c := newTestClone(t, root, before, func(e *Env) {
				e.Plan.Golden.MACs, e.MACs, e.MAC = []string{macWas}, []string{macNow}, macNow
				if strings.Contains(string(ar.Comment), "network: own\n") {
					e.Plan.Identity.Networks = ownNetwork()
				}
			})
			for _, s := range identitySteps() {
				if err := c.do(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			once := contents(t, root)
			got := whatChanged(t, root, before, *c.report)
			want := strings.TrimSuffix(name, ".txt") + ".want"
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(b), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			for _, s := range identitySteps() {
				if err := c.do(t.Context(), s); err != nil {
					t.Fatal(err)
				}
			}
			twice := contents(t, root)
			for name := range once {
				if strings.HasPrefix(name, "etc/nvme/") || strings.HasPrefix(name, "etc/iscsi/") { // nobody knows whose they are
					delete(once, name)
					delete(twice, name)
				}
			}
			if d := cmp.Diff(once, twice); d != "" {
				t.Errorf("the second time (-once +twice)\n%s", d)
			}
		})
	}
}

// whatChanged is the files that are new or other, those that are gone, and the
// report; what is random has a word in its place.
func whatChanged(t *testing.T, root string, before map[string]string, r Report) string {
	after := contents(t, root)
	ar := txtar.Archive{}
	var gone []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if after[name] != before[name] {
			ar.Files = append(ar.Files, txtar.File{Name: name, Data: []byte(after[name])})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, ok := after[name]; !ok && !strings.HasSuffix(name, "/") {
			gone = append(gone, name)
		}
	}
	var said strings.Builder
	for _, s := range r.Steps {
		for _, f := range s.Files {
			fmt.Fprintf(&said, "%s: %s: %s\n", s.Name, f.Path, f.Why)
		}
		for _, w := range s.Warnings {
			fmt.Fprintf(&said, "%s: warning: %s\n", s.Name, w)
		}
	}
	for _, l := range r.Leftovers {
		fmt.Fprintf(&said, "left over: %s\n", l)
	}
	ar.Comment = []byte("gone: " + strings.Join(gone, " ") + "\n\n" + said.String() + "\n")
	text := string(txtar.Format(&ar))
	if id := strings.TrimSpace(after["etc/machine-id"]); id != "" {
		text = strings.ReplaceAll(text, id, "NEW-MACHINE-ID")
	}
	if id := strings.TrimSpace(after["etc/nvme/hostid"]); id != "" {
		text = strings.ReplaceAll(text, id, "NEW-HOST-ID")
	}
	return regexp.MustCompile(`(InitiatorName=\S+:)[0-9a-f]{12}`).ReplaceAllString(text, "${1}NEW")
}
