package restore

import (
	"path/filepath"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
)

// torture fills dir with everything that is hard to copy: what any Linux file
// system holds in dir/odd, what only this one does in dir/odd/rare.
func torture(t *testing.T, dir string) (rare []string) {
	t.Helper()
	odd := filepath.Join(dir, "odd")
	if err := goldenroot.AddOdd(odd); err != nil {
		t.Fatal(err)
	}
	rare, err := goldenroot.AddRare(odd)
	if err != nil {
		t.Fatal(err)
	}
	return rare
}
