package restore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// mountedOn mounts a device or image until the end of the test, or until the
// function returned is called.
func mountedOn(t *testing.T, dev, options string) (dir string, unmount func()) {
	t.Helper()
	dir = t.TempDir()
	command(t, "/", "mount", "-o", options, dev, dir)
	done := false
	unmount = func() {
		if !done {
			done = true
			if err := unix.Unmount(dir, 0); err != nil {
				t.Errorf("unmount %s: %v", dir, err)
			}
		}
	}
	t.Cleanup(unmount)
	return dir, unmount
}

// fill puts files into a file system, among which one that is called a/link is
// file, and leaves free blocks full of old data.
func fill(t *testing.T, image, file string) {
	t.Helper()
	dir, unmount := mountedOn(t, image, "loop")
	for _, sub := range []string{"a", "b"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o751); err != nil {
			t.Fatal(err)
		}
		command(t, dir, "cp", file, sub+"/noise")
		command(t, dir, "ln", sub+"/noise", sub+"/link")
	}
	command(t, dir, "truncate", "-s", "50M", "a/hole")
	command(t, dir, "rm", "-r", "b")
	unmount()
}

// realParts are golden's partitions: one of Linux, and two that Windows would
// have.
func realParts(t *testing.T) []blockPart {
	t.Helper()
	file := filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(file, noise(5, 3*mib+99), 0o600); err != nil {
		t.Fatal(err)
	}
	ext, ntfs, vfat := blankFile(t, 96*mib), blankFile(t, 64*mib), blankFile(t, 64*mib)
	command(t, "/", "mkfs.ext4", "-q", "-F", ext)
	command(t, "/", "mkntfs", "-q", "-F", "-f", ntfs)
	command(t, "/", "mkfs.vfat", vfat)
	fill(t, ext, file)
	command(t, "/", "ntfscp", "-f", ntfs, file, "noise")
	command(t, "/", "mcopy", "-i", vfat, file, "::noise")
	return []blockPart{
		{"sda5", ext, "ext4", usedBlocks(t, "partclone.extfs", ext)},
		{"sda1", ntfs, "ntfs", usedBlocks(t, "partclone.ntfs", ntfs)},
		{"sda2", vfat, "vfat", usedBlocks(t, "partclone.fat", vfat)},
	}
}

// judgeParts has others look at a node's devices.
func judgeParts(t *testing.T, parts []blockPart, devs []string) {
	t.Helper()
	want := noise(5, 3*mib+99)
	for i, x := range parts {
		judge := map[string][]string{
			"ext4": {"e2fsck", "-f", "-n"}, "ntfs": {"ntfsfix", "-n"}, "vfat": {"fsck.vfat", "-n"},
		}[x.fstype]
		command(t, "/", judge[0], append(judge[1:], devs[i])...)
		var got []byte
		var err error
		switch x.fstype {
		case "ntfs":
			got, err = exec.Command("ntfscat", "-f", devs[i], "noise").Output()
		case "vfat":
			got, err = exec.Command("mtype", "-i", devs[i], "::noise").Output()
		default:
			from, end := mountedOn(t, x.image, "loop,ro,noload")
			to, endTo := mountedOn(t, devs[i], "ro,noload")
			if out := command(t, "/", "rsync", "-aHAXSn", "--checksum", "--delete", "-i", from+"/", to+"/"); out != "" {
				t.Errorf("%s: rsync sees differences:\n%s", x.fstype, out)
			}
			got, err = os.ReadFile(to + "/a/link")
			end()
			endTo()
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: the file on %s has %d bytes, %v", x.fstype, devs[i], len(got), err)
		}
	}
}

// slowWhole is a source that takes as long as a disk. With the first blocks
// that are read, which is behind all files, something happens.
type slowWhole struct {
	*stream.Whole
	once   *sync.Once
	happen func()
}

func (s slowWhole) ReadPiece(id uint16, piece uint32, buf []byte) error {
	time.Sleep(10 * time.Millisecond)
	if _, data := stream.BlockIDs(0); id == data {
		s.once.Do(s.happen)
	}
	return s.Whole.ReadPiece(id, piece, buf)
}

// TestBlocksChain clones files and four partitions beside them through a real
// chain: to an empty node, to one that has an earlier clone, and to one that
// comes late. A file changes meanwhile.
func TestBlocksChain(t *testing.T) {
	need(t, "losetup", "mkfs.ext4", "mkntfs", "ntfscp", "ntfscat", "ntfsfix", "mkfs.vfat", "mcopy", "mtype", "fsck.vfat",
		"partclone.extfs", "rsync")
	if !inNamespace(t) {
		return
	}
	parts := realParts(t)
	from := filepath.Join(t.TempDir(), "from")
	liveTree(t, from)
	tree, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from})
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	tree.Spool = t.TempDir()
	src := slowWhole{openAll(t, tree, parts), &sync.Once{}, func() {
		f, err := os.OpenFile(from+"/d0/still4", os.O_WRONLY|os.O_APPEND, 0)
		if err == nil {
			_, err = f.WriteString("more")
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}}
	plan, base := planOf(parts), src.Streams()
	var nodes []*Whole
	var made []wire.DiskResult
	var dirs []string
	for n := range 3 {
		var r wire.DiskResult
		for _, x := range parts {
			file := blankFile(t, x.m.Bytes)
			if n == 1 { // an earlier clone, of which a block has changed
				command(t, "/", "cp", "--sparse=always", x.image, file)
				f, err := os.OpenFile(file, os.O_WRONLY, 0)
				if err == nil {
					_, err = f.WriteAt(bytes.Repeat([]byte{1}, 4096), x.m.Extents[0].Off)
				}
				if err := errors.Join(err, f.Close()); err != nil {
					t.Fatal(err)
				}
			} else {
				file = oldFile(t, int(x.m.Bytes))
			}
			r.Blocks = append(r.Blocks, loopOf(t, file))
		}
		dir := t.TempDir()
		w, err := NewWhole(dir, base, plan, r, Options{Update: n == 1})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		nodes, made, dirs = append(nodes, w), append(made, r), append(dirs, dir)
	}
	l := newChainLab(t, src)
	l.join(1, base, nodes[0], nil)
	l.join(2, base, nodes[1], nodes[1])
	l.head.Expect(1)
	l.wg.Go(func() {
		// The last node before it has more than its ring holds: it must lack some.
		for l.head.Progress().Nodes[2].Stored < 8<<20 && l.ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		l.join(3, base, nodes[2], nil)
		l.head.Expect(-1)
	})
	out, err := l.head.Run(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	p := l.head.Progress()
	t.Logf("laps %d, %d bytes, sent %d, kept %d, %d streams", p.Lap, p.Bytes, p.Sent, p.Kept, len(src.Streams()))
	if len(src.Streams()) != len(base)+2 || p.Lap < 2 {
		t.Errorf("%d streams, %d laps: the file that changed was not sent again, or nobody came late", len(src.Streams()), p.Lap)
	}
	if torn := src.Torn(); len(torn) > 0 {
		t.Errorf("torn %q", torn)
	}
	for i, w := range nodes {
		if o := out[uint32(i+1)]; !o.Complete {
			t.Fatalf("node %d: %+v", i+1, o)
		}
		if err := errors.Join(w.Finish(t.Context()), w.Close()); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(from + "/d0/still4")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(dirs[i] + "/d0/still4"); err != nil || !bytes.Equal(got, want) {
			t.Errorf("node %d: the file that changed: %v", i+1, err)
		}
		judgeParts(t, parts, made[i].Blocks)
		if i == 1 {
			continue
		}
		for k, x := range parts {
			sameExtents(t, x.m, x.image, made[i].Blocks[k], 0xa5, x.m.Bytes)
		}
	}
}

// TestBlocksUpdate: nodes that hold an earlier clone are sent what differs.
func TestBlocksUpdate(t *testing.T) {
	const size = 16 * mib
	image := filepath.Join(t.TempDir(), "image")
	content := noise(9, size)
	if err := os.WriteFile(image, content, 0o600); err != nil {
		t.Fatal(err)
	}
	parts := []blockPart{{on: "sda3", image: image, m: stream.BlockMap{Bytes: size, How: wire.BlocksRaw, Extents: []stream.Extent{{Off: 0, Len: size}}}}}
	src := openAll(t, nil, parts)
	l := newChainLab(t, src)
	var files []string
	var nodes []*Whole
	for n := range 2 {
		file := filepath.Join(t.TempDir(), "old")
		old := bytes.Clone(content)
		old[5*mib]++
		if err := os.WriteFile(file, old, 0o600); err != nil {
			t.Fatal(err)
		}
		w, err := NewWhole("", src.Streams(), planOf(parts), wire.DiskResult{Blocks: []string{file}}, Options{Update: true})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		files, nodes = append(files, file), append(nodes, w)
		l.join(uint32(n+1), src.Streams(), w, chain.Holder(w))
	}
	out, err := l.head.Run(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	p := l.head.Progress()
	if p.Sent > mib || p.Kept < size-mib {
		t.Errorf("sent %d, kept %d of %d", p.Sent, p.Kept, p.Bytes)
	}
	for i, w := range nodes {
		if o := out[uint32(i+1)]; !o.Complete {
			t.Fatalf("node %d: %+v", i+1, o)
		}
		if err := w.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(files[i]); err != nil || !bytes.Equal(got, content) {
			t.Errorf("node %d differs: %v", i+1, err)
		}
	}
}
