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
}
