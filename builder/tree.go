package builder

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/u-root/uio/uio"
)

// Tree is what an image holds. Everything belongs to root and has no time.
// Parent folders come by themselves, mode 0755.
type Tree struct{ entries map[string]*Entry }

// Entry is one name in a Tree.
type Entry struct {
	Name   string      // without leading slash
	Mode   fs.FileMode // type and permissions
	Target string      // of a symbolic link
	read   func() ([]byte, error)
}

// Content is what a regular file holds.
func (e *Entry) Content() ([]byte, error) {
	if e.read == nil {
		return nil, nil
	}
	b, err := e.read()
	if err != nil {
		return nil, fmt.Errorf("content of %s: %w", e.Name, err)
	}
	return b, nil
}

// NewTree makes an empty tree.
func NewTree() *Tree { return &Tree{entries: map[string]*Entry{}} }

// Sorted lists all entries, folders before what is in them.
func (t *Tree) Sorted() []*Entry {
	all := make([]*Entry, 0, len(t.entries))
	for _, name := range slices.Sorted(maps.Keys(t.entries)) {
		all = append(all, t.entries[name])
	}
	return all
}

// Get finds an entry by its name.
func (t *Tree) Get(name string) *Entry { return t.entries[cleanName(name)] }

func cleanName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

func (t *Tree) add(e *Entry) error {
	clean := cleanName(e.Name)
	if clean == "" || strings.Contains("/"+e.Name+"/", "/../") {
		return fmt.Errorf("add %q to image: not a path inside it", e.Name)
	}
	e.Name = clean
	for dir := path.Dir(clean); dir != "."; dir = path.Dir(dir) {
		if p, ok := t.entries[dir]; ok && !p.Mode.IsDir() {
			return fmt.Errorf("add %s to image: %s is no folder in it", clean, dir)
		} else if !ok {
			t.entries[dir] = &Entry{Name: dir, Mode: fs.ModeDir | 0o755}
		}
	}
	if old, ok := t.entries[clean]; ok && (!old.Mode.IsDir() || !e.Mode.IsDir()) {
		return fmt.Errorf("add %s to image: it is there already", clean)
	}
	t.entries[clean] = e
	return nil
}

// AddDir adds a folder, or sets the mode of one that is there.
func (t *Tree) AddDir(name string, mode fs.FileMode) error {
	return t.add(&Entry{Name: name, Mode: fs.ModeDir | mode&(fs.ModePerm|fs.ModeSticky)})
}

// AddLink adds a symbolic link.
func (t *Tree) AddLink(name, target string) error {
	return t.add(&Entry{Name: name, Mode: fs.ModeSymlink | 0o777, Target: target})
}

// AddData adds a regular file with the given content.
func (t *Tree) AddData(name string, data []byte, mode fs.FileMode) error {
	return t.addFile(name, mode, func() ([]byte, error) { return data, nil })
}

// AddPath adds a regular file with the content of a file of this machine.
func (t *Tree) AddPath(name, file string, mode fs.FileMode) error {
	return t.addFile(name, mode, func() ([]byte, error) {
		f := uio.NewLazyFile(file) // opened when it is packed, not when it is listed
		defer f.Close()
		return uio.ReadAll(f)
	})
}

func (t *Tree) addFile(name string, mode fs.FileMode, read func() ([]byte, error)) error {
	return t.add(&Entry{Name: name, Mode: mode.Perm(), read: read})
}

// Check says which symbolic links lead nowhere. Links into the folders that a
// running system fills are believed.
func (t *Tree) Check() error {
	for _, e := range t.Sorted() {
		if e.Mode&fs.ModeSymlink == 0 {
			continue
		}
		target := e.Target
		if !path.IsAbs(target) {
			target = path.Join("/", path.Dir(e.Name), target)
		}
		target = cleanName(target)
		first, _, _ := strings.Cut(target, "/")
		if first == "proc" || first == "run" || first == "dev" || first == "sys" {
			continue
		}
		if t.entries[target] == nil {
			return fmt.Errorf("link /%s leads to /%s, which is not in the image", e.Name, target)
		}
	}
	return nil
}
