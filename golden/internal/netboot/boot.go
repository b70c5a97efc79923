package netboot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"strings"
)

// Content is an opened file.
type Content interface {
	io.ReadSeekCloser
}

// Open opens one file of the allow-list. It is called for each request.
type Open func() (Content, error)

// Files is the allow-list: names as clients ask for them
// ("images/vmlinuz"), and how each is opened. Nothing else is served.
type Files map[string]Open

// FromFS lists the regular files of a tree. Later additions to the tree are
// not served, symbolic links never.
func FromFS(fsys fs.FS) (Files, error) {
	out := Files{}
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		out[p] = func() (Content, error) {
			f, err := fsys.Open(p)
			if err != nil {
				return nil, err
			}
			c, ok := f.(Content)
			if !ok {
				return nil, errors.Join(fmt.Errorf("open %s: its file system can't seek", p), f.Close())
			}
			return c, nil
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list boot files: %w", err)
	}
	return out, nil
}

// OnDisk opens a file of this machine, chosen by the caller.
func OnDisk(path string) Open {
	return func() (Content, error) { return os.Open(path) }
}

// Has tells whether a name is on the list.
func (f Files) Has(name string) bool { return f[name] != nil }

// NeededFiles are the files without which no machine boots: kernel, stage 1,
// and PXELINUX's other half where PXELINUX is. Which boot loaders there are is
// another question (BootFiles).
func NeededFiles(has func(name string) bool) []string {
	need := []string{"images/vmlinuz", "images/all.rdz"}
	if has("pxelinux.0") || has("lpxelinux.0") {
		need = append([]string{"ldlinux.c32"}, need...)
	}
	return need
}

// maxName is longer than any name we serve; a TFTP request has 512 bytes at
// most (RFC 2347).
const maxName = 255

// cleanName brings a requested name into the form of the allow-list: Windows
// ROMs send "\", some a leading "/" or "//". It doesn't resolve "..": such a
// name is on no list.
func cleanName(name string) (string, bool) {
	if len(name) == 0 || len(name) > maxName {
		return "", false
	}
	for i := range len(name) {
		if name[i] < ' ' || name[i] > '~' {
			return "", false
		}
	}
	var out []string
	for part := range strings.SplitSeq(strings.ReplaceAll(name, `\`, "/"), "/") {
		switch part {
		case "", ".":
		case "..":
			return "", false
		default:
			out = append(out, part)
		}
	}
	return strings.Join(out, "/"), len(out) > 0
}

var errNotServed = errors.New("not a file we serve")

// served is what a request found.
type served struct {
	name    string
	content Content
	size    int64
	client  Client
	config  bool // made for this client, not a file
	answer  Answer
	onward  bool // the loader that gets it loads another from here, which asks again
}

// memory is a Content without a file.
type memory struct{ *bytes.Reader }

func (memory) Close() error { return nil }

// lookup finds what a request from this address may have: a configuration
// made for that machine, or a file of the allow-list.
func (s *Server) lookup(requested string, from netip.Addr) (*served, error) {
	name, ok := cleanName(requested)
	if !ok {
		return nil, errNotServed
	}
	who := s.clientByIP(from)
	if dialect, key, ok := configName(name); ok {
		text, a, c, ok := s.bootConfig(dialect, key, who)
		if !ok {
			return nil, errNotServed
		}
		return &served{name: name, content: memory{bytes.NewReader(text)}, size: int64(len(text)), client: c, config: true, answer: a,
			onward: a == LocalBoot && dialect == forIPXE && s.onward(c)}, nil
	}
	open, ok := s.cfg.Files[name]
	if !ok {
		return nil, errNotServed
	}
	f, err := open()
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("size of %s: %w", name, err), f.Close())
	}
	return &served{name: name, content: f, size: size, client: who}, nil
}
