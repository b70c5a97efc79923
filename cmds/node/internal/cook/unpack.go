package cook

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/archive"
)

// maxDirs bounds the folders of one archive, whose modes and times are kept
// until its end.
const maxDirs = 4 << 20

// unpacker makes an archive's entries below a folder, as tar -x does for root:
// with their owners (by number), modes and times, in place of what is there.
// It goes through os.Root: no name and no link, whoever made it, leads out.
type unpacker struct {
	root *os.Root
	far  bool  // symbolic links may point outside
	left int64 // bytes that may be written
	dirs []archive.Entry
}

// unpack reads an archive into dir, which is made if it isn't there. limit is
// how many bytes its files may have together.
func unpack(r io.Reader, kind, dir string, far bool, limit int64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	u := &unpacker{root: root, far: far, left: limit}
	if err := archive.Walk(r, kind, u.entry); err != nil {
		return err
	}
	return u.finish()
}

func (u *unpacker) entry(e archive.Entry, r io.Reader) error {
	err := e.Check(u.far)
	if err == nil {
		err = u.make(e, r)
	}
	if err != nil {
		return fmt.Errorf("unpack %q: %w", e.Name, err)
	}
	return nil
}

func (u *unpacker) make(e archive.Entry, r io.Reader) error {
	at, err := e.Path()
	if err != nil {
		return err
	}
	if e.UID < 0 || e.GID < 0 || int64(e.UID) >= math.MaxUint32 || int64(e.GID) >= math.MaxUint32 {
		return fmt.Errorf("owner %d:%d", e.UID, e.GID)
	}
	if err := u.root.MkdirAll(path.Dir(at), 0o755); err != nil {
		return err
	}
	if e.Kind == archive.Dir {
		return u.dir(at, e)
	}
	if err := u.clear(at); err != nil {
		return err
	}
	switch e.Kind {
	case archive.File:
		return u.file(at, e, r, os.O_CREATE|os.O_EXCL)
	case archive.Hardlink:
		return u.hardlink(at, e, r)
	case archive.Symlink:
		if err := u.root.Symlink(e.Link, at); err != nil {
			return err
		}
		return u.inParent(at, func(dir int, base string) error { return own(dir, base, e) })
	}
	return u.inParent(at, func(dir int, base string) error { return node(dir, base, e) })
}

// dir makes a folder. Its owner, mode and time come last: what is made in it
// would change them, or not be allowed.
func (u *unpacker) dir(at string, e archive.Entry) error {
	if len(u.dirs) >= maxDirs {
		return fmt.Errorf("more than %d folders", maxDirs)
	}
	u.dirs = append(u.dirs, e)
	if at == "." {
		return nil
	}
	err := u.root.Mkdir(at, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	st, err := u.root.Lstat(at)
	if err != nil || st.IsDir() {
		return err
	}
	if err := u.root.Remove(at); err != nil { // a link to a folder is none
		return err
	}
	return u.root.Mkdir(at, 0o700)
}

// clear removes what is in the way.
func (u *unpacker) clear(at string) error {
	if _, err := u.root.Lstat(at); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return u.root.Remove(at) // of folders, those that are empty
}

// file writes contents and then sets what a file is besides.
func (u *unpacker) file(at string, e archive.Entry, r io.Reader, flags int) (err error) {
	f, err := u.root.OpenFile(at, os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|flags, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	n, err := io.Copy(f, io.LimitReader(r, u.left+1))
	if u.left -= n; err == nil && u.left < 0 {
		err = errors.New("the archive holds more than golden saw in it")
	}
	if err == nil && n != e.Size {
		err = fmt.Errorf("%d of %d bytes", n, e.Size)
	}
	if err != nil {
		return err
	}
	return settle(f, e)
}

// settle gives a file or folder its owner, mode and time; in this order, since
// another owner takes set-user-ID away.
func settle(f *os.File, e archive.Entry) error {
	if err := f.Chown(e.UID, e.GID); err != nil {
		return err
	}
	if err := unix.Fchmod(int(f.Fd()), e.Mode); err != nil {
		return fmt.Errorf("mode %o: %w", e.Mode, err)
	}
	if err := unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", f.Fd()), times(e), 0); err != nil {
		return fmt.Errorf("time %s: %w", e.ModTime, err)
	}
	return nil
}

// times are both set to the one that an archive has. What lies outside of what
// the kernel takes becomes the time now.
func times(e archive.Entry) []unix.Timespec {
	at := e.ModTime
	if at.Unix() < math.MinInt32 || at.Unix() > math.MaxUint32*4 { // 2446, the last that ext4 has (Documentation/filesystems/ext4/inodes.rst)
		at = time.Now()
	}
	t := unix.NsecToTimespec(at.UnixNano())
	return []unix.Timespec{t, t}
}

// hardlink makes another name of a file. Where contents follow they are those
// of all its names (cpio).
func (u *unpacker) hardlink(at string, e archive.Entry, r io.Reader) error {
	to, err := archive.Entry{Name: e.Link}.Path()
	if err != nil {
		return err
	}
	if err := u.root.Link(to, at); err != nil {
		return err
	}
	if e.Size == 0 {
		return nil
	}
	st, err := u.root.Lstat(at)
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() { // nothing is written into a device
		return fmt.Errorf("%d bytes for another name of %q, which is no file", e.Size, e.Link)
	}
	return u.file(at, e, r, os.O_TRUNC)
}

// inParent gives what os.Root can't do the folder that an entry is in.
func (u *unpacker) inParent(at string, do func(dir int, base string) error) error {
	d, err := u.root.Open(path.Dir(at))
	if err != nil {
		return err
	}
	defer d.Close()
	return do(int(d.Fd()), path.Base(at))
}

// own sets owner and time, of a link itself.
func own(dir int, base string, e archive.Entry) error {
	if err := unix.Fchownat(dir, base, e.UID, e.GID, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("owner %d:%d: %w", e.UID, e.GID, err)
	}
	if err := unix.UtimesNanoAt(dir, base, times(e), unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return fmt.Errorf("time %s: %w", e.ModTime, err)
	}
	return nil
}

// node makes a device or a pipe.
func node(dir int, base string, e archive.Entry) error {
	kind := map[archive.Kind]uint32{archive.Char: unix.S_IFCHR, archive.Block: unix.S_IFBLK, archive.Fifo: unix.S_IFIFO}[e.Kind]
	dev := 0
	if e.Kind != archive.Fifo {
		dev = int(unix.Mkdev(e.Major, e.Minor))
	}
	if err := unix.Mknodat(dir, base, kind|0o600, dev); err != nil {
		return fmt.Errorf("device %d:%d: %w", e.Major, e.Minor, err)
	}
	if err := own(dir, base, e); err != nil {
		return err
	}
	return unix.Fchmodat(dir, base, e.Mode, 0)
}

// finish settles the folders, inner ones first.
func (u *unpacker) finish() error {
	for _, e := range slices.Backward(u.dirs) {
		at, err := e.Path()
		if err != nil {
			return err
		}
		if st, err := u.root.Lstat(at); err != nil || !st.IsDir() {
			continue // the archive itself has put something else there
		}
		d, err := u.root.Open(at)
		if err != nil {
			return err
		}
		err = errors.Join(settle(d, e), d.Close())
		if err != nil {
			return fmt.Errorf("unpack %q: %w", e.Name, err)
		}
	}
	return nil
}
