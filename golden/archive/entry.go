package archive

import (
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
)

// Kind is what an entry is.
type Kind int

// The kinds.
const (
	File Kind = iota
	Dir
	Symlink
	Hardlink // may have contents of its own, which then are those of all its names
	Char
	Block
	Fifo
	Other // nothing that is unpacked: a socket
)

// Entry is one of an archive.
type Entry struct {
	Name         string // as it stands there; Path is what it means
	Kind         Kind
	Mode         uint32 // permissions, set-user-ID and the like
	UID, GID     int
	ModTime      time.Time
	Size         int64  // of the contents that follow
	Link         string // where a symbolic link points, or the name that a hard link is another of
	Major, Minor uint32 // of a device
}

// Bounds of what an archive may say, in bytes: PATH_MAX of limits.h.
const maxPath = 4096

// ErrLeaves is wrapped in what is said of an entry that would be outside of
// its folder.
var ErrLeaves = errors.New("leaves the folder")

// Path is where the entry belongs below its folder; "." is that itself.
func (e Entry) Path() (string, error) { return within("name", e.Name) }

func within(what, name string) (string, error) {
	switch {
	case name == "" || len(name) > maxPath || strings.Contains(name, "\x00"):
		return "", fmt.Errorf("%s %.60q: empty, longer than %d bytes, or with a zero byte", what, name, maxPath)
	case strings.HasPrefix(name, "/"):
		return "", fmt.Errorf("%s %q is absolute: %w (pack it with relative names)", what, name, ErrLeaves)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%s %q has ..: %w", what, name, ErrLeaves)
		}
	}
	return path.Clean(name), nil
}

// Check says whether an entry, and what it links to, stay in their folder.
// far lets symbolic links point outside: nothing is ever written through one
// all the same.
func (e Entry) Check(far bool) error {
	at, err := e.Path()
	if err != nil {
		return err
	}
	if at == "." && e.Kind != Dir {
		return fmt.Errorf("name %q is the folder itself, and no folder", e.Name)
	}
	if e.Size < 0 {
		return fmt.Errorf("%q: %d bytes long", e.Name, e.Size)
	}
	switch e.Kind {
	case Hardlink:
		if _, err := within("hard link to", e.Link); err != nil {
			return fmt.Errorf("%q: %w", e.Name, err)
		}
	case Symlink:
		if e.Link == "" || len(e.Link) >= maxPath || strings.Contains(e.Link, "\x00") {
			return fmt.Errorf("%q: symbolic link to %.60q", e.Name, e.Link)
		}
		if !far && leaves(at, e.Link) {
			return fmt.Errorf("%q: symbolic link to %q %w", e.Name, e.Link, ErrLeaves)
		}
	}
	return nil
}

// leaves tells whether a symbolic link points out of the folder, as its words
// have it. Links on the way may still lead elsewhere: who unpacks sees.
func leaves(at, to string) bool {
	if path.IsAbs(to) {
		return true
	}
	depth := strings.Count(at, "/") // folders above it
	for part := range strings.SplitSeq(to, "/") {
		switch part {
		case "", ".":
		case "..":
			if depth--; depth < 0 {
				return true
			}
		default:
			depth++
		}
	}
	return false
}

// Walk reads an archive and gives its entries one after the other, with their
// contents, until each returns an error. It reads to the end, so that what
// follows the archive, a checksum of its compression, is read as well.
func Walk(r io.Reader, kind string, each func(Entry, io.Reader) error) error {
	var err error
	switch kind {
	case Tar:
		err = walkTar(r, each)
	case CPIO:
		err = walkCPIO(r, each)
	default:
		err = Form{Archive: kind}.Check()
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	return err
}
