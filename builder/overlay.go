package builder

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// maxTold bounds how many collisions are told one by one; all are in the manifest.
const maxTold = 20

// overBase lays an image over the base that it is to have.
func (r *run) overBase(ctx context.Context, ours *Tree, img ImageConfig, e *ImageEntry) (*Tree, error) {
	if img.Base == "" {
		return ours, nil
	}
	if img.Format != Squashfs {
		return nil, fmt.Errorf("base %s: only an image of format %s can have one", img.Base, Squashfs)
	}
	base, origin, err := r.readBase(ctx, img.Base)
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", img.Base, err)
	}
	r.say("%s: base of %d entries, %s", img.Name, len(base.entries), origin)
	e.Base = origin
	e.Collisions, err = base.lay(ours)
	if err != nil {
		return nil, fmt.Errorf("base %s: %w", img.Base, err)
	}
	for i, c := range e.Collisions {
		if i == maxTold {
			r.say("%s: and %d more, which %s lists", img.Name, len(e.Collisions)-maxTold, ManifestName)
			break
		}
		r.say("%s: ours instead of the base's %s", img.Name, c)
	}
	return base, nil
}

// lay puts all of ours into t, where it wins, and says what had to go. Folders
// of t that are symbolic links stay so: where /bin leads to usr/bin, our
// /bin/sh becomes /usr/bin/sh.
func (t *Tree) lay(ours *Tree) (collisions []string, err error) {
	for _, e := range ours.Sorted() {
		dir, gone, err := t.folder(path.Dir(e.Name))
		if err != nil {
			return nil, err
		}
		collisions = append(collisions, gone...)
		moved := *e
		moved.Name = path.Join(dir, path.Base(e.Name))
		if e.Mode&fs.ModeSymlink != 0 && dir != cleanName(path.Dir(e.Name)) {
			moved.Target = "/" + e.leadsTo() // a relative one would lead elsewhere from there
		}
		if e.Mode.IsDir() {
			gone, err = t.layFolder(&moved)
		} else {
			gone, err = t.layFile(&moved)
		}
		if err != nil {
			return nil, err
		}
		collisions = append(collisions, gone...)
	}
	return collisions, nil
}

// folder finds where a folder of ours is in t, making what is missing.
func (t *Tree) folder(name string) (real string, collisions []string, err error) {
	for part := range strings.SplitSeq(cleanName(name), "/") {
		if real, err = t.resolve(path.Join(real, part)); err != nil {
			return "", nil, err
		}
		if real == "" {
			continue
		}
		e := t.entries[real]
		if e != nil && e.Mode.IsDir() {
			continue
		}
		if e != nil {
			collisions = append(collisions, t.remove(real))
		}
		if err := t.add(&Entry{Name: real, Mode: fs.ModeDir | 0o755, implied: true}); err != nil {
			return "", nil, err
		}
	}
	return real, collisions, nil
}

// layFolder keeps a folder of the base; ours, if it was asked for, sets its mode.
func (t *Tree) layFolder(e *Entry) ([]string, error) {
	real, gone, err := t.folder(e.Name)
	if err != nil {
		return nil, err
	}
	if !e.implied {
		e.Name = real
		t.entries[real] = e
	}
	return gone, nil
}

func (t *Tree) layFile(e *Entry) ([]string, error) {
	old := t.entries[e.Name]
	if old != nil && e.weak {
		return nil, nil
	}
	var gone []string
	if old != nil {
		was := old
		if real, err := t.resolve(e.Name); err == nil && t.entries[real] != nil && e.Mode.IsRegular() {
			was = t.entries[real] // libz.so.1 of a distribution is a link to libz.so.1.2.13
		}
		same, err := was.same(e)
		if err != nil {
			return nil, err
		}
		if said := t.remove(e.Name); !same {
			gone = append(gone, said)
		}
	}
	t.entries[e.Name] = e
	return gone, nil
}

// remove takes an entry out, with all below it, and says what it was.
func (t *Tree) remove(name string) string {
	e := t.entries[name]
	delete(t.entries, name)
	switch {
	case e.Mode.IsDir():
		n := 0
		for other := range t.entries {
			if strings.HasPrefix(other, name+"/") {
				delete(t.entries, other)
				n++
			}
		}
		return fmt.Sprintf("/%s, a folder with %d entries", name, n)
	case e.Mode&fs.ModeSymlink != 0:
		return fmt.Sprintf("/%s, a link to %s", name, e.Target)
	case e.Mode.IsRegular():
		return "/" + name
	}
	return fmt.Sprintf("/%s, a special file", name)
}

// same says whether two entries mean the same to who uses the image.
func (e *Entry) same(o *Entry) (bool, error) {
	if e.Mode.Type() != o.Mode.Type() {
		return false, nil
	}
	if e.Mode&fs.ModeSymlink != 0 {
		return e.leadsTo() == o.leadsTo(), nil
	}
	if !e.Mode.IsRegular() {
		return false, nil
	}
	a, err := e.Content()
	if err != nil {
		return false, err
	}
	b, err := o.Content()
	return bytes.Equal(a, b), err
}
