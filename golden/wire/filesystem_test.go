package wire

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMountPoints(t *testing.T) {
	for _, c := range []struct {
		fs   Filesystem
		want []string
	}{
		{Filesystem{Type: "swap"}, nil},
		{Filesystem{MountPoint: "/srv"}, []string{"/srv"}},
		{Filesystem{MountPoint: "/", Subvolumes: []Subvolume{{Path: "@", MountPoint: "/"}, {Path: "holder"}, {Path: "@home", MountPoint: "/home"}}}, []string{"/", "/home"}},
		{Filesystem{MountPoint: "/", Subvolumes: []Subvolume{{Path: "home", MountPoint: "/home"}}}, []string{"/home", "/"}},
	} {
		if diff := cmp.Diff(c.want, c.fs.MountPoints()); diff != "" {
			t.Errorf("%+v: %s", c.fs, diff)
		}
	}
}
