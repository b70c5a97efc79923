package builder

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A file can hold the hash of a result, which must have been made before it.
func TestSumOf(t *testing.T) {
	r := &run{Config: Config{Out: t.TempDir()}}
	err := r.treeFile(t.Context(), TreeFile{Name: "install/a.sha256", SumOf: "a"})
	if err == nil || !strings.Contains(err.Error(), "hash of a: it isn't made yet") {
		t.Fatalf("got %v", err)
	}
	if err := r.result("a", 0, func(tmp string) error { return os.WriteFile(tmp, []byte("abc"), 0o600) }); err != nil {
		t.Fatal(err)
	}
	if err := r.treeFile(t.Context(), TreeFile{Name: "install/a.sha256", SumOf: "a"}); err != nil {
		t.Fatal(err)
	}
	// The hash of "abc" is the example of FIPS 180-4.
	want := "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"
	b, err := os.ReadFile(filepath.Join(r.Out, "install/a.sha256"))
	if err != nil || string(b) != want {
		t.Errorf("on the server %q, %v", b, err)
	}
	tree := NewTree()
	img := ImageConfig{Recipe: &Recipe{}, Extra: []ExtraFile{{Name: "etc/a.sha256", Mode: 0o644, SumOf: "a"}}}
	if err := r.addRest(t.Context(), tree, img, nil); err != nil {
		t.Fatal(err)
	}
	entries := tree.Sorted()
	b, err = entries[len(entries)-1].Content()
	if err != nil || string(b) != want {
		t.Errorf("in the image %q, %v", b, err)
	}
}
