package fixup

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sort"
	"strings"
	"syscall"

	"github.com/pkg/xattr"
)

// errAbsent says that there is no such regular file in the clone.
var errAbsent = errors.New("absent")

const (
	maxText   = 4 << 20  // bytes; a configuration file that is larger isn't one
	maxLoader = 64 << 20 // bytes; a boot loader has ten at most
	maxLinks  = 40       // MAXSYMLINKS, include/linux/namei.h
)

// tree is the clone's files. Names are absolute, as the clone sees them
// ("/etc/fstab"). Symbolic links are followed as they will be once the clone
// runs: an absolute one begins at the clone's root, and ".." stops there. The
// os.Root below refuses whatever would get out in spite of that.
type tree struct {
	root *os.Root
	path string
}

func openTree(dir string) (*tree, error) {
	r, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the clone's root: %w", err)
	}
	return &tree{root: r, path: dir}, nil
}

func (t *tree) close() error { return t.root.Close() }

// resolve turns a name into a path below the root that has no symbolic link in
// it, but for the last element if follow is false. What doesn't exist stays as
// it is named.
func (t *tree) resolve(name string, follow bool) (string, error) {
	todo, at := strings.Split(name, "/"), "."
	for links := 0; len(todo) > 0; {
		elem := todo[0]
		todo = todo[1:]
		if elem == "" || elem == "." {
			continue
		}
		if elem == ".." {
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, elem)
		fi, err := t.root.Lstat(next)
		if errors.Is(err, fs.ErrNotExist) {
			return path.Join(next, strings.TrimPrefix(path.Clean("/"+strings.Join(todo, "/")), "/")), nil
		}
		if err != nil {
			return "", err
		}
		if fi.Mode()&fs.ModeSymlink == 0 || (len(todo) == 0 && !follow) {
			at = next
			continue
		}
		if links++; links > maxLinks {
			return "", &fs.PathError{Op: "resolve", Path: name, Err: syscall.ELOOP}
		}
		target, err := t.root.Readlink(next)
		if err != nil {
			return "", err
		}
		if path.IsAbs(target) {
			at = "."
		}
		todo = append(strings.Split(target, "/"), todo...)
	}
	return at, nil
}

// stat is of what a name leads to; a missing one is errAbsent.
func (t *tree) stat(name string) (fs.FileInfo, error) {
	p, err := t.resolve(name, true)
	if err != nil {
		return nil, err
	}
	fi, err := t.root.Lstat(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errAbsent
	}
	return fi, err
}

func (t *tree) isFile(name string) bool {
	fi, err := t.stat(name)
	return err == nil && fi.Mode().IsRegular()
}

func (t *tree) isDir(name string) bool {
	fi, err := t.stat(name)
	return err == nil && fi.IsDir()
}

// isLink says whether the name itself is a symbolic link, dangling or not.
func (t *tree) isLink(name string) bool {
	p, err := t.resolve(name, false)
	if err != nil {
		return false
	}
	fi, err := t.root.Lstat(p)
	return err == nil && fi.Mode()&fs.ModeSymlink != 0
}

// read returns a regular file's text. Nothing else is opened: a fifo would
// hang and a device would answer for the node.
func (t *tree) read(name string) ([]byte, error) {
	fi, err := t.stat(name)
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("read %s: not a regular file: %w", name, errAbsent)
	}
	if fi.Size() > maxText {
		return nil, fmt.Errorf("read %s: %d bytes are more than a text file has (%d)", name, fi.Size(), maxText)
	}
	p, err := t.resolve(name, true)
	if err != nil {
		return nil, err
	}
	f, err := t.root.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxText))
}

// firstLine is a file's first line without its blanks, or "".
func (t *tree) firstLine(name string) string {
	b, err := t.read(name)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// write puts data in a file's place in one step; a crash leaves the old or the
// new one. Owner, mode and extended attributes stay the old file's; a new one
// is root's with the mode given.
func (t *tree) write(name string, data []byte, mode fs.FileMode) error {
	p, err := t.resolve(name, true)
	if err != nil {
		return err
	}
	tmp := path.Join(path.Dir(p), "."+path.Base(p)+".kamethod-new")
	if err := t.root.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := t.fill(tmp, p, data, mode); err != nil {
		_ = t.root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := t.root.Rename(tmp, p); err != nil {
		_ = t.root.Remove(tmp)
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

func (t *tree) fill(tmp, old string, data []byte, mode fs.FileMode) error {
	f, err := t.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	fi, err := t.root.Lstat(old)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = f.Chmod(mode)
	case err != nil:
	case !fi.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", old)
	default:
		err = t.dress(f, old, fi)
	}
	if err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// dress gives f what the old file has on. The owner comes before the mode and
// the attributes, because a chown drops set-id bits and capabilities.
func (t *tree) dress(f *os.File, old string, fi fs.FileInfo) error {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(fi.Mode().Perm() | fi.Mode()&(fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky)); err != nil {
		return err
	}
	o, err := t.root.Open(old)
	if err != nil {
		return err
	}
	defer o.Close()
	names, err := xattr.FList(o)
	if errors.Is(err, syscall.ENOTSUP) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, n := range names {
		v, err := xattr.FGet(o, n)
		if err != nil {
			return err
		}
		if err := xattr.FSet(f, n, v); err != nil {
			return err
		}
	}
	return nil
}

// remove removes a name: a file, or a link itself and not what it leads to.
func (t *tree) remove(name string) error {
	p, err := t.resolve(name, false)
	if err != nil {
		return err
	}
	if err := t.root.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}

// rename moves a file within one folder of the clone.
func (t *tree) rename(from, to string) error {
	p, err := t.resolve(from, false)
	if err != nil {
		return err
	}
	q, err := t.resolve(to, false)
	if err != nil {
		return err
	}
	return t.root.Rename(p, q)
}

// glob lists what matches, sorted; only the last element has a pattern. A
// folder that isn't there has nothing that matches.
func (t *tree) glob(pattern string) []string {
	dir, last := path.Split(pattern)
	var names []string
	for _, e := range t.list(dir) {
		if ok, err := path.Match(last, e.Name()); ok && err == nil {
			names = append(names, path.Join(dir, e.Name()))
		}
	}
	return names
}

// list is a folder's entries by name, none if it isn't a folder.
func (t *tree) list(dir string) []fs.DirEntry {
	if !t.isDir(dir) {
		return nil
	}
	p, err := t.resolve(dir, true)
	if err != nil {
		return nil
	}
	f, err := t.root.Open(p)
	if err != nil {
		return nil
	}
	defer f.Close()
	ents, _ := f.ReadDir(-1)
	sort.Slice(ents, func(i, j int) bool { return ents[i].Name() < ents[j].Name() })
	return ents
}

// copy puts a file's contents in another's place, in one step.
func (t *tree) copy(from, to string) error {
	fi, err := t.stat(from)
	if err != nil {
		return err
	}
	if !fi.Mode().IsRegular() || fi.Size() > maxLoader {
		return fmt.Errorf("copy %s: %d bytes, mode %v: not a boot loader's", from, fi.Size(), fi.Mode())
	}
	p, err := t.resolve(from, true)
	if err != nil {
		return err
	}
	f, err := t.root.Open(p)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxLoader))
	if err != nil {
		return err
	}
	return t.write(to, data, fi.Mode().Perm())
}

// mkdir makes a folder and those above it, where they aren't there.
func (t *tree) mkdir(name string) error {
	p, err := t.resolve(name, true)
	if err != nil {
		return err
	}
	return t.root.MkdirAll(p, 0o755)
}
