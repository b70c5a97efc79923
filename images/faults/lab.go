package faults

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/trust"
)

// Lab is what runs share: the programs, the keys, the sources, and how long a
// transfer takes that nobody disturbs.
type Lab struct {
	Dir string // a file system in memory
	Bin string
	Log func(format string, args ...any) // told what is done to whom; may be nil

	mu      sync.Mutex
	sources map[int64]func() (source, error)
	calm    map[Shape]func() (*Result, error)
	runs    int
}

type source struct {
	path string
	sum  [sha256.Size]byte
}

// NewLab makes the programs, with build tags where they are given. The caller
// is in a mount namespace of its own: Isolate.
func NewLab(tags string) (*Lab, error) {
	dir, err := os.MkdirTemp("", "kamethod-faults-")
	if err != nil {
		return nil, err
	}
	l := &Lab{Dir: dir, Bin: filepath.Join(dir, "bin"), sources: map[int64]func() (source, error){}, calm: map[Shape]func() (*Result, error){}}
	if err := unix.Mount("none", dir, "tmpfs", unix.MS_NOSUID, "mode=0700"); err != nil {
		return nil, errors.Join(fmt.Errorf("mount a tmpfs on %s: %w", dir, err), os.Remove(dir))
	}
	if err := l.furnish(tags); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) furnish(tags string) error {
	if dir := os.Getenv("FAULTS_BIN"); dir != "" { // programs that are built already
		l.Bin = dir
	} else if err := build(l.Bin, tags); err != nil {
		return err
	}
	if _, err := trust.LoadOrCreate(l.golden()); err != nil {
		return err
	}
	if _, err := trust.LoadOrCreateToken(l.golden()); err != nil {
		return err
	}
	for _, name := range []string{trust.PinFile, trust.TokenFile} {
		b, err := os.ReadFile(filepath.Join(l.golden(), name))
		if err == nil {
			err = os.MkdirAll(l.keys(), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(l.keys(), name), b, 0o600)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) golden() string { return filepath.Join(l.Dir, "golden-etc") }
func (l *Lab) keys() string   { return filepath.Join(l.Dir, "node-etc") }

// Close takes everything away.
func (l *Lab) Close() {
	unix.Unmount(l.Dir, unix.MNT_DETACH)
	os.Remove(l.Dir)
}

func (l *Lab) say(format string, args ...any) {
	if l.Log != nil {
		l.Log(format, args...)
	}
}

// source is a file of so many bytes that can't be compressed; each size is
// made once.
func (l *Lab) source(bytes int64) (source, error) {
	l.mu.Lock()
	f := l.sources[bytes]
	if f == nil {
		f = sync.OnceValues(func() (source, error) {
			return makeSource(filepath.Join(l.Dir, fmt.Sprintf("source-%d", bytes)), bytes)
		})
		l.sources[bytes] = f
	}
	l.mu.Unlock()
	return f()
}

func makeSource(path string, bytes int64) (source, error) {
	f, err := os.Create(path)
	if err != nil {
		return source{}, err
	}
	defer f.Close()
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{byte(bytes)}), bytes); err != nil {
		return source{}, err
	}
	sum, err := hashFile(path)
	return source{path, sum}, err
}

func hashFile(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return [sha256.Size]byte(h.Sum(nil)), err
}

// folder makes a new folder for a run.
func (l *Lab) folder() (string, error) {
	l.mu.Lock()
	l.runs++
	dir := filepath.Join(l.Dir, fmt.Sprintf("run-%d", l.runs))
	l.mu.Unlock()
	return dir, os.Mkdir(dir, 0o755)
}
