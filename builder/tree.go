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

// Tree is what an image holds. Nothing has a time, and all belongs to root but
// what a base brings with it. Parent folders come by themselves, mode 0755.
type Tree struct{ entries map[string]*Entry }

// Entry is one name in a Tree.
type Entry struct {
	Name   string      // without leading slash
	Mode   fs.FileMode // type and permissions
	Target string      // of a symbolic link
	read   func() ([]byte, error)

	UID, GID     int
	Major, Minor int64 // of a device node

	implied bool // a folder that came by itself
	weak    bool // only where a base has nothing of that name
	foreign bool // of a base
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
			t.entries[dir] = &Entry{Name: dir, Mode: fs.ModeDir | 0o755, implied: true, foreign: e.foreign}
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

// leadsTo is a symbolic link's target as a name in the tree.
func (e *Entry) leadsTo() string {
	if path.IsAbs(e.Target) {
		return cleanName(e.Target)
	}
	return cleanName(path.Join("/", path.Dir(e.Name), e.Target))
}

// maxLinks is how many symbolic links a path may go through (path_resolution(7)).
const maxLinks = 40

// resolve follows symbolic links in all parts of a name, as a process whose
// root is the tree would. What isn't there is taken as it stands.
func (t *Tree) resolve(name string) (string, error) {
	left := strings.Split(cleanName(name), "/")
	real, links := "", 0
	for len(left) > 0 {
		part := left[0]
		left = left[1:]
		if part == "" || part == "." {
			continue
		}
		if part == ".." { // above what a link led to, and never above the root
			real = strings.TrimPrefix(path.Dir("/"+real), "/")
			continue
		}
		next := path.Join(real, part)
		e := t.entries[next]
		if e == nil || e.Mode&fs.ModeSymlink == 0 {
			real = next
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("/%s: more than %d symbolic links on the way", name, maxLinks)
		}
		if path.IsAbs(e.Target) {
			real = ""
		}
		left = append(strings.Split(e.Target, "/"), left...)
	}
	return real, nil
}

// Check says which symbolic links of ours lead nowhere. Links into the folders that a
// running system fills are believed.
func (t *Tree) Check() error {
	for _, e := range t.Sorted() {
		if e.Mode&fs.ModeSymlink == 0 || e.foreign {
			continue
		}
		target := e.leadsTo()
		first, _, _ := strings.Cut(target, "/")
		if first == "proc" || first == "run" || first == "dev" || first == "sys" {
			continue
		}
		real, err := t.resolve(target)
		if err != nil {
			return fmt.Errorf("link /%s: %w", e.Name, err)
		}
		if t.entries[real] == nil {
			return fmt.Errorf("link /%s leads to /%s, which is not in the image", e.Name, target)
		}
	}
	return nil
}
