package stream

import (
	"slices"

	"golang.org/x/sys/unix"
)

// Change is a file that isn't as it was scanned.
type Change struct {
	Path  string // below the root
	Entry int32
	Gone  bool
	// First and Last are the pieces of the contents stream that hold its data.
	First, Last uint32
}

// Changed looks at every file with contents again and lists those whose size,
// mtime or ctime moved since the scan, and those that couldn't be read whole.
func (t *Tree) Changed() []Change {
	t.mu.Lock()
	changed := map[int32]bool{} // value: gone
	for n := range t.torn {
		changed[n] = false
	}
	t.mu.Unlock()
	dir, dirIndex := -1, int32(-1)
	for i := range t.m.Entries {
		n, e := int32(i), &t.m.Entries[i]
		if e.DataLen() == 0 {
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
		if err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			changed[n] = err == nil || gone(err)
			continue
		}
		ctime, mtime := stamp{st.Ctime.Sec, st.Ctime.Nsec}, stamp{st.Mtime.Sec, st.Mtime.Nsec}
		if int64(st.Size) != e.Size || ctime != t.ctimes[n] || mtime != (stamp{e.Sec, e.Nsec}) {
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
	size := int64(t.streams[ContentsID].PieceSize)
	for n, gone := range changed {
		e := &t.m.Entries[n]
		out = append(out, Change{
			Path: t.m.Path(n), Entry: n, Gone: gone,
			First: uint32(e.DataOff / size),
			Last:  uint32((e.DataOff + e.DataLen() - 1) / size),
		})
	}
	slices.SortFunc(out, func(a, b Change) int { return int(a.Entry) - int(b.Entry) })
	return out
}
