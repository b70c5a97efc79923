package cook

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"

	"golang.org/x/sys/unix"
)

// needs is what goes to one mounted file system, in bytes: more than it has
// free, or, with archives that may replace what is there, than it has at all.
type needs struct{ free, all int64 }

// roomBelow sees whether what goes below the mounts fits, before any of it is
// written.
func (s *Sink) roomBelow() error {
	need := map[uint64]needs{}
	for _, d := range s.dishes {
		if !d.below {
			continue
		}
		if err := s.roomFor(d, need); err != nil {
			return fmt.Errorf("%s: %w", d.To, err)
		}
	}
	return nil
}

func (s *Sink) roomFor(d *dish, need map[uint64]needs) error {
	at := d.To
	if d.Archive == "" {
		at = path.Dir(at)
	}
	dir, err := s.below.folder(at)
	if err != nil {
		return err
	}
	defer dir.Close()
	st, err := s.below.onDisk(dir)
	if err != nil {
		return err
	}
	var fs unix.Statfs_t
	if err := unix.Fstatfs(int(dir.Fd()), &fs); err != nil {
		return fmt.Errorf("room: %w", err)
	}
	takes, err := s.takesFree(d)
	if err != nil {
		return err
	}
	n := need[st.Dev]
	n.all, n.free = n.all+d.Bytes, n.free+takes
	if n.free > int64(fs.Bfree)*fs.Bsize {
		return fmt.Errorf("%s and all that goes to the same place takes %d bytes, and %d are free there", d.From, n.free, int64(fs.Bfree)*fs.Bsize)
	}
	if n.all > int64(fs.Blocks)*fs.Bsize {
		return fmt.Errorf("%s and all that goes to the same place has %d bytes, and there are %d", d.From, n.all, int64(fs.Blocks)*fs.Bsize)
	}
	need[st.Dev] = n
	return nil
}

// takesFree is what a copy takes of the free bytes: of a file what it has not
// got; of an archive all where nothing is yet, else nobody knows.
func (s *Sink) takesFree(d *dish) (int64, error) {
	if d.Archive == "" {
		f, err := s.below.open(d.To, unix.O_PATH)
		if err != nil {
			return d.Bytes, nil // not there; who opens it says what else is wrong
		}
		defer f.Close()
		var st unix.Stat_t
		if err := unix.Fstat(int(f.Fd()), &st); err != nil {
			return 0, &os.PathError{Op: "stat", Path: d.To, Err: err}
		}
		return max(0, d.Bytes-st.Blocks*512), nil // stat(2): st_blocks are of 512 bytes
	}
	f, err := s.below.open(d.To, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	names, err := f.Readdirnames(2)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	if slices.ContainsFunc(names, func(n string) bool { return n != "lost+found" }) {
		return 0, nil
	}
	return d.Bytes, nil
}
