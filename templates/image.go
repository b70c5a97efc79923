package templates

import (
	"embed"
	"io/fs"
)

//go:embed image
var image embed.FS

// Image holds the recipes of the images, stage1.recipe and stage2.recipe, and
// below tftp/ the texts of the boot server's tree.
func Image() fs.FS {
	sub, err := fs.Sub(image, "image")
	if err != nil {
		panic("BUG: " + err.Error()) // the embed line above names the folder
	}
	return sub
}
