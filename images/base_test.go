package images

import (
	"os"
	"testing"

	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/demo/rehearsal"
)

// TestCloneOverBase clones with a stage 2 that lies over somebody else's rescue
// system: KAMETHOD_BASE_IMAGES names what mkimage --base --out made.
func TestCloneOverBase(t *testing.T) {
	dir := os.Getenv("KAMETHOD_BASE_IMAGES")
	if dir == "" {
		t.Skip("KAMETHOD_BASE_IMAGES names no images that were made with mkimage --base")
	}
	playClone(t, rehearsal.Config{Kind: goldenroot.Cloud, Nodes: 1, Serve: []string{"--images", dir}})
}
