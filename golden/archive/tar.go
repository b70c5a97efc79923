package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
)

func walkTar(r io.Reader, each func(Entry, io.Reader) error) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("tar, entry %d: %w", n+1, err)
		}
		e, err := tarEntry(h)
		if err != nil {
			return fmt.Errorf("tar, entry %d: %w", n+1, err)
		}
		if e.Kind == Other {
			continue
		}
		if err := each(e, t); err != nil {
			return err
		}
	}
}

// deviceBits bound a device's numbers: Linux has 12 bits of major and 20 of
// minor ones (include/linux/kdev_t.h).
const (
	maxMajor = 1 << 12
	maxMinor = 1 << 20
)

// What GNU tar writes besides ("Basic Tar Format" of its manual): a folder with
// a list of what was in it (--listed-incremental), and the name of an archive
// (--label).
const (
	typeDumpDir = 'D'
	typeVolume  = 'V'
)

func tarEntry(h *tar.Header) (Entry, error) {
	e := Entry{Name: h.Name, Mode: uint32(h.Mode) & 0o7777, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime, Size: h.Size, Link: h.Linkname}
	if h.Devmajor < 0 || h.Devmajor >= maxMajor || h.Devminor < 0 || h.Devminor >= maxMinor {
		return e, fmt.Errorf("%q: device %d:%d", h.Name, h.Devmajor, h.Devminor)
	}
	e.Major, e.Minor = uint32(h.Devmajor), uint32(h.Devminor)
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse, tar.TypeCont:
		e.Kind = File
	case tar.TypeDir, typeDumpDir:
		e.Kind, e.Size = Dir, 0
	case tar.TypeSymlink:
		e.Kind = Symlink
	case tar.TypeLink:
		e.Kind, e.Size = Hardlink, 0 // old tars write the file's size here, and no contents follow
	case tar.TypeChar:
		e.Kind = Char
	case tar.TypeBlock:
		e.Kind = Block
	case tar.TypeFifo:
		e.Kind = Fifo
	case tar.TypeXGlobalHeader, typeVolume:
		e.Kind, e.Size = Other, 0 // a comment, as git archive makes one; a label
	default:
		return e, fmt.Errorf("%q: of type %q, which is not known", h.Name, h.Typeflag)
	}
	return e, nil
}
