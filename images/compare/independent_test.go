package compare

import (
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
)

// TestIndependent: the judge shares no code with what it judges.
func TestIndependent(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		looked++
		tree, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range tree.Imports {
			if path, _ := strconv.Unquote(i.Path.Value); strings.HasPrefix(path, "github.com/kamethod/") {
				t.Errorf("%s imports %s", f.Name(), path)
			}
		}
	}
	if looked < 8 {
		t.Errorf("only %d files were looked at", looked)
	}
}
