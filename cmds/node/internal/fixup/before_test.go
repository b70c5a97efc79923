package fixup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestBeforeLoader: the call comes once, after the hooks and before the menu,
// and if it fails nothing of the boot loader is written.
func TestBeforeLoader(t *testing.T) {
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "etc"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, fails := range []error{nil, errors.New("no ESP")} {
		var told []string
		_, err := Run(t.Context(), Env{
			Root: root, Number: 1, Plan: wire.Plan{Loader: wire.Loader{Kind: "none"}},
			Progress:     func(step string) { told = append(told, step) },
			BeforeLoader: func() error { told = append(told, "CALLED"); return fails },
		})
		all := strings.Join(told, " ")
		if fails == nil && (err != nil || strings.Count(all, "CALLED") != 1 || !strings.Contains(all, "hooks CALLED boot-menu")) {
			t.Errorf("%s: %v", all, err)
		}
		if fails != nil && (!errors.Is(err, fails) || !strings.HasSuffix(all, "hooks CALLED")) {
			t.Errorf("failing, %s: %v", all, err)
		}
	}
}
