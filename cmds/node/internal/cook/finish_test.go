package cook

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// A disk whose new partitions the kernel doesn't take must not have its old
// ones mounted or written to. The disk here isn't there, which is a reason too.
func TestReread(t *testing.T) {
	disk := place{path: "/dev/sdzz", device: true, disk: "/dev/sdzz", whole: true}
	for _, c := range []struct {
		mount string
		also  place
		fails bool
	}{
		{mount: "/dev/sdzz1", fails: true},
		{mount: "/dev/sdz1"}, {mount: "/dev/sdzz"}, {mount: "/dev/mapper/x"},
		{mount: "/dev/sdz1", also: place{path: "/dev/sdzz5", device: true, disk: "/dev/sdzz"}, fails: true},
		{mount: "/dev/sdz1", also: place{path: "/dev/sdz5", device: true, disk: "/dev/sdz"}},
	} {
		d := &dish{place: disk, done: make(chan struct{})}
		// One more device is open: nothing is mounted yet.
		s := &Sink{opt: Options{Say: func(string) {}, Log: slog.New(slog.DiscardHandler)}, open: 2,
			mounts: []wire.Mount{{Device: c.mount, At: "/"}}, dishes: []*dish{d, {place: c.also}}}
		err := s.served(d)
		if (err != nil) != c.fails || err != nil && !strings.Contains(err.Error(), "/dev/sdzz") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
