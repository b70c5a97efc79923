package cook

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

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

// A device that didn't get all has no beginning, whatever it had before.
func TestHalf(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const mib = 1 << 20
	one, two := loop(t, 4*mib), loop(t, 4*mib)
	noise := bytes.Repeat([]byte("system"), 4*mib/6+1)[:4*mib]
	packed := command(t, "/", string(noise), "gzip", "-1")
	for _, dev := range []string{one, two} {
		if err := os.WriteFile(dev, bytes.Repeat([]byte("older "), 4*mib/6), 0); err != nil {
			t.Fatal(err)
		}
	}
	plan := wire.Plan{Copies: []wire.Copy{{From: "a", To: one, Bytes: 4 * mib}, {From: "b.gz", To: two, Packing: "gz", Bytes: 4 * mib}}}
	all := [][]byte{noise, packed[:len(packed)/2]}
	var streams []wire.Stream
	for i, b := range all {
		streams = append(streams, wire.NewStream(uint16(i), wire.ImageStream, int64(len(b))))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sink, err := New(ctx, plan, streams, Options{Memory: mib, Say: func(line string) { t.Log(line) }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	for i, st := range streams {
		last := st.Pieces
		if i == 0 {
			last-- // the last one never comes
		}
		for p := range last {
			off := int64(p) * int64(st.PieceSize)
			if err := sink.Put(st.ID, p, all[i][off:off+int64(st.Len(p))]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := sink.Finish(ctx); err == nil || !strings.Contains(err.Error(), "b.gz") {
		t.Errorf("half a packed image: %v", err)
	}
	if err := sink.Put(0, streams[0].Pieces-1, noise[:streams[0].Len(streams[0].Pieces-1)]); err == nil {
		t.Error("a piece after the end: no error")
	}
	sink.Close()
	for _, dev := range []string{one, two} {
		got, err := os.ReadFile(dev)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:wire.MinPieceSize], make([]byte, wire.MinPieceSize)) {
			t.Errorf("%s begins with %q", dev, got[:20])
		}
	}
	if got, err := os.ReadFile(one); err != nil || !bytes.Equal(got[wire.MinPieceSize:3*mib], noise[wire.MinPieceSize:3*mib]) {
		t.Errorf("what came isn't there: %v", err)
	}
}
