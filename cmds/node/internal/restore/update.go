package restore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// identity is which file a name on the target is.
type identity struct{ dev, ino uint64 }

// before is what the target held when an update began.
type before struct {
	mu     sync.Mutex
	linked map[int32]linked // names of files that have, or shall have, several
}

// linked is a name of a file that may have others.
type linked struct {
	identity
	links uint64
	fits  bool // size, holes and flags are those of the entry
}

// look goes through the directories that were there, once, before anything
// is written: what the manifest doesn't know is removed, at once, as the disk
// may not have room for both trees; a file that can become the manifest's by
// writing into it is kept.
func (t *Tree) look() error {
	kids := t.children()
	groups := map[int32]uint64{} // how many names the file at that entry shall have
	for i := range t.m.Entries {
		if e := &t.m.Entries[i]; e.Type == stream.HardLink && t.m.Entries[e.Target].Type == stream.File {
			groups[e.Target]++
		}
	}
	b := before{linked: map[int32]linked{}}
	var g errgroup.Group
	g.SetLimit(t.opt.Workers)
	for _, i := range t.taken {
		g.Go(func() error { return t.lookDir(i, kids[i], groups, &b) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	t.keepGroups(&b)
	return nil
}

// span is the entries of one directory: they come one after the other.
type span struct{ from, to int32 }

// children is the span of each directory that has any.
func (t *Tree) children() map[int32]span {
	kids := map[int32]span{}
	for i := 1; i < len(t.m.Entries); {
		p, from := t.m.Entries[i].Parent, i
		for i < len(t.m.Entries) && t.m.Entries[i].Parent == p {
			i++
		}
		kids[p] = span{int32(from), int32(i)}
	}
	return kids
}

func (t *Tree) lookDir(d int32, kids span, groups map[int32]uint64, b *before) error {
	h := t.hold()
	defer h.close()
	dir, err := h.open(d)
	if err != nil {
		return err
	}
	names, err := list(dir)
	if err != nil {
		return fmt.Errorf("read %s: %w", t.name(d), err)
	}
	// Inodes lie on the disk by number: look at them in that order.
	slices.SortFunc(names, func(a, b there) int { return cmp.Compare(a.ino, b.ino) })
	entries := t.m.Entries[kids.from:kids.to]
	for _, x := range names {
		k, known := slices.BinarySearchFunc(entries, x.name, func(e stream.Entry, name string) int { return strings.Compare(e.Name, name) })
		i := kids.from + int32(k)
		switch {
		case !known && x.name == "lost+found" && x.dir && slices.Contains(t.mounts, d):
			// mkfs made it, and golden's is not in the manifest
		case !known:
			err = t.removeExtra(dir, x, d)
		case entries[k].Type == stream.Dir:
		case x.dir:
			err = t.clear(dir, i)
		case entries[k].Type == stream.File:
			err = t.lookFile(dir, i, groups[i], b)
		case entries[k].Type == stream.HardLink && t.m.Entries[entries[k].Target].Type == stream.File:
			err = t.lookLink(dir, i, b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookFile keeps the file that is at entry i, or removes it. names is how
// many hard links the manifest makes to it.
func (t *Tree) lookFile(dir int, i int32, names uint64, b *before) error {
	var st unix.Stat_t
	fits, err := t.fits(dir, i, &st)
	if err != nil {
		return err
	}
	if st.Nlink > 1 || names > 0 {
		b.mu.Lock()
		b.linked[i] = linked{identity{uint64(st.Dev), st.Ino}, uint64(st.Nlink), fits}
		b.mu.Unlock()
		return nil
	}
	if !fits {
		return t.clear(dir, i)
	}
	t.made[i], t.old[i] = true, true
	return nil
}

// lookLink takes down which file the other name of a file is.
func (t *Tree) lookLink(dir int, i int32, b *before) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, t.m.Entries[i].Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("stat %s: %w", t.name(i), err)
	}
	b.mu.Lock()
	b.linked[i] = linked{identity: identity{uint64(st.Dev), st.Ino}}
	b.mu.Unlock()
	return nil
}

// keepGroups keeps the files all of whose names are names of the same file in
// the manifest: to write into any other would change what isn't meant. What
// isn't kept is replaced when its turn comes.
func (t *Tree) keepGroups(b *before) {
	same := map[int32]uint64{}
	for i, x := range b.linked {
		target := i
		if e := &t.m.Entries[i]; e.Type == stream.HardLink {
			target = e.Target
		}
		if y, ok := b.linked[target]; ok && y.identity == x.identity {
			same[target]++
		}
	}
	for i, n := range same {
		if x := b.linked[i]; x.fits && n == x.links {
			t.made[i], t.old[i] = true, true
		}
	}
}

// fits says whether the name in dir is a regular file with the size, the
// holes and the early flags of entry i. Other flags are taken away, as they
// might keep us from writing.
func (t *Tree) fits(dir int, i int32, st *unix.Stat_t) (bool, error) {
	e := &t.m.Entries[i]
	if err := unix.Fstatat(dir, e.Name, st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false, fmt.Errorf("stat %s: %w", t.name(i), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Size != e.Size || !t.privileged && st.Mode&0o600 != 0o600 {
		return false, nil
	}
	fd, err := unix.Openat(dir, e.Name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false, nil // whatever it is, it is made anew
	}
	defer unix.Close(fd)
	if err := unix.Fstat(fd, st); err != nil {
		return false, fmt.Errorf("stat %s: %w", t.name(i), err)
	}
	if flags, err := unix.IoctlGetUint32(fd, unix.FS_IOC_GETFLAGS); err == nil && flags&stream.FlagMask != 0 {
		if (flags^e.Flags)&stream.FlagEarly != 0 {
			return false, nil
		}
		dropFlags(fd)
	} else if e.Flags&stream.FlagEarly != 0 {
		return false, nil
	}
	same, err := stream.SameLayout(fd, e)
	return same && err == nil, nil // a disk may fail to say where its holes are
}
