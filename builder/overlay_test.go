package builder

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// ours is an image as mkimage puts it together, in small.
func ours(t *testing.T) *Tree {
	t.Helper()
	tree := NewTree()
	for _, err := range []error{
		tree.AddData("bbin/bb", []byte("our busybox"), 0o755),
		tree.AddLink("init", "bbin/bb"),
		tree.AddLink("sbin/modprobe", "../bbin/bb"),
		tree.AddData("bin/mount", []byte("ours"), 0o755),
		tree.AddData("etc/motd", []byte("welcome\n"), 0o644),
		tree.AddData("lib/libx.so.1", []byte("the same"), 0o755),
		tree.AddData("lib/liby.so.1", []byte("ours"), 0o755),
		tree.AddLink("var/run", "../run"),
		tree.AddDir("run", 0o755),
		tree.AddDir("tmp", fs.ModeSticky|0o777),
		tree.add(&Entry{Name: "bin/sh", Mode: fs.ModeSymlink | 0o777, Target: "../bbin/bb", weak: true}),
		tree.add(&Entry{Name: "bin/dash", Mode: fs.ModeSymlink | 0o777, Target: "../bbin/bb", weak: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return tree
}

func TestLay(t *testing.T) {
	tree, _, err := forBase(t).readBase(t.Context(), rescueTree(t))
	if err != nil {
		t.Fatal(err)
	}
	gone, err := tree.lay(ours(t))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"/usr/bin/mount", "/init", "/usr/lib/liby.so.1, a link to liby.so.1.2", "/var/run, a folder with 1 entries"}, gone); d != "" {
		t.Errorf("collisions -want +got:\n%s", d)
	}
	text := listed(t, tree)
	for _, line := range []string{
		`bin Lrwxrwxrwx 0:0 0,0 "usr/bin"`, `usr/bin/mount -rwxr-xr-x 0:0 0,0 "" "ours"`, `usr/bin/sh -rwxr-xr-x 0:0 0,0 "" "the base's shell"`,
		`usr/bin/dash Lrwxrwxrwx 0:0 0,0 "/bbin/bb"`, `usr/sbin/modprobe Lrwxrwxrwx 0:0 0,0 "/bbin/bb"`, `init Lrwxrwxrwx 0:0 0,0 "bbin/bb"`,
		`var/run Lrwxrwxrwx 0:0 0,0 "../run"`, "tmp dtrwxrwxrwx", `etc/motd -rw-r--r--`, `usr/bin/su urwxr-xr-x`, "home/user drwxr-xr-x 1000:1001",
	} {
		if !strings.Contains("\n"+text, "\n"+line) {
			t.Errorf("lacks %q:\n%s", line, text)
		}
	}
	if strings.Contains(text, "old.pid") {
		t.Error("what was in the base's /var/run is there without its folder")
	}
	if err := tree.Check(); err != nil {
		t.Error(err) // the base's own dangling link, /etc/gone, is not our business
	}
}

func TestLayBadBases(t *testing.T) {
	link := func(name, to string) *Entry {
		return &Entry{Name: name, Mode: fs.ModeSymlink | 0o777, Target: to, foreign: true}
	}
	for _, tt := range []struct {
		name  string
		base  []*Entry
		gone  string // a collision
		where string // where bin/mount is then
		err   string
	}{
		{"out of the image", []*Entry{link("bin", "../../../etc")}, "", "etc/mount", ""},
		{"circle", []*Entry{link("bin", "sbin"), link("sbin", "bin")}, "", "", "more than 40 symbolic links"},
		{"leads nowhere", []*Entry{link("bin", "/a/b")}, "", "a/b/mount", ""},
		{"a file in a folder's place", []*Entry{{Name: "bin", Mode: 0o644, foreign: true}}, "/bin", "bin/mount", ""},
		{"parent of a link", []*Entry{link("bin", "usr/x/../bin/.")}, "", "usr/bin/mount", ""},
		{"a folder in a file's place", []*Entry{{Name: "bin/mount/x", Mode: 0o644, foreign: true}}, "/bin/mount, a folder with 1 entries", "bin/mount", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tree := NewTree()
			for _, e := range tt.base {
				if err := tree.add(e); err != nil {
					t.Fatal(err)
				}
			}
			gone, err := tree.lay(ours(t))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("%v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(gone, "; "); got != tt.gone {
				t.Errorf("collisions %q, want %q", got, tt.gone)
			}
			if e := tree.entries[tt.where]; e == nil || e.foreign {
				t.Errorf("no %s of ours:\n%s", tt.where, listed(t, tree))
			}
		})
	}
}

// TestBaseToSquashfs makes an image on a base, twice: the same bytes, what
// unsquashfs lists, and a program of the base that runs in it.
func TestBaseToSquashfs(t *testing.T) {
	dir := rescueTree(t)
	shell, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("busybox isn't installed; scripts/setup.sh installs busybox-static")
	}
	command(t, dir, "cp", shell, filepath.Join(dir, "usr/bin/sh"))
	var sums []string
	var file string
	for range 2 {
		file = filepath.Join(t.TempDir(), "rescue.sqfs")
		r := forBase(t)
		e := &ImageEntry{}
		tree, err := r.overBase(t.Context(), ours(t), ImageConfig{Name: "rescue.sqfs", Format: Squashfs, Base: dir}, e)
		if err != nil {
			t.Fatal(err)
		}
		if len(e.Collisions) != 4 || e.Base != "folder" {
			t.Errorf("manifest says %+v", e)
		}
		if err := WriteSquashfs(t.Context(), file, tree); err != nil {
			t.Fatal(err)
		}
		what, err := describe(file)
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, what.SHA256)
	}
	if sums[0] != sums[1] {
		t.Error("two builds, two images")
	}
	list := command(t, dir, "unsquashfs", "-lln", file)
	for _, want := range []string{"drwxr-xr-x 0/0 ", "crw------- 0/0                   5,  1 1970-01-01 00:00 squashfs-root/dev/console", "brw-rw---- 0/0", "prw-------", "-rwsr-xr-x 0/0", "1000/1001", "squashfs-root/init -> bbin/bb"} {
		if !strings.Contains(list, want) {
			t.Errorf("unsquashfs doesn't list %q:\n%s", want, list)
		}
	}
	root := filepath.Join(t.TempDir(), "root")
	command(t, dir, "unsquashfs", "-quiet", "-no-progress", "-d", root, file)
	if out := command(t, dir, "chroot", root, "/bin/sh", "-c", "read x < /etc/motd; echo $x; readlink /bin/dash"); out != "welcome\n/bbin/bb\n" {
		t.Errorf("in the image: %q", out)
	}
	if _, err := forBase(t).overBase(t.Context(), ours(t), ImageConfig{Name: "all.rdz", Format: Initramfs, Base: dir}, &ImageEntry{}); err == nil {
		t.Error("an initramfs took a base")
	}
}
