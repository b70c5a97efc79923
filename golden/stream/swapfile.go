package stream

import (
	"os"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/mangle"
	"golang.org/x/sys/unix"
)

// A swap file in use is written to behind the file system's back, without a
// sign in its times, and what is in it are parts of the memory of golden's
// programs. The clone gets its first page, which says that it is one, and its
// space, without a hole: with one, swapon(8) refuses it.

// swapHeader is how much of a swap file says what it is: one page.
const swapHeader = 4096

// activeSwaps lists the swap files that proc (/proc/swaps) names, by inode.
func activeSwaps(proc string) map[uint64][]string {
	b, err := os.ReadFile(proc)
	if err != nil {
		return nil
	}
	var out map[uint64][]string
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) < 2 || w[1] != "file" {
			continue
		}
		path := mangle.Undo(w[0])
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
			continue
		}
		if out == nil {
			out = map[uint64][]string{}
		}
		out[st.Ino] = append(out[st.Ino], path)
	}
	return out
}

// isSwap says whether the file is in use as swap space: that very file, or, in
// a snapshot, the one that had its inode number and its path.
func (s *scanner) isSwap(f *found, dir string) bool {
	return slices.ContainsFunc(s.swaps[f.ino], func(path string) bool {
		if path == "/"+join(dir, f.Name) {
			return true
		}
		var st unix.Stat_t
		return unix.Stat(path, &st) == nil && uint64(st.Dev) == f.dev && st.Ino == f.ino
	})
}

func (f *found) asSwap() {
	f.Dense, f.Sparse = false, &Layout{Unwritten: []Extent{{0, f.Size}}}
	if n := min(f.Size, swapHeader); n > 0 {
		f.Sparse.Data = []Extent{{0, n}}
	}
	if f.Size == 0 {
		f.Sparse = nil
		f.Dense = true
	}
}
