package restore

import (
	"slices"
	"strings"
	"sync"
)

// Warning is something that this machine couldn't set, on how many entries,
// and on which first.
type Warning struct {
	What  string // "xattr security.selinux not set: operation not supported"
	Count int
	First []string // at most 5 paths
}

const firstPaths = 5

// warnings collects what isn't worth failing for.
type warnings struct {
	mu sync.Mutex
	by map[string]*warned
}

type warned struct {
	count int
	first []int32
}

func (w *warnings) add(what string, entry int32, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.by == nil {
		w.by = map[string]*warned{}
	}
	key := what + ": " + err.Error()
	x := w.by[key]
	if x == nil {
		x = &warned{}
		w.by[key] = x
	}
	x.count++
	if len(x.first) < firstPaths {
		x.first = append(x.first, entry)
	}
}

// Warnings is what couldn't be set so far.
func (t *Tree) Warnings() []Warning {
	t.warnings.mu.Lock()
	defer t.warnings.mu.Unlock()
	var out []Warning
	for what, x := range t.warnings.by {
		w := Warning{What: what, Count: x.count}
		for _, i := range x.first {
			w.First = append(w.First, t.name(i))
		}
		out = append(out, w)
	}
	slices.SortFunc(out, func(a, b Warning) int { return strings.Compare(a.What, b.What) })
	return out
}
