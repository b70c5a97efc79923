package restore

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
)

// Finish puts patched files in their places, makes everything that has no
// contents, then hard links, then gives
// the directories their attributes and everything its flags, and waits until
// all is on the disk. Call it when no piece is missing.
func (t *Tree) Finish(ctx context.Context) error {
	select {
	case <-t.ready:
	default:
		return fmt.Errorf("finish %s: the manifest is not complete", t.path)
	}
	if t.err != nil {
		return t.err
	}
	steps := []func(context.Context) error{
		t.readPatches,
		t.checkComplete,
		func(ctx context.Context) error { return t.each(ctx, t.makeRest) },
		func(ctx context.Context) error { return t.each(ctx, t.makeLink) },
		t.removeGone,
		t.finishDirs,
		t.finishFlags,
		t.sync,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	for _, w := range t.Warnings() {
		t.opt.Log.Warn(w.What, "count", w.Count, "first", w.First)
	}
	return nil
}

// checkComplete wants each piece of the contents: Put, or held before; if not,
// then all that was in it from the patches.
func (t *Tree) checkComplete(context.Context) error {
	for p := range t.contents.Pieces {
		if t.got[p].Load() || t.told[p].Load() {
			continue
		}
		off := int64(p) * int64(t.contents.PieceSize)
		end := off + int64(t.contents.Len(p))
		for i := stream.FindSegment(t.segs, off); i < len(t.segs) && t.segs[i].Off < end; i++ {
			g := t.segs[i]
			from, to := max(off, g.Off), min(end, g.Off+g.Len)
			if !t.patched(g.Entry, g.Pos+from-g.Off, g.Pos+to-g.Off) {
				return fmt.Errorf("finish %s: a part of it, in piece %d, is missing", t.name(g.Entry), p)
			}
		}
	}
	return nil
}

// each calls f for all entries, in several goroutines, each with a stretch of
// them; h is the goroutine's own.
func (t *Tree) each(ctx context.Context, f func(h *held, i int32) error) error {
	const stretch = 1024
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(t.opt.Workers)
	for start := 0; start < len(t.m.Entries); start += stretch {
		g.Go(func() error {
			h := t.hold()
			defer h.close()
			for i := start; i < min(start+stretch, len(t.m.Entries)); i++ {
				if err := ctx.Err(); err != nil {
					return fmt.Errorf("finish %s: %w", t.path, err)
				}
				if err := f(h, int32(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// makeRest makes an entry that has no contents and is neither a directory nor
// a hard link, and gives a file that was kept its attributes.
func (t *Tree) makeRest(h *held, i int32) error {
	e := &t.m.Entries[i]
	if w, ok := t.latest[i]; ok && !t.removed(i) {
		return t.patchFile(h, i, w)
	} else if parts := t.parts[i]; !ok && len(parts) > 0 {
		return t.patchParts(h, i, parts)
	}
	switch {
	case e.Type == stream.Dir || e.Type == stream.HardLink:
		return nil
	case e.Type == stream.File && t.made[i]:
		return t.finishKept(h, i)
	}
	dir, err := h.open(e.Parent)
	if err != nil {
		return err
	}
	if e.Type == stream.File {
		fd, err := t.openFile(dir, i)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return t.setOpen(fd, i)
	}
	if t.opt.Update && e.Type == stream.Symlink && sameLink(dir, e) {
		return nil
	}
	err = makeNode(dir, e)
	if errors.Is(err, unix.EEXIST) {
		if err := t.clear(dir, i); err != nil {
			return err
		}
		err = makeNode(dir, e)
	}
	if errors.Is(err, unix.EPERM) && !t.privileged {
		return t.skip("device not made (not root)", i, err)
	}
	if errors.Is(err, unix.EPERM) && t.onFAT(i) {
		return t.skip("left out: FAT has only files and directories", i, err)
	}
	if errors.Is(err, unix.EINVAL) && (e.Type == stream.Char || e.Type == stream.Block) { // XFS: minors of 18 bits (linux/kdev_t.h, sysv_valid_dev)
		return t.skip("device left out: its number is too large for this file system", i, err)
	}
	if errors.Is(err, unix.ENAMETOOLONG) && e.Type == stream.Symlink { // XFS: 1024 bytes (xfs_format.h, XFS_SYMLINK_MAXLEN)
		return t.skip("symbolic link left out: its target is too long for this file system", i, err)
	}
	if err != nil {
		return fmt.Errorf("create %s: %w", t.name(i), err)
	}
	return t.setName(dir, i)
}

// skip leaves out an entry that this file system can't hold, and says so.
func (t *Tree) skip(what string, i int32, err error) error {
	t.skipped.Store(i, true)
	t.warnings.add(what, i, err)
	return nil
}

// finishKept gives a file its attributes of which a part was kept; any other
// had them with its last bytes.
func (t *Tree) finishKept(h *held, i int32) error {
	if !t.old[i] || t.left[i] <= 0 && t.m.Entries[i].DataLen() > 0 {
		return nil
	}
	fd, err := h.openIn(i, unix.O_RDONLY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return t.setOpen(fd, i)
}

// sameLink says whether the symbolic link is there as it shall be. One that
// has other names or attributes is not asked any further.
func sameLink(dir int, e *stream.Entry) bool {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, e.Name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return false
	}
	if st.Mode&unix.S_IFMT != unix.S_IFLNK || st.Nlink != 1 || st.Size != int64(len(e.Link)) ||
		st.Uid != e.UID || st.Gid != e.GID || st.Mtim.Sec != e.Sec || st.Mtim.Nsec != int64(e.Nsec) || e.Xattrs != nil {
		return false
	}
	buf := make([]byte, len(e.Link)+1)
	if n, err := unix.Readlinkat(dir, e.Name, buf); err != nil || string(buf[:n]) != e.Link {
		return false
	}
	n, err := unix.Llistxattr(stream.ProcPath(dir, e.Name), nil)
	return n == 0 && err == nil || errors.Is(err, unix.EOPNOTSUPP)
}

func makeNode(dir int, e *stream.Entry) error {
	switch e.Type {
	case stream.Symlink:
		return unix.Symlinkat(e.Link, dir, e.Name)
	case stream.Char:
		return unix.Mknodat(dir, e.Name, unix.S_IFCHR|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	case stream.Block:
		return unix.Mknodat(dir, e.Name, unix.S_IFBLK|0o600, int(unix.Mkdev(e.Major, e.Minor)))
	case stream.Fifo:
		return unix.Mknodat(dir, e.Name, unix.S_IFIFO|0o600, 0)
	case stream.Socket:
		return unix.Mknodat(dir, e.Name, unix.S_IFSOCK|0o600, 0)
	}
	return fmt.Errorf("type %q: %w", byte(e.Type), unix.EINVAL)
}

// finishDirs gives directories their attributes. Who isn't root does children
// before parents: a parent may then shut him out. Nothing moves their times
// any more.
func (t *Tree) finishDirs(ctx context.Context) error {
	if t.privileged {
		return t.each(ctx, t.finishDir)
	}
	h := t.hold()
	defer h.close()
	for i := int32(len(t.m.Entries)) - 1; i >= 0; i-- {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("finish %s: %w", t.path, err)
		}
		if err := t.finishDir(h, i); err != nil {
			return err
		}
	}
	return nil
}

func (t *Tree) finishDir(h *held, i int32) error {
	if t.m.Entries[i].Type != stream.Dir {
		return nil
	}
	fd, err := h.openIn(i, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return t.setOpen(fd, i)
}

// finishFlags sets the flags of files and directories; a directory that was
// there before we came also loses those it had.
func (t *Tree) finishFlags(ctx context.Context) error {
	const late = stream.FlagMask &^ stream.FlagEarly
	return t.each(ctx, func(h *held, i int32) error {
		e := &t.m.Entries[i]
		switch {
		case e.Type == stream.File && e.Flags&late != 0 && !t.removed(i):
		case e.Type == stream.Dir && (e.Flags&late != 0 || t.old[i]):
		default:
			return nil
		}
		fd, err := h.openIn(i, unix.O_RDONLY|unix.O_NONBLOCK)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		t.setFlags(fd, i, late)
		return nil
	})
}

// sync waits for the disk, once per file system.
func (t *Tree) sync(ctx context.Context) error {
	for _, i := range t.mounts {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("finish %s: %w", t.path, err)
		}
		fd, err := stream.OpenBeneath(t.root, t.m.Path(i), unix.O_RDONLY|unix.O_DIRECTORY, 0)
		if err != nil {
			return fmt.Errorf("open %s: %w", t.name(i), err)
		}
		err = unix.Syncfs(fd)
		unix.Close(fd)
		if err != nil {
			return fmt.Errorf("sync %s: %w", t.name(i), err)
		}
	}
	return nil
}
