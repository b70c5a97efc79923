package stream

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ScanOptions says what of a golden root is the tree.
type ScanOptions struct {
	Root     string       // directory that is the golden root; "/" for the running machine
	Mounts   []string     // golden's mount points to be descended into ("/home"); any other mount is an empty directory. "/" needn't be named
	Excludes []string     // absolute in golden: a directory is recorded empty, anything else left out
	Workers  int          // directories read at a time; 0: 8, enough to keep a disk's queue filled
	Log      *slog.Logger // nil: none
}

// found is an entry with what only the golden side needs of it.
type found struct {
	Entry
	ctime stamp
	links uint32
	dev   uint64
	ino   uint64
	sub   *dirTask // Dir: its children, if it is descended into
}

// stamp is a time as the kernel keeps it.
type stamp struct {
	sec  int64
	nsec uint32
}

// dirTask is a directory to be read, and then what was in it.
type dirTask struct {
	path   string
	mount  string // the listed mount point it belongs to
	top    bool   // it is that mount point
	locked bool   // it is encrypted
	found  []found
}

// scanner walks a tree with several workers; each task is one directory.
type scanner struct {
	// config
	opt      ScanOptions
	root     int
	mounts   map[string]bool            // relative paths
	excludes map[string]map[string]bool // relative directory, name
	swaps    map[uint64][]string        // paths of swap files that are in use, by inode; nil: none is

	// state
	mu    sync.Mutex
	cond  *sync.Cond
	todo  []*dirTask
	busy  int
	count int // entries found so far
	err   error
	warns []string
	named map[string]*named
	views map[string]int // of what lies under other mounts, by listed mount point; -1: can't be had
}

// Scan walks the golden root and makes the manifest. Files that vanish
// meanwhile are left out; what can't be read otherwise is an error that names
// it. Close the tree after use.
func Scan(ctx context.Context, opt ScanOptions) (*Tree, error) {
	root, err := openDirPath(opt.Root)
	if err != nil {
		return nil, err
	}
	s := newScanner(opt, root)
	defer s.closeViews()
	top, err := s.rootEntry()
	if err == nil {
		err = s.walk(ctx, top.sub)
	}
	if err != nil {
		unix.Close(root)
		return nil, fmt.Errorf("scan %s: %w", opt.Root, err)
	}
	if s.count > manyEntries {
		runtime.GC() // so that the tree can have the room of what the walk has thrown away
	}
	t, err := newTree(opt.Root, root, top, s.count+1, append(s.warns, s.summary()...))
	if err != nil {
		unix.Close(root)
		return nil, fmt.Errorf("scan %s: %w", opt.Root, err)
	}
	t.warnings = append(t.warnings, t.shared()...)
	if s.count > manyEntries {
		debug.FreeOSMemory() // what the walk took is more than what the tree keeps, and the tree stays for hours
	}
	return t, nil
}

// manyEntries is from where on collecting the garbage of a scan at once pays:
// it takes some 0.1 s for a million.
const manyEntries = 100_000

func newScanner(opt ScanOptions, root int) *scanner {
	if opt.Workers <= 0 {
		opt.Workers = max(8, runtime.GOMAXPROCS(0))
	}
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	s := &scanner{opt: opt, root: root, mounts: map[string]bool{}, excludes: map[string]map[string]bool{},
		swaps: activeSwaps("/proc/swaps"), named: map[string]*named{}, views: map[string]int{}}
	s.cond = sync.NewCond(&s.mu)
	for _, m := range opt.Mounts {
		s.mounts[relative(m)] = true
	}
	for _, x := range opt.Excludes {
		dir, name := path.Split(relative(x))
		dir = strings.TrimSuffix(dir, "/")
		if s.excludes[dir] == nil {
			s.excludes[dir] = map[string]bool{}
		}
		s.excludes[dir][name] = true
	}
	return s
}

// relative is an absolute golden path as paths are written in a tree.
func relative(p string) string { return strings.TrimPrefix(path.Clean("/"+p), "/") }

func (s *scanner) rootEntry() (*found, error) {
	f := &found{Entry: Entry{Type: Dir, Parent: -1, Target: -1}}
	st, err := statOpen(s.root)
	if err != nil {
		return nil, fmt.Errorf("stat root: %w", err)
	}
	f.fill(&st)
	if _, err := f.opened(s.root); err != nil {
		return nil, err
	}
	f.sub = &dirTask{mount: "/", top: true}
	return f, nil
}

// walk reads the directories below top; it returns when all are read, when
// one failed or when ctx is done.
func (s *scanner) walk(ctx context.Context, top *dirTask) error {
	s.todo = append(s.todo, top)
	stop := context.AfterFunc(ctx, func() { s.fail(ctx.Err()) })
	defer stop()
	var wg sync.WaitGroup
	for range s.opt.Workers {
		wg.Go(s.work)
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *scanner) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.cond.Broadcast()
}

// work ends when nothing is left to do and nobody can find more.
func (s *scanner) work() {
	buf := make([]byte, 64<<10)
	for {
		s.mu.Lock()
		for len(s.todo) == 0 && s.busy > 0 && s.err == nil {
			s.cond.Wait()
		}
		if len(s.todo) == 0 || s.err != nil {
			s.mu.Unlock()
			s.cond.Broadcast()
			return
		}
		t := s.todo[len(s.todo)-1]
		s.todo = s.todo[:len(s.todo)-1]
		s.busy++
		s.mu.Unlock()

		err := s.readDir(t, buf)

		s.mu.Lock()
		s.busy--
		if err != nil && s.err == nil {
			s.err = err
		}
		s.count += len(t.found)
		for i := range t.found {
			if sub := t.found[i].sub; sub != nil {
				s.todo = append(s.todo, sub)
			}
		}
		s.mu.Unlock()
		s.cond.Broadcast()
	}
}

func (s *scanner) warn(path, what string) {
	s.opt.Log.Warn(what, "path", "/"+path)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.warns = append(s.warns, fmt.Sprintf("/%s: %s", path, what))
}
