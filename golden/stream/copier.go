package stream

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// copier copies files that are in use, one after the other, into the spool.
type copier struct {
	t        *Tree
	spool    *os.File
	patch    *Patch
	end      int64 // of what is in the spool
	versions map[int32]version
	moving   map[int32]string
	buf      []byte
}

// errNoRoom: the spool is full.
var errNoRoom = errors.New("no room for a copy")

// tries is how often a file is copied that moves meanwhile, pause how long it
// is left alone before the second time, and before the third five times as
// long. What took longer than patience is not copied again.
const (
	tries    = 3
	pause    = 20 * time.Millisecond
	patience = 20 * time.Second
)

// add copies what is needed of entry n.
func (c *copier) add(ctx context.Context, n int32, x *need) error {
	if !x.whole {
		ok, err := c.addParts(ctx, n, x.parts, false)
		if ok || err != nil {
			return err
		}
	}
	err := c.addWhole(ctx, n)
	if !errors.Is(err, errNoRoom) {
		return err
	}
	c.moving[n] = err.Error()
	if len(x.parts) == 0 {
		return nil // the nodes have what was read of it
	}
	_, err = c.addParts(ctx, n, x.parts, true) // some of them lack these
	return err
}

// addParts copies ranges of a file that is as it was scanned, or says that it
// isn't; whatever it is if torn.
func (c *copier) addParts(ctx context.Context, n int32, xs []Extent, torn bool) (ok bool, err error) {
	e := &c.t.m.Entries[n]
	fd, err := c.t.openEntry(n)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	whole, err := c.copyData(ctx, fd, n, xs)
	if err != nil || !whole && !torn {
		return false, err
	}
	after, err := statOpen(fd)
	if err != nil {
		return false, fmt.Errorf("stat: %w", err)
	}
	if !torn && versionOf(&after) != (version{size: e.Size, mtime: stamp{e.Sec, e.Nsec}, ctime: c.t.ctimes[n]}) {
		return false, nil
	}
	f := Entry{Type: File, Parent: -1, Target: -1, Size: e.Size, DataOff: c.end, Sparse: &Layout{Data: xs}}
	c.end += f.DataLen()
	c.patch.Files = append(c.patch.Files, Patched{Base: n, Part: true, File: f})
	return true, nil
}

// addWhole copies the file that is at entry n now, or notes that it is gone.
func (c *copier) addWhole(ctx context.Context, n int32) error {
	begun := time.Now()
	for try := range tries {
		if try > 0 {
			if err := sleep(ctx, pause*time.Duration(4*try-3)); err != nil {
				return err
			}
		}
		f, stable, err := c.copy(ctx, n)
		if err != nil {
			return err
		}
		if f == nil {
			c.patch.Files = append(c.patch.Files, Patched{Base: n, Removed: true})
			if _, ok := c.t.linked[n]; ok {
				c.moving[n] = "is gone, and its other names are other files now: the clones may lack what it held there"
			}
			c.versions[n] = version{gone: true}
			return nil
		}
		if !stable && try+1 < tries && time.Since(begun) < patience {
			continue
		}
		if !stable {
			c.moving[n] = fmt.Sprintf("is written to all the time: copied %d times and never consistent", try+1)
		} else if k, ok := c.t.linked[n]; ok && k != (inodeKey{f.dev, f.ino}) {
			c.moving[n] = "has become another file than that of its other names, which the clones give its contents too"
		}
		f.Entry.Parent, f.Entry.Target, f.Entry.DataOff = -1, -1, c.end
		c.end += f.DataLen()
		c.patch.Files = append(c.patch.Files, Patched{Base: n, File: f.Entry})
		c.versions[n] = version{size: f.Size, mtime: stamp{f.Sec, f.Nsec}, ctime: f.ctime}
		return nil
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// copy copies a file to the end of the spool and says whether it stood still
// meanwhile; it is nil if no file is there.
func (c *copier) copy(ctx context.Context, n int32) (f *found, stable bool, err error) {
	fd, err := c.t.openEntry(n)
	if gone(err) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer unix.Close(fd)
	begun := time.Now()
	st, err := statOpen(fd)
	if err != nil {
		return nil, false, fmt.Errorf("stat: %w", err)
	}
	f = new(found)
	if f.fill(&st); f.Type != File {
		return nil, true, nil
	}
	x, err := f.opened(fd)
	if err != nil {
		return nil, false, err
	}
	if err := f.lookData(fd, &st, x.Flags); err != nil {
		return nil, false, err
	}
	if err := c.room(f.DataLen()); err != nil {
		return nil, false, err
	}
	whole, err := c.copyData(ctx, fd, n, f.Data())
	if err != nil {
		return nil, false, err
	}
	after, err := statOpen(fd)
	if err != nil {
		return nil, false, fmt.Errorf("stat: %w", err)
	}
	stable = whole && versionOf(&after) == versionOf(&st) && begun.Sub(time.Unix(f.ctime.sec, int64(f.ctime.nsec))) >= tick()
	return f, stable, nil
}

// room says whether so many bytes may go into the spool: golden is a machine
// in use, and a full disk would harm it.
func (c *copier) room(n int64) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(c.spool.Fd()), &st); err != nil {
		return fmt.Errorf("stat the spool: %w", err)
	}
	reserve := min(int64(st.Blocks)*st.Bsize/20, 1<<30)
	if free := int64(st.Bavail)*st.Bsize - reserve; n > free {
		return fmt.Errorf("%w of %d bytes in %s, which may take %d", errNoRoom, n, filepath.Dir(c.spool.Name()), max(free, 0))
	}
	return nil
}

// copyData copies extents one after the other; whole is false if some of them
// isn't there any more.
func (c *copier) copyData(ctx context.Context, fd int, n int32, xs []Extent) (whole bool, err error) {
	if c.buf == nil {
		c.buf = make([]byte, 1<<20)
	}
	whole = true
	to := c.end
	for _, x := range xs {
		for x.Len > 0 {
			if err := ctx.Err(); err != nil {
				return false, err
			}
			b := c.buf[:min(x.Len, int64(len(c.buf)))]
			m, err := preadFull(fd, b, x.Off)
			if errors.Is(err, unix.EIO) {
				m, err = preadAround(fd, b, x.Off, func(x Extent) { c.t.unreadable(n, x) })
			}
			if err != nil {
				return false, fmt.Errorf("read %d bytes at %d: %w", len(b), x.Off, err)
			}
			if m < len(b) {
				whole = false
				clear(b[m:])
			}
			if _, err := c.spool.WriteAt(b, to); errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
				return false, fmt.Errorf("%w in %s: %w", errNoRoom, filepath.Dir(c.spool.Name()), err)
			} else if err != nil {
				return false, err
			}
			to += int64(len(b))
			x.Off, x.Len = x.Off+int64(len(b)), x.Len-int64(len(b))
		}
	}
	return whole, nil
}

// tick is how long a file's time may stay the same while it is written to: a
// jiffy, 10 ms where it is longest (CONFIG_HZ=100). Since Linux 6.13 a time
// that somebody has asked for is never given twice on the usual file systems
// (Documentation/filesystems/multigrain-ts.rst).
func tick() time.Duration {
	var u unix.Utsname
	var major, minor int
	if unix.Uname(&u) == nil {
		fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	}
	if major > 6 || major == 6 && minor >= 13 {
		return 0
	}
	return 10 * time.Millisecond
}
