package stream

import "golang.org/x/sys/unix"

// Moved counts what has changed between the scan and the moment when all had
// been read once: files, each of which was copied again in one piece, and
// directories, in which names may have come or gone. Both are 0 where nothing
// was in use, or a snapshot was read: the clones then have the tree as it was
// at one moment.
func (t *Tree) Moved() (files, dirs int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.copied), t.movedDirs
}

// Moved is that of the tree; blocks that moved are Torn.
func (w *Whole) Moved() (files, dirs int) {
	if w.tree == nil {
		return 0, 0
	}
	return w.tree.Moved()
}

// countDirs looks at every directory that was read again.
func (t *Tree) countDirs() {
	moved := 0
	for i := range t.m.Entries {
		if t.m.Entries[i].Type != Dir || t.ctimes[i] == (stamp{}) {
			continue // nobody has read what is in it
		}
		fd, err := OpenBeneath(t.root, t.m.Path(int32(i)), unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			moved++
			continue
		}
		st, err := statOpen(fd)
		unix.Close(fd)
		if err != nil || (stamp{st.Ctime.Sec, st.Ctime.Nsec}) != t.ctimes[i] {
			moved++
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.movedDirs = moved
}
