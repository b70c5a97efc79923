package disk

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestKeptOther: an xfs and a btrfs of an earlier clone stay, if they are what
// the plan wants; else all is made anew.
func TestKeptOther(t *testing.T) {
	programs(t, "mkfs.xfs", "xfs_db", "xfs_repair", "mkfs.btrfs", "btrfs")
	for name, c := range map[string]struct {
		change func(t *testing.T, plan *wire.Plan, dev string)
		want   string // why it isn't kept; empty: it is
	}{
		"same":    {func(*testing.T, *wire.Plan, string) {}, ""},
		"label":   {func(_ *testing.T, p *wire.Plan, _ string) { p.Filesystems[0].Label = "other" }, `its label is "root", want "other"`},
		"inodes":  {func(_ *testing.T, p *wire.Plan, _ string) { p.Filesystems[0].InodeSize = 1024 }, "it has inodes of 512 bytes, want 1024"},
		"type":    {func(_ *testing.T, p *wire.Plan, _ string) { p.Filesystems[0].Type = "btrfs" }, "it holds xfs, want btrfs"},
		"subtree": {func(_ *testing.T, p *wire.Plan, _ string) { p.Filesystems[1].Subvolumes[0].Path = "@other" }, `it has the subvolumes ["@"], want ["@other"]`},
		"default": {func(_ *testing.T, p *wire.Plan, _ string) { p.Filesystems[1].Subvolumes[0].Default = true }, "its default is"},
		"golden's": {func(t *testing.T, p *wire.Plan, dev string) {
			p.Filesystems[0].OldUUID = must(t, "blkid", "-p", "-s", "UUID", "-o", "value", dev+"p1")
		}, "it is golden's own"},
		"grown": {func(t *testing.T, p *wire.Plan, dev string) {
			at := t.TempDir()
			if err := unix.Mount(dev+"p2", at, "btrfs", 0, ""); err != nil {
				t.Fatal(err)
			}
			must(t, "btrfs", "filesystem", "resize", "300m", at)
			if err := unmountOne(at); err != nil {
				t.Fatal(err)
			}
		}, "the file system has 300 MB, its partition"},
	} {
		t.Run(name, func(t *testing.T) {
			dev, _ := loop(t, 900<<20, "512")
			plan := wire.Plan{
				Disks: []wire.DiskPlan{{Name: "sda", Layout: desc(t, "linux 400\nlinux fill")}},
				Filesystems: []wire.Filesystem{
					{Part: 1, Type: "xfs", MountPoint: "/", Label: "root"},
					{Part: 2, Type: "btrfs", MountPoint: "/home", Subvolumes: []wire.Subvolume{{Path: "@", MountPoint: "/home", Mounted: true}}},
				},
			}
			_, root := prepare(t, plan, dev)
			mark(t, root, "/", "/home")
			c.change(t, &plan, "/dev/"+dev)
			res, root, said := again(t, plan, dev)
			if kept := c.want == ""; res.Kept != kept || marked(root, "/") != kept || marked(root, "/home") != kept || !strings.Contains(said, c.want) {
				t.Errorf("kept: %v, want %q:\n%s", res.Kept, c.want, said)
			}
		})
	}
}
