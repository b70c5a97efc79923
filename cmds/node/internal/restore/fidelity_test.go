package restore

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/images/compare"
)

// arrives clones the odd tree of one kind of file system to another and wants
// no difference but what the second can't hold, and each of those named.
func arrives(t *testing.T, from, to string) {
	t.Helper()
	need(t, "rsync", "getfattr", "setfacl", "getcap", "lsattr", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "xfs_repair", "btrfs", "e2fsck")
	if !inNamespace(t) {
		return
	}
	a, b := mkfs(t, "from", from), mkfs(t, "to", to)
	known := arrivesOn(t, a, b)
	judgeOutside(t, a.dir, b.dir, known)
	b.fsck(t)
}

// arrivesOn does so on two volumes, and lists what differs as it has to.
func arrivesOn(t *testing.T, a, b volume) map[string][]compare.Aspect {
	t.Helper()
	from, to := a.kind, b.kind
	rare := torture(t, a.dir)
	t.Logf("%s also has: %s", from, strings.Join(rare, ", "))
	a.remount(t) // XFS lets go of the space that it guessed a file would grow into
	src, dst := clone(t, stream.ScanOptions{Root: a.dir}, b.dir, 11)
	warnings := dst.Warnings()
	if err := errors.Join(src.Close(), dst.Close()); err != nil {
		t.Error(err)
	}
	b.remount(t) // what is on the disk counts
	if w := src.Warnings(); len(w) > 0 {
		t.Errorf("golden's warnings: %q", w)
	}
	golden, made := scanned(t, a.dir), scanned(t, b.dir)
	r := compare.Trees(golden, made, lostAndFound())
	inode := 0
	if strings.HasSuffix(to, "-128") {
		inode = 128
	}
	limits, err := compare.LimitsOf(b.fs(), inode)
	if err != nil {
		t.Fatal(err)
	}
	if to == "ext4-project" {
		limits.NoProject = false
	}
	if to == "xfs-old" {
		limits.MaxSec = 1<<31 - 1 // XFS_LEGACY_TIME_MAX
	}
	r.Allow(golden, made, "/", limits)
	for _, d := range r.Differences {
		t.Error(d)
	}
	if r.Entries < 2100 || r.Bytes < 10<<20 {
		t.Errorf("only %d entries, %d bytes", r.Entries, r.Bytes)
	}
	known := map[string][]compare.Aspect{}
	for _, d := range r.Expected {
		if d.Path != "/lost+found" {
			known[d.Path] = append(known[d.Path], d.Aspect)
		}
	}
	t.Logf("%d entries differ as they have to", len(known))
	if from == to && len(known) > 0 {
		t.Errorf("the same file system, and yet: %v", r.Expected)
	}
	areNamed(t, r.Expected, golden, made, warnings)
	return known
}

// areNamed wants each difference that had to be in the node's warnings, and no
// warning beside.
func areNamed(t *testing.T, expected []compare.Difference, golden, made compare.Tree, warnings []Warning) {
	t.Helper()
	words := map[compare.Aspect][]string{
		compare.Missing: {"symbolic link left out", "device left out"}, compare.Mtime: {"time of modification"}, compare.Flags: {"inode flag"},
		compare.Project: {"project not set"}, compare.Xattr: {"xattr"}, compare.Allocation: {"space reserved behind the end"},
	}
	about := func(w Warning, a compare.Aspect) bool {
		return slices.ContainsFunc(words[a], func(begin string) bool { return strings.HasPrefix(w.What, begin) })
	}
	lost := map[compare.Aspect]map[string]bool{}
	for _, d := range expected {
		if d.Path == "/lost+found" || d.Aspect == compare.Allocation && made[d.Path].Blocks > golden[d.Path].Blocks {
			continue // takes more, and holds all that it should
		}
		one := d.Path
		if e := made[d.Path]; e != nil && e.LinkGroup != "" {
			one = e.LinkGroup // a file with several names is named once
		}
		if lost[d.Aspect] == nil {
			lost[d.Aspect] = map[string]bool{}
		}
		lost[d.Aspect][one] = true
	}
	for _, w := range warnings {
		t.Logf("named: %s (%d times)", w.What, w.Count)
		reason := false
		for aspect := range lost {
			reason = reason || about(w, aspect)
		}
		if !reason {
			t.Errorf("a warning of nothing: %+v", w)
		}
	}
	for aspect, paths := range lost {
		n := 0
		for _, w := range warnings {
			if about(w, aspect) {
				n += w.Count
			}
		}
		if n < len(paths) {
			t.Errorf("%s: %d entries lost it, %d are named", aspect, len(paths), n)
		}
	}
}

func TestExt4ToExt4(t *testing.T)        { arrives(t, "ext4", "ext4") }
func TestProjects(t *testing.T)          { arrives(t, "ext4-project", "ext4-project") }
func TestCasefold(t *testing.T)          { arrives(t, "ext4-casefold", "ext4-casefold") }
func TestXFSToXFS(t *testing.T)          { arrives(t, "xfs", "xfs") }
func TestBtrfsToBtrfs(t *testing.T)      { arrives(t, "btrfs", "btrfs") }
func TestExt3ToExt3(t *testing.T)        { arrives(t, "ext3", "ext3") }
func TestExt2ToExt2(t *testing.T)        { arrives(t, "ext2", "ext2") }
func TestExt4ToXFS(t *testing.T)         { arrives(t, "ext4", "xfs") }
func TestExt4ToOldXFS(t *testing.T)      { arrives(t, "ext4", "xfs-old") }
func TestXFSToExt4(t *testing.T)         { arrives(t, "xfs", "ext4") }
func TestExt4ToExt3(t *testing.T)        { arrives(t, "ext4", "ext3") }
func TestExt4ToSmallInodes(t *testing.T) { arrives(t, "ext4", "ext3-128") }
func TestExt4ToBtrfs(t *testing.T)       { arrives(t, "ext4", "btrfs") }
func TestBtrfsToExt4(t *testing.T)       { arrives(t, "btrfs", "ext4") }

// TestSubvolumes: those in the plan are crossed, though no mount points, and
// have their own top's attributes; others are empty directories, and named.
func TestSubvolumes(t *testing.T) {
	need(t, "mkfs.btrfs", "btrfs", "rsync")
	if !inNamespace(t) {
		return
	}
	a, b := mkfs(t, "from", "btrfs"), mkfs(t, "to", "btrfs")
	torture(t, a.dir)
	for _, v := range []volume{a, b} {
		for _, s := range []string{"/sub", "/sub/nested"} {
			command(t, v.dir, "btrfs", "-q", "subvolume", "create", v.dir+s)
		}
	}
	command(t, a.dir, "btrfs", "-q", "subvolume", "create", a.dir+"/other")
	for i, s := range []string{"/sub/nested", "/sub", "/other"} {
		dir := a.dir + s
		// The same name gets the same inode number in each: no hard links.
		if err := os.WriteFile(dir+"/file", []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		command(t, dir, "setfattr", "-n", "user.top", "-v", s, dir)
		command(t, dir, "setfacl", "-m", "d:u:7:rwx", dir)
		command(t, dir, "chattr", "+C", dir)
		if err := os.Chown(dir, 100+i, 200+i); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o750|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
		ts := []unix.Timespec{{Sec: int64(i), Nsec: 9}, {Sec: int64(i), Nsec: 9}}
		if err := unix.UtimesNanoAt(unix.AT_FDCWD, dir, ts, 0); err != nil {
			t.Fatal(err)
		}
	}
	src, dst := clone(t, stream.ScanOptions{Root: a.dir, Mounts: []string{"/", "/sub", "/sub/nested"}}, b.dir, 3)
	if w := src.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], "/other: a subvolume") {
		t.Errorf("golden's warnings: %q, want one about /other", w)
	}
	if w := dst.Warnings(); len(w) > 0 {
		t.Errorf("warnings: %+v", w)
	}
	rules := append(lostAndFound(), compare.Rule{Path: "/other/**", Aspects: []compare.Aspect{compare.Missing}, Reason: "not in the plan"})
	r := compare.Trees(scanned(t, a.dir), scanned(t, b.dir), rules)
	for _, d := range r.Differences {
		t.Error(d)
	}
	if len(r.Expected) != 1 {
		t.Errorf("expected differences: %v, want /other/file", r.Expected)
	}
	usage := map[string]int64{}
	for _, u := range src.Usage() {
		usage[u.Mount] = u.Inodes
	}
	if want := map[string]int64{"/": usage["/"], "/sub": 2, "/sub/nested": 2}; fmt.Sprint(usage) != fmt.Sprint(want) {
		t.Errorf("usage %v, want %v", usage, want)
	}
	var st unix.Stat_t
	if err := unix.Stat(b.dir+"/sub/nested", &st); err != nil || st.Ino != 256 {
		t.Errorf("/sub/nested has inode %d, %v: no subvolume any more", st.Ino, err)
	}
	dst.Close()
	b.fsck(t)
}
