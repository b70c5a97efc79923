// Package render fills in templates for one machine after the other: files
// that name it, and all others of its cluster. It knows nothing of who they
// are, and it writes nothing.
//
//	etc/hosts.tmpl ─┐
//	ka/go          ─┴─Open──▶ Set ──For(all, this one)──▶ /etc/hosts, /ka/go
package render

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"text/template"

	"github.com/kamethod/kamethod/golden/wire"
)

// Machine is one of a cluster.
type Machine struct {
	Name    string // "alpha.lab.example"
	ID      int    // node_id
	MAC     string
	Address string // empty where it isn't known yet
	Card    string // what it calls the interface that booted: "eth0"
	Note    string // what the nodes file says of it for people
}

// Short is the name without its domain.
func (m Machine) Short() string {
	s, _, _ := strings.Cut(m.Name, ".")
	return s
}

// Cluster is what a template is filled in with.
type Cluster struct {
	Session string
	Nodes   []Machine
	Node    Machine // whose file it is
}

// Set is the files of a folder, or of several.
type Set struct {
	files []file // by path
}

type file struct {
	path string // in the machine: "/etc/hosts"
	from string // where it was read, for messages
	mode fs.FileMode
	text []byte             // as it is, or
	tmpl *template.Template // to be filled in
}

// suffix of what is filled in; anything else is taken as it is.
const suffix = ".tmpl"

// Add takes in a folder's files, in the place of those of the same names.
// name is the folder's, for messages.
func (s *Set) Add(name string, dir fs.FS) error {
	return fs.WalkDir(dir, ".", func(p string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return fmt.Errorf("read %s: %w", path.Join(name, p), err)
		case e.IsDir():
			return nil
		case !e.Type().IsRegular():
			return fmt.Errorf("%s: is no file", path.Join(name, p))
		}
		f, err := read(dir, p, path.Join(name, p))
		if err != nil {
			return err
		}
		s.files = slices.DeleteFunc(s.files, func(o file) bool { return o.path == f.path })
		s.files = append(s.files, f)
		if len(s.files) > wire.MaxRunFiles {
			return fmt.Errorf("%s: more than %d files are rendered for a machine: put what is the same on all into the image", name, wire.MaxRunFiles)
		}
		return nil
	})
}

func read(dir fs.FS, p, from string) (file, error) {
	f := file{path: "/" + strings.TrimSuffix(p, suffix), from: from}
	in, err := dir.Open(p)
	if err != nil {
		return f, fmt.Errorf("read %s: %w", from, err)
	}
	defer in.Close()
	st, err := in.Stat()
	if err != nil {
		return f, fmt.Errorf("read %s: %w", from, err)
	}
	if f.mode = st.Mode().Perm(); f.mode&0o200 == 0 {
		f.mode = 0o644 // embedded files have no modes of their own
	}
	f.text, err = io.ReadAll(io.LimitReader(in, wire.MaxRunFile+1))
	if err != nil {
		return f, fmt.Errorf("read %s: %w", from, err)
	}
	if len(f.text) > wire.MaxRunFile {
		return f, fmt.Errorf("%s: more than %d bytes", from, wire.MaxRunFile)
	}
	if !strings.HasSuffix(p, suffix) {
		return f, nil
	}
	if path.Base(f.path) == "/" || path.Base(p) == suffix {
		return f, fmt.Errorf("%s: has no name before %s", from, suffix)
	}
	f.tmpl, err = template.New(from).Option("missingkey=error").Parse(string(f.text))
	if err != nil {
		return f, fmt.Errorf("template %w", errors.New(strings.TrimPrefix(err.Error(), "template: ")))
	}
	return f, nil
}

// For fills in all of them for one machine.
func (s *Set) For(c Cluster) ([]wire.RunFile, error) {
	var out []wire.RunFile
	total := 0
	for _, f := range s.files {
		text := f.text
		if f.tmpl != nil {
			b := &bounded{}
			if err := f.tmpl.Execute(b, c); err != nil {
				return nil, fmt.Errorf("template %s, for %s: %w", f.from, c.Node.Name, err)
			}
			text = b.Bytes()
		}
		// In one message, in base64, with room for the rest.
		if total += len(text)*4/3 + len(f.path) + 64; total > wire.MaxMessage*3/4 {
			return nil, fmt.Errorf("the files rendered for %s are too much for one message", c.Node.Name)
		}
		out = append(out, wire.RunFile{Path: f.path, Mode: uint32(f.mode), Content: text})
	}
	return out, nil
}

// bounded keeps a template that never ends from taking all memory.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > wire.MaxRunFile {
		return 0, fmt.Errorf("makes more than %d bytes", wire.MaxRunFile)
	}
	return b.Buffer.Write(p)
}
