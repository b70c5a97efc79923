package golden

import (
	"testing"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// Files belong to the deepest file system that holds their mount point.
func TestNeed(t *testing.T) {
	p := wire.Plan{Filesystems: []wire.Filesystem{{MountPoint: "/"}, {MountPoint: "/var"}, {Type: "swap"}, {MountPoint: "/var/lib"}}}
	need(&p, []stream.Usage{{Mount: "/", Bytes: 1, Inodes: 1}, {Mount: "/var/lib/x", Bytes: 2}, {Mount: "/variable", Bytes: 4}, {Mount: "/var", Bytes: 8}})
	for i, want := range []int64{5, 8, 0, 2} {
		if got := p.Filesystems[i].NeedBytes; got != want {
			t.Errorf("%s needs %d, want %d", p.Filesystems[i].MountPoint, got, want)
		}
	}

	// A btrfs is seen in many places, of which one may lie in another's.
	p = wire.Plan{Filesystems: []wire.Filesystem{
		{MountPoint: "/", Subvolumes: []wire.Subvolume{{Path: "@", MountPoint: "/", Mounted: true}, {Path: "@home", MountPoint: "/home", Mounted: true}, {Path: "holder"}}},
		{MountPoint: "/home/data"}, {MountPoint: "/top", Subvolumes: []wire.Subvolume{{Path: "x", MountPoint: "/top/x/y"}}},
	}}
	need(&p, []stream.Usage{{Mount: "/", Bytes: 1}, {Mount: "/home", Bytes: 2}, {Mount: "/home/data", Bytes: 4}, {Mount: "/top", Bytes: 8}, {Mount: "/top/x/y", Bytes: 16}})
	for i, want := range []int64{3, 4, 24} {
		if got := p.Filesystems[i].NeedBytes; got != want {
			t.Errorf("%s needs %d, want %d", p.Filesystems[i].MountPoint, got, want)
		}
	}
}
