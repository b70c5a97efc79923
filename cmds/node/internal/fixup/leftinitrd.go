package fixup

import (
	"debug/pe"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"regexp"
)

// isInitrd goes by the names that all distributions' tools give, and by that
// of kernel-install's own folders.
func isInitrd(name string) bool {
	return regexp.MustCompile(`^(/boot|/efi)(/.*)?/(initrd|initramfs|booster)[^/]*$`).MatchString(name) && !regexp.MustCompile(`\.(txt|conf|sha\d+|sig)$`).MatchString(path.Base(name))
}

// initrd looks into all files of an initramfs.
func (s *scan) initrd(name string) error {
	f, err := s.c.tree.open(name)
	if err != nil {
		return nil // a folder called initrd, a link that leads nowhere
	}
	defer f.Close()
	return s.archive(name, f)
}

// archive: one that can't be read to its end is said, for it may hide
// something; Mandriva's initrds are an ext2 of their own.
func (s *scan) archive(name string, r io.Reader) error {
	err := walkInitramfs(r, func(m member) error {
		if err := s.ctx.Err(); err != nil {
			return errScan{err}
		}
		where := name + ": " + m.name
		if err := s.name(where, m.name); err != nil {
			return errScan{err}
		}
		look := func() error { return s.contents(where, m.data) }
		if m.long != nil {
			look = func() error { return s.pieces(where, m.long) }
		}
		if err := look(); err != nil {
			return errScan{err}
		}
		return nil
	})
	var stop errScan
	if errors.As(err, &stop) {
		return stop.error
	}
	if err != nil {
		s.rep.warn("%s was not looked through to its end: %v", name, err)
	}
	return nil
}

// errScan is the scan's own error, and no fault of the archive.
type errScan struct{ error }

// kernelImage looks into an EFI program: the command line and the initrd of a
// unified kernel image are sections of it (systemd-stub(7)). The initrd is
// packed; all else is looked through as it lies there.
func (s *scan) kernelImage(name string) error {
	f, err := s.c.tree.open(name)
	if err != nil {
		s.rep.warn("%s was not looked through: %v", name, err)
		return nil
	}
	defer f.Close()
	if img, err := pe.NewFile(f); err == nil {
		for _, sec := range img.Sections {
			if sec.Name != ".initrd" {
				continue
			}
			where := name + ": .initrd"
			if sec.Size > maxInner {
				s.rep.warn("%s was not looked through: it has %d bytes", where, sec.Size)
				continue
			}
			if err := s.archive(where, io.NewSectionReader(f, int64(sec.Offset), int64(sec.Size))); err != nil {
				return err
			}
		}
	}
	return s.whole(name)
}

// maxInner bounds an initrd inside a kernel image, in bytes.
const maxInner = 1 << 30

// open opens a regular file, and nothing else.
func (t *tree) open(name string) (*os.File, error) {
	fi, err := t.stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: %w", name, fs.ErrInvalid)
	}
	p, err := t.resolve(name, true)
	if err != nil {
		return nil, err
	}
	return t.root.Open(p)
}
