package restore

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// picture is 5 MB with zeros in it, whole pieces as well as parts of blocks.
func picture() []byte {
	r := rand.NewChaCha8([32]byte{1})
	b := make([]byte, 5_000_001)
	r.Read(b)
	clear(b[1<<20 : 3<<20])
	clear(b[4<<20+100 : 4<<20+50000])
	b[1<<20+4096*7] = 1
	return b
}

// carryImage sends data as an image into path.
func carryImage(t *testing.T, data []byte, path string) {
	t.Helper()
	src := filepath.Join(t.TempDir(), "src")
	if err := os.WriteFile(src, data, 0o600); err != nil {
		t.Fatal(err)
	}
	i, err := stream.OpenImage(9, src)
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	dst, err := NewImage(path, i.Streams()[0])
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	carry(t, i, dst, 7)
	if err := dst.Finish(context.Background()); err != nil {
		t.Fatal(err)
	}
	for n := range i.Streams()[0].Pieces {
		a, b := make([]byte, i.Streams()[0].Len(n)), make([]byte, i.Streams()[0].Len(n))
		if err := i.ReadPiece(9, n, a); err != nil {
			t.Fatal(err)
		}
		if err := dst.ReadPiece(9, n, b); err != nil || !bytes.Equal(a, b) {
			t.Fatalf("piece %d read back differs (%v)", n, err)
		}
	}
}

func TestImageFile(t *testing.T) {
	data := picture()
	dir := t.TempDir()
	carryImage(t, data, dir+"/new")
	got, err := os.ReadFile(dir + "/new")
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("new file differs (%v)", err)
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dir+"/new", &st); err != nil || st.Blocks*512 > 3_100_000 {
		t.Errorf("new file takes %d bytes: its zeros were written (%v)", st.Blocks*512, err)
	}
	// An old, longer file has other bytes where the image has zeros.
	if err := os.WriteFile(dir+"/old", bytes.Repeat([]byte{0xff}, 6_000_000), 0o600); err != nil {
		t.Fatal(err)
	}
	carryImage(t, data, dir+"/old")
	if got, err := os.ReadFile(dir + "/old"); err != nil || !bytes.Equal(got, data) {
		t.Errorf("old file differs (%v)", err)
	}
	carryImage(t, nil, dir+"/empty")
	carryImage(t, make([]byte, 3<<20+5), dir+"/zeros")
	if st, err := os.Stat(dir + "/zeros"); err != nil || st.Size() != 3<<20+5 {
		t.Errorf("zeros: %v %v", st, err)
	}
}

// TestImageDevice writes to a loop device, and refuses one that is too small.
func TestImageDevice(t *testing.T) {
	need(t, "losetup")
	if !inNamespace(t) {
		return
	}
	data := picture()
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/disk", bytes.Repeat([]byte{0xff}, 6<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	dev := strings.TrimSpace(command(t, dir, "losetup", "--find", "--show", "disk"))
	t.Cleanup(func() { command(t, dir, "losetup", "-d", dev) })
	carryImage(t, data, dev)
	got, err := os.ReadFile(dir + "/disk")
	if err != nil || !bytes.Equal(got[:len(data)], data) || got[len(data)] != 0xff {
		t.Errorf("device differs, or was written beyond the image (%v)", err)
	}
	if i, err := NewImage(dev, wire.NewStream(0, wire.ImageStream, 6<<20+1)); err == nil || !strings.Contains(err.Error(), "6291457") {
		t.Errorf("too small a device: %v %v", i, err)
	}
}

func TestImageRefused(t *testing.T) {
	s := wire.NewStream(0, wire.ImageStream, 5)
	for _, p := range []string{t.TempDir(), "/dev/null"} {
		if i, err := NewImage(p, s); err == nil {
			i.Close()
			t.Errorf("%s: accepted", p)
		}
	}
	if _, err := NewImage(t.TempDir()+"/x", wire.NewStream(0, wire.ContentsStream, 5)); err == nil {
		t.Error("a contents stream as image: accepted")
	}
}
