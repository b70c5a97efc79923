package capture

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// SnapshotOptions says of what a snapshot is wanted: what is scanned.
type SnapshotOptions struct {
	Root     string   // golden's root, or a folder
	Mounts   []string // golden's mount points that are read, as in stream.ScanOptions
	Excludes []string // what isn't read
	Log      *slog.Logger
}

// Snapshot is golden's files at one instant, as far as its file systems can
// give that: where Root, Mounts and Excludes are those of the options, nothing
// can, and the files are read as they are. What a program has written in the
// last moments and not synced may be missing, as after a power failure: btrfs
// does not hold writers up for a snapshot (btrfs(5), flushoncommit).
//
//	/      btrfs  ──▶ /.kamethod-snapshot-PID ──┐
//	/home  LVM    ──▶ VG/kamethod-PID-0 ────────┼──▶ one tree, in a mount
//	/boot  ext4   ──▶ (as it is) ───────────────┘    namespace nobody else sees
type Snapshot struct {
	Root     string
	Mounts   []string
	Excludes []string
	Notes    []string // what is in the snapshot, what is read as it is, and why

	opt    SnapshotOptions
	places []place
	taken  map[uint64]string // by the device number of a subvolume: where its picture is
	still  int               // places that are pictures
	undo   []func() error    // from the last to the first
}

// place is a directory of golden's, and what is read in its stead.
type place struct {
	at     string // in golden: "/home"
	source string // the directory, live or in a snapshot; below device, if there is one
	volume *volume
}

func (s *Snapshot) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.Notes = append(s.Notes, text)
	s.opt.Log.Info(text)
}

// TakeSnapshot takes snapshots of what can be taken one of. What fails is
// noted, and read as it is: settling (package golden/stream) sees to the rest.
func TakeSnapshot(ctx context.Context, o SnapshotOptions) *Snapshot {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Snapshot{opt: o, taken: map[uint64]string{}}
	s.live()
	if err := s.take(ctx); err != nil {
		s.note("no snapshot: files are read while they are in use: %v", err)
		s.live()
		if err := s.Close(); err != nil {
			s.note("%v", err)
		}
	}
	return s
}

func (s *Snapshot) live() {
	s.Root, s.Mounts, s.Excludes = s.opt.Root, slices.Clone(s.opt.Mounts), slices.Clone(s.opt.Excludes)
}

// Close removes the snapshots. What was scanned must be closed before.
func (s *Snapshot) Close() error {
	var all error
	for _, undo := range slices.Backward(s.undo) {
		all = errors.Join(all, undo())
	}
	s.undo = nil
	return all
}

func (s *Snapshot) take(ctx context.Context) error {
	root, err := filepath.Abs(s.opt.Root)
	if err != nil {
		return err
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return err
	}
	mounts, err := visibleMounts()
	if err != nil {
		return err
	}
	around := -1
	for i, m := range mounts {
		if Beneath(root, m.Mountpoint) && (around < 0 || len(m.Mountpoint) > len(mounts[around].Mountpoint)) {
			around = i
		}
	}
	if around < 0 {
		return fmt.Errorf("%s is on no mount", root)
	}
	s.picture(ctx, mounts[around], root, "/")
	for _, m := range mounts {
		if m.Mountpoint == root || !Beneath(m.Mountpoint, root) || !m.dir {
			continue
		}
		at := "/" + strings.TrimPrefix(strings.TrimPrefix(m.Mountpoint, root), "/")
		switch {
		case s.excluded(at):
		case slices.Contains(s.opt.Mounts, at):
			s.picture(ctx, m, m.Mountpoint, at)
		default:
			// What it covers would be seen: a scan of the live tree makes it
			// an empty directory.
			s.Excludes = append(s.Excludes, at)
		}
	}
	if s.still == 0 {
		s.Excludes = slices.Clone(s.opt.Excludes)
		return nil
	}
	return s.assemble()
}

// picture adds the place at, which is dir of the mount m now, and takes a
// snapshot of it where it can.
func (s *Snapshot) picture(ctx context.Context, m mounted, dir, at string) {
	p := place{at: at, source: dir}
	i, mounts := len(s.places), len(s.Mounts)
	s.places = append(s.places, p)
	var err error
	switch {
	case isBtrfs(dir):
		err = s.btrfs(m, dir, at)
	case lvmUUID(m.Major, m.Minor):
		err = s.lvm(ctx, m, dir, i)
	default:
		s.note("snapshot: %s (%s) has none: read while in use", at, m.FSType)
		return
	}
	if err != nil {
		s.places, s.Mounts = append(s.places[:i], p), s.Mounts[:mounts]
		s.note("snapshot: %s could not be taken: read while in use: %v", at, err)
		return
	}
	s.still++
	s.note("snapshot: %s is read from a snapshot (%s)", at, m.FSType)
}

func (s *Snapshot) excluded(at string) bool {
	return slices.ContainsFunc(s.opt.Excludes, func(x string) bool { return Beneath(at, filepath.Clean(x)) })
}

// Beneath says whether path is dir or below it; both are clean.
func Beneath(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// mounted is a mount that can be seen: no other covers it.
type mounted struct {
	*mountinfo.Info
	dir bool
}

func visibleMounts() ([]mounted, error) {
	all, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var visible []mounted
	for _, m := range all {
		st, err := look(m.Mountpoint)
		if err != nil || st.Mask&unix.STATX_MNT_ID != 0 && st.Mnt_id != uint64(m.ID) {
			continue
		}
		visible = append(visible, mounted{Info: m, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR})
	}
	return visible, nil
}

// look mounts nothing, and waits for no dead server (statx(2)).
func look(path string) (st unix.Statx_t, err error) {
	err = unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT|unix.AT_STATX_DONT_SYNC,
		unix.STATX_BASIC_STATS|unix.STATX_MNT_ID, &st)
	return st, err
}
