package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// linux/btrfs.h
const btrfsGetSubvolInfo = 0x81f8943c // BTRFS_IOC_GET_SUBVOL_INFO

// subvolInfo is struct btrfs_ioctl_get_subvol_info_args.
type subvolInfo struct {
	tree                           uint64
	name                           [256]byte
	parent, dir, generation, flags uint64
	uuid, parentUUID, receivedUUID [16]byte
	_                              [4]uint64 // transactions
	_                              [8]uint64 // times
	_                              [8]uint64 // reserved
}

// subvolOf is the subvolume that an fstab's options name; none: what a mount
// without one gets.
func subvolOf(options []string) (path string, named bool, err error) {
	id := ""
	for _, o := range options {
		if p, ok := strings.CutPrefix(o, "subvol="); ok {
			path, named = strings.Trim(filepath.Clean("/"+p), "/"), true
		}
		if n, ok := strings.CutPrefix(o, "subvolid="); ok {
			id = n
		}
	}
	// btrfs(5): 5, and 0 for it, is the top of the file system. Any other
	// number is that file system's own.
	if !named && id != "" {
		if n := strings.TrimLeft(id, "0"); n != "5" && n != "" {
			return "", false, fmt.Errorf("subvolid=%s means another subvolume on every file system: write subvol= and its path", id)
		}
		named = true
	}
	return path, named, nil
}

// joinSubvolumes makes the wants that are subvolumes of one btrfs one want.
func (d *describer) joinSubvolumes(wants []want) ([]want, error) {
	var out []want
	at := map[string]int{} // of a btrfs, into out
	for _, w := range wants {
		if w.Type != "btrfs" {
			out = append(out, w)
			continue
		}
		i, ok := at[w.where()]
		if !ok {
			at[w.where()] = len(out)
			w.Subvolumes = []wire.Subvolume{w.subvolume()}
			out = append(out, w)
			continue
		}
		out[i].Subvolumes = append(out[i].Subvolumes, w.subvolume())
		if out[i].Options == "" {
			out[i].Options = w.Options
		}
	}
	for i := range out {
		if out[i].Type != "btrfs" {
			continue
		}
		if err := d.finishSubvolumes(&out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (w want) subvolume() wire.Subvolume {
	return wire.Subvolume{Path: w.subvol, MountPoint: w.MountPoint, Mounted: true, Default: w.bare}
}

// where tells file systems apart, by the place if that is known.
func (w want) where() string {
	switch {
	case w.On != "":
		return w.On
	case w.number > 0 || w.whole:
		return fmt.Sprintf("%s %d", w.disk, w.number)
	}
	return strings.Join([]string{w.OldUUID, w.OldPartID, w.Label, w.OldDevice}, "\n")
}

// finishSubvolumes puts them in order, and settles what is mounted without a
// name: the file system's top, or the one that all others lie in, as on
// openSUSE, where that is the default one. The top is no subvolume: the file
// system's own mount point is its.
func (d *describer) finishSubvolumes(w *want) error {
	subs := w.Subvolumes
	bare := slices.IndexFunc(subs, func(s wire.Subvolume) bool { return s.Default })
	if bare >= 0 {
		root := commonParent(subs, bare)
		subs[bare].Path, subs[bare].Default = root, root != ""
	}
	slices.SortStableFunc(subs, func(a, b wire.Subvolume) int { return strings.Compare(a.Path, b.Path) })
	for i := 1; i < len(subs); i++ {
		if subs[i].Path == subs[i-1].Path {
			return fmt.Errorf("%s: subvolume %q is mounted on %s and on %s", w.source, subs[i].Path, subs[i-1].MountPoint, subs[i].MountPoint)
		}
	}
	outer := slices.MinFunc(subs, func(a, b wire.Subvolume) int { return len(a.MountPoint) - len(b.MountPoint) })
	w.MountPoint, w.Subvolumes = outer.MountPoint, subs
	if subs[0].Path == "" {
		w.Subvolumes = slices.Clone(subs[1:])
		if outer.Path != "" {
			d.note("%s: the top of the btrfs, mounted on %s, is left out: its subvolumes come by their own mounts", w.source, subs[0].MountPoint)
		}
	}
	return nil
}

// commonParent is the first name of all paths but one, if they lie in it and
// none is it; else empty.
func commonParent(subs []wire.Subvolume, but int) string {
	parent := ""
	for i, s := range subs {
		first, rest, _ := strings.Cut(s.Path, "/")
		if i == but {
			continue
		}
		if rest == "" || parent != "" && first != parent {
			return ""
		}
		parent = first
	}
	return parent
}

// completeSubvolumes adds what only the running machine knows of its btrfs:
// subvolumes inside others, those that only hold others, and which is the
// default.
func (d *describer) completeSubvolumes(ctx context.Context, w *want) error {
	tops := slices.Clone(w.Subvolumes)
	if !slices.ContainsFunc(tops, func(s wire.Subvolume) bool { return s.MountPoint == w.MountPoint }) {
		tops = append(tops, wire.Subvolume{MountPoint: w.MountPoint})
	}
	var left []wire.Subvolume
	for _, s := range tops {
		top, err := look(s.MountPoint)
		if err != nil {
			return fmt.Errorf("stat %s: %w", s.MountPoint, err)
		}
		n := nesting{d: d, w: w, mount: top.Mnt_id}
		if err := n.below(s.MountPoint, s.Path); err != nil {
			return fmt.Errorf("list the subvolumes in %s: %w", s.MountPoint, err)
		}
		left = append(left, n.left...)
	}
	for _, s := range left {
		d.opt.Excludes = append(d.opt.Excludes, s.MountPoint)
	}
	if len(left) > 0 {
		d.note("%s: %d subvolumes that are read-only snapshots, lie in .snapshots or are mounted elsewhere too arrive as empty directories: %s", w.source, len(left), some(left, func(s wire.Subvolume) string { return s.MountPoint }))
	}
	if len(w.Subvolumes) == 0 {
		return nil
	}
	return d.askBtrfs(ctx, w, left)
}

// some lists things for a person to read: snapper may have thousands.
func some[T any](list []T, word func(T) string) string {
	const most = 30
	var words []string
	for _, x := range list[:min(len(list), most)] {
		words = append(words, word(x))
	}
	if len(list) > most {
		words = append(words, fmt.Sprintf("and %d more", len(list)-most))
	}
	return strings.Join(words, ", ")
}

// nesting looks for subvolumes that are seen inside a mounted one.
type nesting struct {
	d     *describer
	w     *want
	mount uint64
	left  []wire.Subvolume // out of the scan: snapshots, and what is mounted by itself
}

func (n *nesting) below(top, path string) error {
	list, err := subvolumesBelow(top)
	if err != nil {
		return err
	}
	for _, rel := range list {
		at := filepath.Join(top, rel)
		sub := wire.Subvolume{Path: filepath.Join(path, rel), MountPoint: at}
		st, err := look(at)
		known := slices.ContainsFunc(n.w.Subvolumes, func(s wire.Subvolume) bool { return s.Path == sub.Path })
		switch {
		case err != nil || st.Ino != btrfsTopInode || st.Mnt_id != n.mount:
			continue // gone, or covered by a mount
		case isSnapshotName(filepath.Base(at)):
			continue // our own, of a run that was killed
		case n.d.excluded(at):
			continue
		}
		snapshot, err := isSnapshot(at)
		if err != nil {
			return err
		}
		if snapshot || known {
			n.left = append(n.left, sub)
			continue
		}
		n.w.Subvolumes = append(n.w.Subvolumes, sub)
		if err := n.below(at, sub.Path); err != nil {
			return err
		}
	}
	return nil
}

// isSnapshot says whether a subvolume only keeps what another one was: made of
// it or received and read-only, or below .snapshots, where snapper has them. A
// writable one that was made of another lives on its own, such as a container's
// or a virtual machine's.
func isSnapshot(top string) (bool, error) {
	if strings.Contains(top, "/.snapshots/") {
		return true, nil
	}
	f, err := os.Open(top)
	if err != nil {
		return false, err
	}
	defer f.Close()
	info := &subvolInfo{}
	if err := btrfsIoctl(int(f.Fd()), btrfsGetSubvolInfo, unsafe.Pointer(info)); err != nil {
		if errors.Is(err, unix.ENOTTY) {
			return false, nil // before Linux 4.18
		}
		return false, fmt.Errorf("ask for subvolume %s: %w", top, err)
	}
	locked := info.flags&1 != 0 // BTRFS_ROOT_SUBVOL_RDONLY (linux/btrfs_tree.h)
	none := [16]byte{}
	return locked && (info.parentUUID != none || info.receivedUUID != none), nil
}

// askBtrfs adds the subvolumes that hold others and are mounted nowhere, and
// marks the default.
func (d *describer) askBtrfs(ctx context.Context, w *want, snapshots []wire.Subvolume) error {
	list, err := output(ctx, "btrfs", "subvolume", "list", "-a", w.MountPoint) // -a: paths from the top
	if err != nil {
		return fmt.Errorf("list the subvolumes of %s: %w", w.device(), err)
	}
	def, err := output(ctx, "btrfs", "subvolume", "get-default", w.MountPoint)
	if err != nil {
		return fmt.Errorf("default subvolume of %s: %w", w.device(), err)
	}
	all := subvolumePaths(list)
	for _, path := range all {
		holds := func(s wire.Subvolume) bool { return strings.HasPrefix(s.Path, path+"/") }
		same := func(s wire.Subvolume) bool { return s.Path == path }
		if slices.ContainsFunc(w.Subvolumes, holds) && !slices.ContainsFunc(w.Subvolumes, same) {
			w.Subvolumes = append(w.Subvolumes, wire.Subvolume{Path: path})
		}
	}
	paths := subvolumePaths(def)
	top := !slices.ContainsFunc(w.Subvolumes, func(s wire.Subvolume) bool { return s.MountPoint == w.MountPoint })
	if top && len(paths) > 0 {
		d.note("%s: its default subvolume is %s here, its top on the clones, which is mounted on %s", w.source, paths[0], w.MountPoint)
		paths = nil
	}
	for i := range w.Subvolumes {
		w.Subvolumes[i].Default = len(paths) == 1 && w.Subvolumes[i].Path == paths[0]
	}
	slices.SortStableFunc(w.Subvolumes, func(a, b wire.Subvolume) int { return strings.Compare(a.Path, b.Path) })
	unseen := slices.DeleteFunc(all, func(path string) bool {
		same := func(s wire.Subvolume) bool { return s.Path == path }
		return slices.ContainsFunc(w.Subvolumes, same) || slices.ContainsFunc(snapshots, same) || isSnapshotName(filepath.Base(path))
	})
	if len(unseen) > 0 {
		d.note("%s: %d subvolumes are mounted nowhere, and left out: %s", w.source, len(unseen), some(unseen, func(path string) string { return path }))
	}
	return nil
}

// subvolumePaths reads btrfs subvolume list, or get-default:
// "ID 256 gen 9 top level 5 path @home"; the top has none.
func subvolumePaths(out string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`(?m)^ID \d+ gen \d+ (?:cgen \d+ )?top level \d+ path (.+)$`).FindAllStringSubmatch(out, -1) {
		list = append(list, strings.TrimPrefix(m[1], "<FS_TREE>/"))
	}
	return list
}
