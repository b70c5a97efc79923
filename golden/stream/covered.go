package stream

import "golang.org/x/sys/unix"

// covered gives f, a directory that another mount covers, the attributes of
// the directory below it: the clone has that one. Where nobody may look below
// (open_tree(2) needs CAP_SYS_ADMIN), f keeps those of what is mounted.
//
//	/proc ──▶ proc's root (0555, now)    what stat sees
//	  └─────▶ the disk's /proc (0755, when it was made)
func (s *scanner) covered(t *dirTask, f *found) {
	view := s.view(t.mount)
	if view < 0 {
		return
	}
	fd, err := openQuietly(view, relativeTo(t.mount, join(t.path, f.Name)), unix.O_DIRECTORY)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	st, err := statOpen(fd)
	if err != nil {
		return
	}
	below := found{Entry: Entry{Name: f.Name, Target: -1}}
	if below.fill(&st); below.Type != Dir {
		return
	}
	below.ctime = stamp{} // there is nothing below it
	if _, err := below.opened(fd); err == nil {
		*f = below
	}
}

// relativeTo is a relative path below the mount point.
func relativeTo(mount, path string) string {
	if m := relative(mount); m != "" {
		return path[len(m)+1:]
	}
	return path
}

// view is the listed mount without what is mounted on it, or -1.
func (s *scanner) view(mount string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	fd, ok := s.views[mount]
	if ok {
		return fd
	}
	fd = -1
	if dir, err := OpenBeneath(s.root, relative(mount), unix.O_PATH|unix.O_DIRECTORY, 0); err == nil {
		if fd, err = unix.OpenTree(dir, "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC); err != nil {
			fd = -1
		}
		unix.Close(dir)
	}
	s.views[mount] = fd
	return fd
}

func (s *scanner) closeViews() {
	for _, fd := range s.views {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}
