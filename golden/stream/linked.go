package stream

import "golang.org/x/sys/unix"

// openEntry opens the file of an entry for reading.
func (t *Tree) openEntry(n int32) (int, error) {
	fd, err := openQuietly(t.root, t.m.Path(n), 0)
	return t.sameInode(n, fd, err)
}

// sameInode takes what opening entry n gave. If the entry has further names
// and its own has become another file or is gone, it opens the file by one of
// the others: the clones get what is read under all of them.
func (t *Tree) sameInode(n int32, fd int, err error) (int, error) {
	id, ok := t.linked[n]
	if !ok || err == nil && inodeOf(fd) == id || err != nil && !gone(err) {
		return fd, err
	}
	for _, other := range t.otherNames(n) {
		f, err := openQuietly(t.root, t.m.Path(other), 0)
		if err != nil {
			continue
		}
		if inodeOf(f) == id {
			if fd >= 0 {
				unix.Close(fd)
			}
			return f, nil
		}
		unix.Close(f)
	}
	return fd, err
}

func inodeOf(fd int) inodeKey {
	st, err := statOpen(fd)
	if err != nil {
		return inodeKey{}
	}
	return inodeKey{unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino}
}

// otherNames are the hard links to an entry.
func (t *Tree) otherNames(n int32) []int32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.names == nil {
		t.names = map[int32][]int32{}
		for i := range t.m.Entries {
			if e := &t.m.Entries[i]; e.Type == HardLink {
				t.names[e.Target] = append(t.names[e.Target], int32(i))
			}
		}
	}
	return t.names[n]
}
