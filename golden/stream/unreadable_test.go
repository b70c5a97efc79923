package stream

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestUnreadable reads files and a device of which a part can't be read: the
// image under a loop device is cut off.
func TestUnreadable(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skip("needs mkfs.ext4 (Debian: e2fsprogs)")
	}
	tmp := t.TempDir()
	run := func(name string, args ...string) string {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = tmp
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("truncate", "-s", "64M", "img")
	run("mkfs.ext4", "-q", "-b", "4096", "-O", "^has_journal", "img")
	run("mkdir", "m")
	run("mount", "-o", "loop,noatime", "img", "m")
	t.Cleanup(func() { syscall.Unmount(tmp+"/m", syscall.MNT_DETACH) })
	good, bad := make([]byte, 100_000), make([]byte, 8_000_000)
	rand.NewChaCha8([32]byte{1}).Read(good)
	rand.NewChaCha8([32]byte{2}).Read(bad)
	if err := errors.Join(os.WriteFile(tmp+"/m/good", good, 0o600), os.WriteFile(tmp+"/m/bad", bad, 0o600)); err != nil {
		t.Fatal(err)
	}
	run("sync", "-f", "m")
	tree := scan(t, ScanOptions{Root: tmp + "/m"})
	var first int64 // physical block of bad
	for line := range strings.SplitSeq(run("filefrag", "-v", "m/bad"), "\n") {
		if f := strings.Fields(line); len(f) > 3 && f[0] == "0:" {
			first, _ = strconv.ParseInt(strings.TrimSuffix(f[3], ".."), 10, 64)
		}
	}
	if first == 0 {
		t.Fatal("filefrag tells no block")
	}
	const whole = 1000 // blocks of bad that remain
	if err := errors.Join(os.Truncate(tmp+"/img", (first+whole)*4096), os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0)); err != nil {
		t.Fatal(err)
	}
	m, all := decoded(t, tree), readAll(t, tree, ContentsID)
	clear(bad[whole*4096:])
	for i := range m.Entries {
		e := &m.Entries[i]
		want := map[string][]byte{"good": good, "bad": bad}[e.Name]
		if got := all[e.DataOff : e.DataOff+e.DataLen()]; !bytes.Equal(got, want) {
			t.Errorf("%s differs", e.Name)
		}
	}
	want := fmt.Sprintf("/bad: %d bytes can't be read and are zeros in the clones (at %d-%d): input/output error", len(bad)-whole*4096, whole*4096, len(bad)-1)
	if torn := tree.Torn(); len(torn) != 1 || torn[0] != want {
		t.Errorf("torn %q, want %q", torn, want)
	}
	// A copy of it has the same zeros.
	got := settled(t, tree, wire.Range{Stream: ContentsID, From: 0, To: tree.Streams()[1].Pieces})
	if got["bad"] != string(bad) || got["good"] != string(good) {
		t.Error("the copies differ")
	}
	device, _, _ := strings.Cut(run("losetup", "-j", "img"), ":")
	image, err := OpenImage(0, device)
	if err != nil {
		t.Fatal(err)
	}
	defer image.Close()
	for n := range image.Streams()[0].Pieces {
		buf := make([]byte, image.Streams()[0].Len(n))
		if err := image.ReadPiece(0, n, buf); err != nil {
			t.Fatal(err)
		}
		end := (first + whole) * 4096
		if off := int64(n) * int64(image.Streams()[0].PieceSize); off > end && !bytes.Equal(buf, make([]byte, len(buf))) {
			t.Errorf("piece %d is not zeros", n)
		}
	}
	if torn := image.Torn(); len(torn) != 1 || !strings.Contains(torn[0], fmt.Sprintf(" %d bytes can't be read", 64<<20-(first+whole)*4096)) {
		t.Errorf("torn %q", torn)
	}
}

func TestAddExtent(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var xs []Extent
	marked := make([]bool, 200)
	for range 60 {
		x := Extent{int64(r.IntN(190)), int64(1 + r.IntN(8))}
		xs = addExtent(xs, x)
		for i := x.Off; i < x.Off+x.Len; i++ {
			marked[i] = true
		}
		var want []Extent
		for i, m := range marked {
			if m && (i == 0 || !marked[i-1]) {
				want = append(want, Extent{int64(i), 0})
			}
			if m {
				want[len(want)-1].Len++
			}
		}
		if !slices.Equal(xs, want) {
			t.Fatalf("after %v: %v, want %v", x, xs, want)
		}
	}
}
