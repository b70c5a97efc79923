package capture

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/layoutfile"
	"github.com/kamethod/kamethod/golden/stream"
)

// TestRunningBtrfs: a machine like a Debian with snapper: subvolumes mounted
// and nested, snapshots, and an xfs beside them.
func TestRunningBtrfs(t *testing.T) {
	for _, fs := range []string{"btrfs", "xfs"} {
		if text, err := os.ReadFile("/proc/filesystems"); err != nil || !strings.Contains(string(text), fs) {
			t.Skipf("this kernel has no %s", fs)
		}
	}
	dev := disk(t, "label: gpt\nsize=200MiB\nsize=320MiB\n")
	must(t, "mkfs.btrfs", "-q", "-L", "pool", dev+"p1")
	must(t, "mkfs.xfs", "-q", "-m", "reflink=0", dev+"p2")
	top := t.TempDir()
	mountWith(t, dev+"p1", top, "btrfs", "subvolid=5,compress=zstd")
	for _, s := range []string{"@", "@home", "@/nested", "@/nested/deep", "@/.snapshots", "holder", "holder/srv", "unseen"} {
		must(t, "btrfs", "subvolume", "create", filepath.Join(top, s))
	}
	must(t, "mkdir", "-p", top+"/@/.snapshots/1")
	must(t, "btrfs", "subvolume", "snapshot", "-r", top+"/@", top+"/@/.snapshots/1/snapshot")
	must(t, "btrfs", "subvolume", "snapshot", top+"/@home", top+"/@/.snapshots/1/writable")
	must(t, "btrfs", "subvolume", "snapshot", top+"/@home", top+"/@/writable")
	must(t, "btrfs", "subvolume", "snapshot", "-r", top+"/@home", top+"/@/backup")
	must(t, "btrfs", "subvolume", "create", top+"/@/locked")
	must(t, "btrfs", "property", "set", top+"/@/locked", "ro", "true")
	must(t, "btrfs", "subvolume", "set-default", top+"/@")
	for _, d := range []string{"etc", "usr", "dev", "sys", "proc", "tmp", "home", "srv", "data", "bound"} {
		must(t, "mkdir", top+"/@/"+d)
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		must(t, "ln", "-s", "usr/"+d, top+"/@/"+d)
	}
	root := t.TempDir()
	mountWith(t, dev+"p1", root, "btrfs", "subvol=@,compress=zstd")
	mountWith(t, dev+"p1", root+"/home", "btrfs", "subvol=@home")
	mountWith(t, dev+"p1", root+"/srv", "btrfs", "subvol=holder/srv")
	mountWith(t, dev+"p2", root+"/data", "xfs", "")
	mount(t, root+"/etc", root+"/bound", "", unix.MS_BIND)
	for _, d := range []string{"usr", "dev", "sys"} {
		mount(t, "/"+d, filepath.Join(root, d), "", unix.MS_BIND)
	}
	mount(t, "proc", root+"/proc", "proc", 0)
	mount(t, "tmpfs", root+"/tmp", "tmpfs", 0)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/tmp/capture.test", exe, 0o755); err != nil {
		t.Fatal(err)
	}
	m, err := inside(t, root, Options{Excludes: []string{"/tmp"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:1 / btrfs, 0:2 /data xfs" {
		t.Errorf("file systems: %s", got)
	}
	want := "@ / md, @/.snapshots /.snapshots , @/locked /locked , @/nested /nested , @/nested/deep /nested/deep , @/writable /writable , @home /home m, holder  , holder/srv /srv m"
	if got := subs(m); got != want {
		t.Errorf("subvolumes: %s\nwant %s", got, want)
	}
	if got := strings.Join(m.Mounts, " "); got != "/ /.snapshots /locked /nested /nested/deep /writable /home /srv /data" {
		t.Errorf("mounts: %s", got)
	}
	if got := strings.Join(slices.Sorted(slices.Values(m.Plan.Excludes)), " "); got != "/.snapshots/1/snapshot /.snapshots/1/writable /backup /tmp" {
		t.Errorf("excludes: %s", got)
	}
	fs := m.Plan.Filesystems
	if fs[0].Options != "compress=zstd:3" || fs[0].Label != "pool" || !strings.Contains(strings.Join(fs[0].Features, " "), "no-holes") {
		t.Errorf("btrfs: %+v", fs[0])
	}
	if f := strings.Join(fs[1].Features, " "); !strings.Contains(f, "reflink=0") || !strings.Contains(f, "crc=1") || fs[1].InodeSize != 512 {
		t.Errorf("xfs: %+v", fs[1])
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "3 subvolumes that are read-only snapshots") || !strings.Contains(notes, "/backup") || !strings.Contains(notes, "/.snapshots/1/writable") ||
		!strings.Contains(notes, "1 subvolumes are mounted nowhere, and left out: unseen") {
		t.Errorf("notes:\n%s", notes)
	}
	write(t, root+"/nested/deep/file", "deep")
	tree, err := stream.Scan(t.Context(), stream.ScanOptions{Root: root, Mounts: m.Mounts, Excludes: m.Plan.Excludes})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	inodes := map[string]int64{}
	for _, u := range tree.Usage() {
		inodes[u.Mount] = u.Inodes
	}
	// Each counts its top too: /nested/deep has that and a file, /.snapshots
	// that, the folder 1, and an empty directory in place of each snapshot.
	if inodes["/nested"] != 1 || inodes["/nested/deep"] != 2 || inodes["/.snapshots"] != 4 || inodes["/home"] != 1 || inodes["/"] > 30 {
		t.Errorf("what the scan found: %v", inodes)
	}
	text := layoutfile.Print(m.layoutFile())
	f, err := layoutfile.Parse(strings.NewReader(text), "printed")
	if err != nil || len(f.Filesystems) != 2 || len(f.Filesystems[0].Subvolumes) != 9 {
		t.Errorf("as a layout file: %v\n%s", err, text)
	}
	m, err = inside(t, root, Options{Excludes: []string{"/data", "/home"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:1 / btrfs" || !strings.Contains(subs(m), "@home /home m") {
		t.Errorf("with excludes: %s, %s", got, subs(m))
	}
}

func mountWith(t *testing.T, from, to, kind, options string) {
	t.Helper()
	if err := unix.Mount(from, to, kind, 0, options); err != nil {
		t.Fatalf("mount %s on %s: %v", from, to, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(to, 0); err != nil {
			t.Errorf("unmount %s: %v", to, err)
		}
	})
}
