package restore

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/images/compare"
)

// Other people's judges of a clone, with what fidelity needs of each:
//
//	rsync -n   contents, owners, modes, times, links, devices, xattrs, ACLs
//	lsattr     inode flags, projects
//	find %b    what files take on the disk
//	fsck       the file system itself
//
// rsync sees neither flags nor holes, lsattr nothing else; paths longer than
// PATH_MAX only our own checker reaches.

func scanned(t *testing.T, dir string) compare.Tree {
	t.Helper()
	tree, err := compare.Scan(dir)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// lostAndFound is what mkfs makes and nobody copies.
func lostAndFound() []compare.Rule {
	return []compare.Rule{{Path: "/lost+found", Aspects: []compare.Aspect{compare.Missing, compare.Extra, compare.Mtime, compare.Mode, compare.Flags}, Reason: "made by mkfs"}}
}

// judgeOutside lets rsync, lsattr and find compare all but the paths that are
// known to differ (and those too long for them).
func judgeOutside(t *testing.T, a, b string, known map[string][]compare.Aspect) {
	t.Helper()
	judgeRsync(t, a, b, known)
	judgeFlags(t, a, b, known)
	judgeBlocks(t, a, b, known)
}

func judgeRsync(t *testing.T, a, b string, known map[string][]compare.Aspect) {
	t.Helper()
	except := map[string]bool{}
	for p := range known {
		except[rsyncName(p)] = true
		except[strings.ReplaceAll(rsyncName(p), "\\#177", "\x7f")] = true // as rsync 3.5 has it
	}
	out := command(t, "/", "rsync", "-aHAXSn", "--numeric-ids", "--checksum", "--delete", "--modify-window=-1", "--outbuf=L", "--out-format=%i /%n%L",
		"--filter=-x trusted.SGI_ACL_*", "--exclude=/odd/deep/", "--exclude=/lost+found/", a+"/", b+"/")
	for line := range strings.Lines(out) {
		_, name, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		name, _, _ = strings.Cut(name, " -> ")
		name, _, _ = strings.Cut(name, " => ")
		if name = strings.TrimSuffix(name, "/"); name == "/." {
			name = "/"
		}
		if !except[name] {
			t.Errorf("rsync sees a difference: %s", line)
		}
	}
}

// rsyncName is how rsync prints a path in the C locale.
func rsyncName(p string) string {
	var b strings.Builder
	for _, c := range []byte(p) {
		if c < 0x20 || c >= 0x7f {
			fmt.Fprintf(&b, "\\#%03o", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// own are lsattr's letters for what is the file system's own business: extents,
// index, inline data; and the dash of any flag that isn't set.
const own = "eINV-"

// judgeFlags compares lsattr -aR, a directory of the odd tree at a time.
func judgeFlags(t *testing.T, a, b string, known map[string][]compare.Aspect) {
	t.Helper()
	for _, aspects := range known {
		if slices.Contains(aspects, compare.Flags) || slices.Contains(aspects, compare.Project) || slices.Contains(aspects, compare.Missing) {
			return // the letters differ as they have to; our own checker knows which may
		}
	}
	names, err := os.ReadDir(a + "/odd")
	if err != nil {
		t.Fatal(err)
	}
	list := func(dir, name string) string {
		cmd := exec.Command("lsattr", "-aRp", name)
		cmd.Dir = dir + "/odd"
		cmd.Env = append(os.Environ(), "LC_ALL=C")
		out, err := cmd.Output() // exit status 1: it met a file that has no flags, a device
		if len(out) == 0 {
			t.Fatalf("lsattr %s: %v", name, err)
		}
		var lines []string
		for line := range strings.Lines(string(out)) {
			w := strings.SplitN(strings.TrimLeft(line, " "), " ", 3) // project, flags, name
			if len(w) == 3 {
				w[1] = strings.Map(func(r rune) rune {
					if strings.ContainsRune(own, r) {
						return -1
					}
					return r
				}, w[1])
			}
			lines = append(lines, strings.Join(w, " "))
		}
		slices.Sort(lines)
		return strings.Join(lines, "")
	}
	for _, n := range names {
		if n.Name() == "deep" || n.Name() == "many" {
			continue // longer than PATH_MAX; nothing but plain files
		}
		if x, y := list(a, n.Name()), list(b, n.Name()); x != y {
			t.Errorf("lsattr sees differences in %s:\n%s", n.Name(), firstDifference(x, y))
		}
	}
}

// judgeBlocks wants the space that files take to be the same, give or take
// what the file system needs for itself (64 blocks of 512 bytes).
func judgeBlocks(t *testing.T, a, b string, known map[string][]compare.Aspect) {
	t.Helper()
	blocks := func(dir string) map[string]int64 {
		m := map[string]int64{}
		for rec := range strings.SplitSeq(command(t, dir, "find", ".", "-path", "./lost+found", "-prune", "-o", "-type", "f", "-printf", `%b %P\0`), "\x00") {
			if n, name, ok := strings.Cut(rec, " "); ok {
				m[name], _ = strconv.ParseInt(n, 10, 64)
			}
		}
		return m
	}
	want, got := blocks(a), blocks(b)
	if len(want) < 2000 || len(got) != len(want) {
		t.Errorf("find lists %d files, want %d", len(got), len(want))
	}
	for name, n := range got {
		if d := n - want[name]; (d > 64 || d < -64) && !slices.Contains(known["/"+name], compare.Allocation) {
			t.Errorf("%q takes %d blocks, want %d", name, n, want[name])
		}
	}
}

// volume is a file system in an image file, mounted.
type volume struct{ kind, image, dir string }

// mkfs makes one of a kind: "ext4", "ext3-128" (with inodes of 128 bytes), "xfs", ...
func mkfs(t *testing.T, name, kind string) volume {
	t.Helper()
	v := volume{kind: kind, image: t.TempDir() + "/" + name + ".img"}
	v.dir = strings.TrimSuffix(v.image, ".img")
	command(t, "/", "truncate", "-s", "600M", v.image)
	v.make(t)
	return v
}

// make makes the file system in the image or device, and mounts it.
func (v volume) make(t *testing.T) {
	t.Helper()
	args := map[string][]string{
		"ext2": {"mkfs.ext2", "-q"}, "ext3": {"mkfs.ext3", "-q"}, "ext3-128": {"mkfs.ext3", "-q", "-I", "128"},
		"ext4": {"mkfs.ext4", "-q"}, "ext4-project": {"mkfs.ext4", "-q", "-O", "project"},
		"ext4-casefold": {"mkfs.ext4", "-q", "-O", "casefold", "-E", "encoding=utf8"}, "ext4-encrypt": {"mkfs.ext4", "-q", "-O", "encrypt"},
		"xfs": {"mkfs.xfs", "-q"}, "xfs-old": {"mkfs.xfs", "-q", "-m", "bigtime=0"}, "btrfs": {"mkfs.btrfs", "-q"},
		"jfs": {"mkfs.jfs", "-q"}, "reiserfs": {"mkfs.reiserfs", "-q", "-ff"}, "vfat": {"mkfs.vfat"}, "f2fs": {"mkfs.f2fs", "-q", "-f", "-O", "extra_attr,project_quota"},
	}[v.kind]
	command(t, "/", args[0], append(args[1:], v.image)...)
	if err := os.Mkdir(v.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	v.mount(t)
	t.Cleanup(func() { _ = unix.Unmount(v.dir, unix.MNT_DETACH) }) // may be unmounted already
}

func (v volume) mount(t *testing.T) {
	t.Helper()
	if strings.HasPrefix(v.image, "/dev/") {
		options := ""
		if v.fs() == "reiserfs" {
			options = "acl,user_xattr" // as the package disk does
		}
		if err := unix.Mount(v.image, v.dir, v.fs(), 0, options); err != nil {
			t.Skipf("this kernel has no %s: %v", v.kind, err)
		}
		return
	}
	cmd := exec.Command("mount", "-o", "loop", v.image, v.dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("this kernel has no %s: %v: %s", v.kind, err, bytes.TrimSpace(out))
	}
}

func (v volume) remount(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(v.dir, 0); err != nil {
		t.Fatalf("unmount %s: %v", v.dir, err)
	}
	v.mount(t)
}

func (v volume) fs() string {
	fs, _, _ := strings.Cut(v.kind, "-")
	return fs
}

// fsck unmounts the volume and has it checked; a loop device that is still
// there would make the checkers see the image in use.
func (v volume) fsck(t *testing.T) {
	t.Helper()
	if err := unix.Unmount(v.dir, 0); err != nil {
		t.Fatalf("unmount %s: %v", v.dir, err)
	}
	args := map[string][]string{"xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--readonly"}, "jfs": {"fsck.jfs", "-n"},
		"reiserfs": {"reiserfsck", "-y", "--check"}, "f2fs": {"fsck.f2fs", "--dry-run"}}[v.fs()]
	if args == nil {
		args = []string{"e2fsck", "-fn"}
	}
	command(t, "/", args[0], append(args[1:], v.image)...)
}
