package restore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

const mib = 1 << 20

// loopOf makes a file a loop device.
func loopOf(t testing.TB, file string) string {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	if err != nil {
		t.Fatalf("losetup %s: %v: %s", file, err, out)
	}
	dev := strings.TrimSpace(string(out))
	// Detached while it is open, it goes by itself with the last that has it
	// open: also if this test is killed.
	hold, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
		t.Errorf("losetup --detach %s: %v: %s", dev, err, out)
	}
	t.Cleanup(func() { hold.Close() })
	return dev
}

// blankFile has no block.
func blankFile(t testing.TB, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	return name
}

// oldFile is full of what was there before.
func oldFile(t testing.TB, size int) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "old")
	if err := os.WriteFile(name, bytes.Repeat([]byte{0xa5}, size), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// usedBlocks has partclone say what is in use of an image.
func usedBlocks(t testing.TB, program, image string) stream.BlockMap {
	t.Helper()
	st, err := os.Stat(image)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if out, err := exec.Command(program, "--domain", "-s", image, "-o", dir+"/domain", "-L", dir+"/log").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
	text, err := os.ReadFile(dir + "/domain")
	if err != nil {
		t.Fatal(err)
	}
	m := stream.BlockMap{Bytes: st.Size(), How: wire.BlocksUsed}
	for line := range strings.Lines(string(text)) {
		var off, n int64
		var status string
		if k, _ := fmt.Sscanf(line, "0x%x 0x%x %s", &off, &n, &status); k == 3 && status == "+" {
			m.Extents = append(m.Extents, stream.Extent{Off: off, Len: n})
		}
	}
	m.Extents = append(m.Extents, stream.Extent{Off: m.Bytes - 4096, Len: 4096})
	m.Join(1)
	return m
}

// blockPart is a partition to copy, in the tests below.
type blockPart struct {
	on, image, fstype string
	m                 stream.BlockMap
}

func planOf(parts []blockPart) wire.Plan {
	var p wire.Plan
	for _, x := range parts {
		p.Blocks = append(p.Blocks, wire.Blocks{On: x.on, Type: x.fstype, Bytes: x.m.Bytes, How: x.m.How})
	}
	return p
}

func openAll(t testing.TB, tree *stream.Tree, parts []blockPart) *stream.Whole {
	t.Helper()
	var all []*stream.Blocks
	for n, x := range parts {
		b, err := stream.OpenBlocks(n, x.image, x.on, x.m)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b)
	}
	w, err := stream.NewWhole(tree, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

// carryAll gives a sink all pieces, the last ones first, until it has taken
// each.
func carryAll(t testing.TB, src chain.Source, put func(uint16, uint32, []byte) error) {
	t.Helper()
	for range 3 {
		again := false
		streams := src.Streams()
		for i := len(streams) - 1; i >= 0; i-- {
			s := streams[i]
			for p := s.Pieces; p > 0; p-- {
				buf := make([]byte, s.Len(p-1))
				if err := src.ReadPiece(s.ID, p-1, buf); err != nil {
					t.Fatal(err)
				}
				switch err := put(s.ID, p-1, buf); {
				case errors.Is(err, chain.ErrNotYet):
					again = true
				case err != nil:
					t.Fatal(err)
				}
			}
		}
		if !again {
			return
		}
	}
	t.Fatal("there are pieces that it doesn't take")
}

// sameExtents compares what the map lists, and says whether all else is fill.
func sameExtents(t *testing.T, m stream.BlockMap, from, to string, fill byte, end int64) {
	t.Helper()
	a, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	read := func(f *os.File, off, n int64) []byte {
		buf := make([]byte, n)
		if _, err := f.ReadAt(buf, off); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		return buf
	}
	for _, x := range m.Extents {
		if !bytes.Equal(read(a, x.Off, x.Len), read(b, x.Off, x.Len)) {
			t.Errorf("%d bytes at %d differ", x.Len, x.Off)
		}
	}
	err = m.Gaps(end, func(off, n int64) error {
		for n > 0 {
			step := min(n, mib)
			if !bytes.Equal(read(b, off, step), bytes.Repeat([]byte{fill}, int(step))) {
				return fmt.Errorf("%d bytes at %d aren't all %#x", step, off, fill)
			}
			off, n = off+step, n-step
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestBlocksNonzero: what isn't sent is zeros, whatever was there, on a file
// and on a device, at offsets that are no multiple of anything.
func TestBlocksNonzero(t *testing.T) {
	need(t, "losetup", "cmp")
	if !inNamespace(t) {
		return
	}
	const size = 5*mib + 512
	image := blankFile(t, size)
	m := stream.BlockMap{Bytes: size, How: wire.BlocksNonzero, Extents: []stream.Extent{{Off: 100, Len: 1}, {Off: 4097, Len: 9000}, {Off: mib, Len: mib}, {Off: size - 7, Len: 7}}}
	content := noise(3, size)
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range m.Extents {
		if _, err := f.WriteAt(content[x.Off:x.Off+x.Len], x.Off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	parts := []blockPart{{on: "sda3", image: image, m: m}}
	src := openAll(t, nil, parts)
	for name, to := range map[string]string{"file": oldFile(t, size), "device": loopOf(t, oldFile(t, size)), "larger": loopOf(t, oldFile(t, size+2*mib))} {
		dst, err := NewWhole("", src.Streams(), planOf(parts), wire.DiskResult{Blocks: []string{to}}, Options{})
		if err != nil {
			t.Fatal(err)
		}
		carryAll(t, src, dst.Put)
		if err := errors.Join(dst.Finish(t.Context()), dst.Close()); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(to)
		if err != nil {
			t.Fatal(err)
		}
		end, err := f.Seek(0, io.SeekEnd)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		sameExtents(t, m, image, to, 0, end)
		command(t, "/", "cmp", "-n", fmt.Sprint(size), image, to)
	}
}

// TestZeroer: also where the device can do nothing but be written to.
func TestZeroer(t *testing.T) {
	for _, plain := range []bool{false, true} {
		name := oldFile(t, 3*mib)
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		z := zeroer{f: f, plain: plain}
		if err := z.zero(t.Context(), 4095, 2*mib+3); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		want := bytes.Repeat([]byte{0xa5}, 3*mib)
		clear(want[4095 : 4095+2*mib+3])
		if !bytes.Equal(got, want) {
			t.Errorf("plain %v: other bytes than these are zeros", plain)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := z.zero(ctx, 0, mib); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
}

// TestBlocksHostile: a map that isn't what the plan says, or that is wrong in
// itself, writes nothing anywhere.
func TestBlocksHostile(t *testing.T) {
	const size = 64 << 10
	good := stream.BlockMap{Bytes: size, How: wire.BlocksUsed, Extents: []stream.Extent{{Off: 4096, Len: 4096}}}
	encode := func(m stream.BlockMap) []byte {
		b, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	raw := func(numbers ...uint64) []byte {
		b := append([]byte("kamblock"), 1, 0, 'u', 0)
		for _, n := range numbers {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	for name, c := range map[string]struct {
		m    []byte
		data int64
		ok   bool
	}{
		"good":            {encode(good), 4096, true},
		"more data":       {encode(good), 8192, false},
		"less data":       {encode(good), 100, false},
		"another size":    {encode(stream.BlockMap{Bytes: size + 1, How: wire.BlocksUsed, Extents: good.Extents}), 4096, false},
		"a larger device": {encode(stream.BlockMap{Bytes: 1 << 50, How: wire.BlocksUsed, Extents: []stream.Extent{{Off: 1 << 49, Len: 4096}}}), 4096, false},
		"another way":     {encode(stream.BlockMap{Bytes: size, How: wire.BlocksNonzero, Extents: good.Extents}), 4096, false},
		"beyond the end":  {raw(size, 1, size, 4096), 4096, false},
		"over the end":    {raw(size, 1, size-1, 4096), 4096, false},
		"2^60 long":       {raw(1<<61, 1, 0, 1<<60), 4096, false},
		"overlapping":     {raw(size, 2, 4096, 2048, 1<<64-1, 2048), 4096, false},
		"cut off":         {encode(good)[:15], 4096, false},
		"not a map":       {[]byte("nonsense nonsense"), 4096, false},
	} {
		t.Run(name, func(t *testing.T) {
			to := oldFile(t, size)
			id, data := stream.BlockIDs(0)
			s := []wire.Stream{wire.NewStream(id, wire.BlockMapStream, int64(len(c.m))), wire.NewStream(data, wire.BlocksStream, c.data)}
			s[0].Name, s[1].Name = "sda3", "sda3"
			plan := wire.Plan{Blocks: []wire.Blocks{{On: "sda3", Bytes: size, How: wire.BlocksUsed}}}
			w, err := NewWhole("", s, plan, wire.DiskResult{Blocks: []string{to}}, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer w.Close()
			err = errors.Join(w.Put(id, 0, c.m), w.Put(data, 0, noise(1, int(c.data))), w.Finish(t.Context()))
			if (err == nil) != c.ok {
				t.Fatalf("%v", err)
			}
			got, rerr := os.ReadFile(to)
			if rerr != nil {
				t.Fatal(rerr)
			}
			want := bytes.Repeat([]byte{0xa5}, size)
			if c.ok {
				copy(want[4096:8192], noise(1, 4096))
			} else if !strings.Contains(err.Error(), "sda3") {
				t.Errorf("doesn't name the partition: %v", err)
			}
			if !bytes.Equal(got, want) {
				t.Error("was written to")
			}
		})
	}
}

// TestBlocksRefused: what is announced has to be the plan's, and has a place.
func TestBlocksRefused(t *testing.T) {
	to := oldFile(t, 4096)
	image := oldFile(t, 8192)
	m := stream.BlockMap{Bytes: 8192, How: wire.BlocksRaw, Extents: []stream.Extent{{Off: 0, Len: 8192}}}
	parts := []blockPart{{on: "sda3", image: image, m: m}}
	src := openAll(t, nil, parts)
	plan, made := planOf(parts), wire.DiskResult{Blocks: []string{to}}
	s := src.Streams()
	other := planOf([]blockPart{{on: "sda4", image: image, m: m}})
	twice := []wire.Stream{s[0], s[0]}
	huge := []wire.Stream{s[0], s[1]}
	huge[0].Bytes, huge[0].Pieces, huge[0].PieceSize = 1<<40, 1<<14, 64<<20
	for name, err := range map[string]error{
		"another partition": func() error { _, err := NewWhole("", s, other, made, Options{}); return err }(),
		"no device":         func() error { _, err := NewWhole("", s, plan, wire.DiskResult{}, Options{}); return err }(),
		"an empty name": func() error {
			_, err := NewWhole("", s, plan, wire.DiskResult{Blocks: []string{""}}, Options{})
			return err
		}(),
		"one stream":       func() error { _, err := NewWhole("", s[:1], plan, made, Options{}); return err }(),
		"one stream twice": func() error { _, err := NewWhole("", twice, plan, made, Options{}); return err }(),
		"no blocks wanted": func() error { _, err := NewWhole("", s, wire.Plan{}, wire.DiskResult{}, Options{}); return err }(),
		"a huge map":       func() error { _, err := NewWhole("", huge, plan, made, Options{}); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: is taken", name)
		}
	}
	// A device that is too small says so with the map.
	w, err := NewWhole("", s, plan, made, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	buf := make([]byte, s[0].Len(0))
	if err := src.ReadPiece(s[0].ID, 0, buf); err != nil {
		t.Fatal(err)
	}
	if err := w.Put(s[0].ID, 0, buf); err == nil || !strings.Contains(err.Error(), "4096") {
		t.Errorf("too small: %v", err)
	}
	if err := w.Put(7, 0, buf); err == nil {
		t.Error("takes files that weren't announced")
	}
}

// TestBlocksMounted: a device that is in use here isn't written to.
func TestBlocksMounted(t *testing.T) {
	need(t, "losetup", "mkfs.ext4")
	if !inNamespace(t) {
		return
	}
	image := blankFile(t, 16*mib)
	command(t, "/", "mkfs.ext4", "-q", "-F", image)
	dev, dir := loopOf(t, image), t.TempDir()
	command(t, "/", "mount", dev, dir)
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	parts := []blockPart{{on: "sda3", image: image, m: stream.BlockMap{Bytes: 16 * mib, How: wire.BlocksRaw, Extents: []stream.Extent{{Off: 0, Len: 16 * mib}}}}}
	src := openAll(t, nil, parts)
	s := src.Streams()
	w, err := NewWhole("", s, planOf(parts), wire.DiskResult{Blocks: []string{dev}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	buf := make([]byte, s[0].Len(0))
	if err := src.ReadPiece(s[0].ID, 0, buf); err != nil {
		t.Fatal(err)
	}
	if err := w.Put(s[0].ID, 0, buf); !errors.Is(err, unix.EBUSY) {
		t.Errorf("mounted: %v", err)
	}
}
