package templates

import (
	"embed"
	"io/fs"
)

//go:embed diskless
var diskless embed.FS

// Diskless holds the files that are rendered for each machine that runs in its
// memory, below the names that they have there: etc/hosts.tmpl.
func Diskless() fs.FS {
	sub, err := fs.Sub(diskless, "diskless")
	if err != nil {
		panic("BUG: " + err.Error()) // the embed line above names the folder
	}
	return sub
}
