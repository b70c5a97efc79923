package restore

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// makeLink makes a hard link. linkat without flags doesn't follow a symbolic
// link: it links the link. Where the node's layout put the two names on two
// file systems, the second becomes a copy.
func (t *Tree) makeLink(h *held, i int32) error {
	e := &t.m.Entries[i]
	if e.Type != stream.HardLink {
		return nil
	}
	target := &t.m.Entries[e.Target]
	if _, ok := t.skipped.Load(e.Target); ok {
		t.warnings.add("hard link left out", i, errors.New("what it links to is left out"))
		return nil
	}
	dir, err := h.open(e.Parent)
	if err != nil {
		return err
	}
	from := dir
	if target.Parent != e.Parent {
		if from, err = stream.OpenBeneath(t.root, t.m.Path(target.Parent), unix.O_PATH|unix.O_DIRECTORY, 0); err != nil {
			return fmt.Errorf("open %s: %w", t.name(target.Parent), err)
		}
		defer unix.Close(from)
	}
	err = unix.Linkat(from, target.Name, dir, e.Name, 0)
	if errors.Is(err, unix.EEXIST) && t.opt.Update && sameFile(from, target.Name, dir, e.Name) {
		return nil
	}
	if errors.Is(err, unix.EEXIST) {
		if err := t.clear(dir, i); err != nil {
			return err
		}
		err = unix.Linkat(from, target.Name, dir, e.Name, 0)
	}
	if errors.Is(err, unix.EXDEV) || errors.Is(err, unix.EMLINK) || errors.Is(err, unix.EPERM) && t.onFAT(i) { // or there are more of them than this file system takes
		t.warnings.add("hard link made a copy", i, err)
		return t.copyTarget(h, from, i)
	}
	if err != nil {
		return fmt.Errorf("link %s to %s: %w", t.name(i), t.name(e.Target), err)
	}
	return nil
}

// sameFile says whether two names are of one file.
func sameFile(dir1 int, name1 string, dir2 int, name2 string) bool {
	var a, b unix.Stat_t
	err := errors.Join(unix.Fstatat(dir1, name1, &a, unix.AT_SYMLINK_NOFOLLOW), unix.Fstatat(dir2, name2, &b, unix.AT_SYMLINK_NOFOLLOW))
	return err == nil && a.Dev == b.Dev && a.Ino == b.Ino
}

// copyTarget makes entry i, a hard link, an entry of its own like its target,
// which is in the directory from.
func (t *Tree) copyTarget(h *held, from int, i int32) error {
	e := &t.m.Entries[i]
	target := t.m.Entries[e.Target]
	name := target.Name
	target.Name, target.Parent = e.Name, e.Parent
	*e = target // never itself the target of another: those are no hard links
	if e.Type != stream.File {
		return t.makeRest(h, i)
	}
	src, err := stream.OpenBeneath(from, name, unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return fmt.Errorf("copy %s: %w", t.name(i), err)
	}
	defer unix.Close(src)
	dst, err := t.openFile(h.fd, i)
	if err != nil {
		return err
	}
	defer unix.Close(dst)
	buf := make([]byte, 256<<10)
	for _, x := range e.Data() {
		if err := copyRange(dst, src, x.Off, x.Off, x.Len, buf); err != nil {
			return fmt.Errorf("copy to %s: %w", t.name(i), err)
		}
	}
	return t.setOpen(dst, i)
}

// copyRange copies n bytes from one file to another.
func copyRange(dst, src int, to, from, n int64, buf []byte) error {
	for n > 0 {
		m, err := unix.Pread(src, buf[:min(n, int64(len(buf)))], from)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && m == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = pwriteFull(dst, buf[:m], to)
		}
		if err != nil {
			return err
		}
		to, from, n = to+int64(m), from+int64(m), n-int64(m)
	}
	return nil
}
