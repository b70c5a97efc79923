package capture

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestDetails: what the mkfs of this machine was told is found again on the
// file system that it made.
func TestDetails(t *testing.T) {
	for _, c := range []struct {
		kind     string
		make     []string
		features string // all of these are in it
		want     wire.Filesystem
	}{
		{"ext4", []string{"mkfs.ext4", "-q", "-m", "2.5", "-I", "512", "-b", "4096", "-O", "^metadata_csum"}, "extent 64bit", wire.Filesystem{BlockSize: 4096, InodeSize: 512, Reserved: 2.5}},
		{"ext3", []string{"mkfs.ext3", "-q", "-m", "0", "-I", "128", "-b", "1024"}, "has_journal", wire.Filesystem{BlockSize: 1024, InodeSize: 128, Reserved: -1}},
		{"xfs", []string{"mkfs.xfs", "-q", "-i", "size=1024", "-m", "reflink=0,bigtime=0,rmapbt=1"}, "crc=1 reflink=0 bigtime=0 rmapbt=1 finobt=1 inobtcount=1 sparse=1 ftype=1", wire.Filesystem{BlockSize: 4096, InodeSize: 1024}},
		{"xfs", []string{"mkfs.xfs", "-q", "-m", "crc=0", "-b", "size=1024"}, "crc=0 finobt=0", wire.Filesystem{BlockSize: 1024, InodeSize: 256}},
		{"btrfs", []string{"mkfs.btrfs", "-q", "-O", "^no-holes"}, "extref skinny-metadata free-space-tree", wire.Filesystem{BlockSize: 4096}},
		{"f2fs", []string{"mkfs.f2fs", "-q", "-O", "extra_attr,inode_checksum"}, "extra_attr inode_checksum", wire.Filesystem{}},
		{"jfs", []string{"mkfs.jfs", "-q"}, "", wire.Filesystem{BlockSize: 4096}},
		{"reiserfs", []string{"mkfs.reiserfs", "-ff", "-q", "-b", "4096"}, "", wire.Filesystem{BlockSize: 4096}},
	} {
		if _, err := exec.LookPath(c.make[0]); err != nil {
			t.Logf("%s is not installed", c.make[0])
			continue
		}
		file := filepath.Join(t.TempDir(), "fs.img")
		write(t, file, "")
		if err := os.Truncate(file, 400<<20); err != nil {
			t.Fatal(err)
		}
		must(t, c.make[0], append(c.make[1:], file)...)
		d := &describer{}
		w := want{node: file, Filesystem: wire.Filesystem{Type: c.kind}}
		if err := d.details(context.Background(), &w); err != nil || len(d.notes) > 0 {
			t.Errorf("%s: %v, %q", c.kind, err, d.notes)
		}
		for _, f := range strings.Fields(c.features) {
			if !slices.Contains(w.Features, f) {
				t.Errorf("%v: features %q, want %s among them", c.make, w.Features, f)
			}
		}
		if slices.Contains(w.Features, "no-holes") || w.BlockSize != c.want.BlockSize || w.InodeSize != c.want.InodeSize || w.Reserved != c.want.Reserved || w.Type != c.kind {
			t.Errorf("%v: got %+v, want %+v", c.make, w.Filesystem, c.want)
		}
		if c.kind != "jfs" && w.OldUUID == "" {
			t.Errorf("%v: no UUID", c.make)
		}
	}
}

// TestDetailsOfOthers: what can't be cloned as files is refused, not guessed.
func TestDetailsOfOthers(t *testing.T) {
	for kind, out := range map[string]string{
		"btrfs": "sectorsize\t\t4096\nnum_devices\t\t2\n",
		"xfs":   "meta-data=/dev/x isize=512\ndata     =  bsize=4096\nrealtime =/dev/y  extsz=4096\n",
		"ext4":  "Block count: 0\nInode size: 256\nBlock size: 1024\nReserved block count: 1",
		"jfs":   "nothing",
		"f2fs":  "nothing",
	} {
		if err := readers[kind].parse(&wire.Filesystem{}, out); err == nil {
			t.Errorf("%s: %q is taken", kind, out)
		}
	}
}

func TestFileOptions(t *testing.T) {
	for _, c := range []struct{ kind, options, want string }{
		{"btrfs", "rw,relatime,compress=zstd:3,space_cache=v2,subvol=/@", "compress=zstd:3"},
		{"btrfs", "compress-force=lzo,nodatacow", "compress-force=lzo,nodatacow"},
		{"btrfs", "compress=a b", ""},
		{"f2fs", "rw,compress_algorithm=lz4,background_gc=on", "compress_algorithm=lz4"},
		{"ext4", "errors=remount-ro", ""},
	} {
		if got := fileOptions(c.kind, strings.Split(c.options, ",")); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.kind, c.options, got, c.want)
		}
	}
}

func FuzzDetails(f *testing.F) {
	for kind := range readers {
		f.Add(kind, "Block size: 4096\nmeta-data=/dev/x isize=512 reflink=1\nsectorsize 4096\nnum_devices 1\nInfo: superblock features = 1 : verity\nBlocksize: 4096\n")
	}
	f.Fuzz(func(t *testing.T, kind, out string) {
		fs := wire.Filesystem{}
		if r, ok := readers[kind]; ok && r.parse(&fs, out) == nil && (fs.BlockSize < 0 || fs.InodeSize < 0 || fs.Reserved > 50) {
			t.Fatalf("%s: %q: %+v", kind, out, fs)
		}
	})
}
