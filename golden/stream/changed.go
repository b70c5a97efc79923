package stream

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// Change is a file that isn't as it was scanned.
type Change struct {
	Path  string // below the root
	Entry int32
	Gone  bool
}

// version is what tells one state of a file from another.
type version struct {
	size         int64
	mtime, ctime stamp
	gone         bool
}

func versionOf(x *unix.Statx_t) version {
	return version{
		size:  int64(x.Size),
		mtime: stamp{x.Mtime.Sec, x.Mtime.Nsec},
		ctime: stamp{x.Ctime.Sec, x.Ctime.Nsec},
	}
}

// Changed looks at every file again and lists those whose size,
// mtime or ctime moved since the scan or since Settle copied them, and those
// that couldn't be read whole.
func (t *Tree) Changed() []Change {
	t.mu.Lock()
	changed := map[int32]bool{} // value: gone
	for n := range t.torn {
		if _, ok := t.copied[n]; !ok {
			changed[n] = false
		}
	}
	copied := maps.Clone(t.copied)
	t.mu.Unlock()
	dir, dirIndex := -1, int32(-1)
	for i := range t.m.Entries {
		n, e := int32(i), &t.m.Entries[i]
		if e.Type != File {
			continue
		}
		if e.Parent != dirIndex {
			if dir >= 0 {
				unix.Close(dir)
			}
			dirIndex = e.Parent
			dir, _ = OpenBeneath(t.root, t.m.Path(e.Parent), unix.O_PATH|unix.O_DIRECTORY, 0)
		}
		var st unix.Statx_t
		err := error(unix.ENOENT)
		if dir >= 0 {
			st, err = statx(dir, e.Name, unix.AT_SYMLINK_NOFOLLOW)
		}
		last, ok := copied[n]
		if !ok {
			last = version{size: e.Size, mtime: stamp{e.Sec, e.Nsec}, ctime: t.ctimes[n]}
		}
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			if !last.gone {
				changed[n] = err == nil || gone(err)
			}
			continue
		}
		if versionOf(&st) != last {
			changed[n] = false
		}
	}
	if dir >= 0 {
		unix.Close(dir)
	}
	return t.changes(changed)
}

func (t *Tree) changes(changed map[int32]bool) []Change {
	var out []Change
	for n, gone := range changed {
		out = append(out, Change{Path: t.m.Path(n), Entry: n, Gone: gone})
	}
	slices.SortFunc(out, func(a, b Change) int { return int(a.Entry) - int(b.Entry) })
	return out
}
