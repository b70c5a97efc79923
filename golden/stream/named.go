package stream

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// named is a property that the tree doesn't carry, on how many entries, and
// on which first.
type named struct {
	count int
	first []string
}

const firstNamed = 5

// often warns of what many entries may have, in one line for all.
func (s *scanner) often(what, path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.named[what]
	if n == nil {
		n = new(named)
		s.named[what] = n
	}
	n.count++
	if len(n.first) < firstNamed {
		n.first = append(n.first, fmt.Sprintf("%q", "/"+path))
	}
}

// nameXflags warns of the flags that only some file systems have.
func (s *scanner) nameXflags(flags uint32, dir, name string) {
	for _, x := range lostXflags {
		if flags&x.flag != 0 {
			s.often("flag not carried over: "+x.name, join(dir, name))
		}
	}
}

// summary is one warning for each property.
func (s *scanner) summary() []string {
	var out []string
	for _, what := range slices.Sorted(maps.Keys(s.named)) {
		n := s.named[what]
		slices.Sort(n.first)
		line := fmt.Sprintf("%s: %s", strings.Join(n.first, ", "), what)
		if more := n.count - len(n.first); more > 0 {
			line = fmt.Sprintf("%s and %d more: %s", strings.Join(n.first, ", "), more, what)
		}
		s.opt.Log.Warn(line)
		out = append(out, line)
	}
	return out
}

// shared says of which mounts a copy is larger than the original: what files
// share there (reflinks, snapshots) each has for itself in a clone, and what
// is compressed need not be.
func (t *Tree) shared() []string {
	var out []string
	for _, u := range t.usage {
		fd, err := OpenBeneath(t.root, relative(u.Mount), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			continue
		}
		var st unix.Statfs_t
		err = unix.Fstatfs(fd, &st)
		unix.Close(fd)
		used := int64(st.Blocks-st.Bfree) * st.Bsize
		const slack = 64 << 20 // small files are counted in whole blocks
		if err == nil && st.Blocks > 0 && u.Bytes > used+used/50+slack {
			out = append(out, fmt.Sprintf("%s: its files share blocks or are compressed: %d bytes there, up to %d on a clone, which shares none", u.Mount, used, u.Bytes))
		}
	}
	return out
}
