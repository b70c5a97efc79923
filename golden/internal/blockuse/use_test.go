package blockuse

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/wire"
)

const mib = 1 << 20

// command has to succeed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: %v", p, err)
		}
	}
}

// sparse makes a file without any block.
func sparse(t *testing.T, size int64) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(name, size); err != nil {
		t.Fatal(err)
	}
	return name
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

func write(t *testing.T, name string, off int64, b []byte) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteAt(b, off)
	}
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// copyUsed makes what a clone has of it: the extents, and old data elsewhere.
func copyUsed(t *testing.T, u *Use, from string, around byte) string {
	t.Helper()
	src, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	out := bytes.Repeat([]byte{around}, len(src))
	for _, x := range u.Map.Extents {
		copy(out[x.Off:x.Off+x.Len], src[x.Off:x.Off+x.Len])
	}
	name := filepath.Join(t.TempDir(), "copy")
	if err := os.WriteFile(name, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestUsed: the used blocks of real file systems, among old data, are a file
// system without faults; and fewer than all.
func TestUsed(t *testing.T) {
	need(t, "partclone.extfs", "blkid")
	for _, c := range []struct {
		kind  string
		size  int64
		mkfs  []string
		put   []string // puts a file of noise in, FILE, into IMAGE
		get   []string // writes it to the standard output
		judge []string
	}{
		{"ext4", 64 * mib, []string{"mkfs.ext4", "-q", "-F"}, []string{"debugfs", "-w", "-R", "write FILE noise", "IMAGE"},
			[]string{"debugfs", "-R", "cat /noise", "IMAGE"}, []string{"e2fsck", "-f", "-n", "IMAGE"}},
		{"ext2", 64 * mib, []string{"mkfs.ext2", "-q", "-F", "-b", "1024"}, []string{"debugfs", "-w", "-R", "write FILE noise", "IMAGE"},
			[]string{"debugfs", "-R", "cat /noise", "IMAGE"}, []string{"e2fsck", "-f", "-n", "IMAGE"}},
		{"ntfs", 64 * mib, []string{"mkntfs", "-q", "-F", "-f"}, []string{"ntfscp", "-f", "IMAGE", "FILE", "noise"},
			[]string{"ntfscat", "-f", "IMAGE", "noise"}, []string{"ntfsfix", "-n", "IMAGE"}},
		{"vfat", 64 * mib, []string{"mkfs.vfat", "-F", "32"}, []string{"mcopy", "-i", "IMAGE", "FILE", "::noise"},
			[]string{"mtype", "-i", "IMAGE", "::noise"}, []string{"fsck.vfat", "-n", "IMAGE"}},
		{"xfs", 320 * mib, []string{"mkfs.xfs", "-q"}, nil, nil, []string{"xfs_repair", "-n", "IMAGE"}},
		{"btrfs", 256 * mib, []string{"mkfs.btrfs", "-q"}, nil, nil, []string{"btrfs", "check", "--force", "IMAGE"}},
	} {
		t.Run(c.kind, func(t *testing.T) {
			need(t, c.mkfs[0], c.judge[0])
			image := sparse(t, c.size)
			file := filepath.Join(t.TempDir(), "noise")
			content := noise(5*mib + 123)
			if err := os.WriteFile(file, content, 0o600); err != nil {
				t.Fatal(err)
			}
			on := func(image string, words []string) []string {
				var out []string
				for _, w := range words {
					out = append(out, strings.NewReplacer("IMAGE", image, "FILE", file).Replace(w))
				}
				return out
			}
			command(t, c.mkfs[0], append(c.mkfs[1:], image)...)
			if c.put != nil {
				need(t, c.put[0], c.get[0])
				w := on(image, c.put)
				command(t, w[0], w[1:]...)
			}
			u, err := Look(t.Context(), Partition{Path: image})
			if err != nil {
				t.Fatal(err)
			}
			if u.Type != c.kind || u.Map.How != wire.BlocksUsed || len(u.Notes) > 0 || u.UUID == "" {
				t.Fatalf("%s, %s, UUID %q, notes %q", u.Type, u.Map.How, u.UUID, u.Notes)
			}
			if n := u.Map.Data(); n > c.size/2 {
				t.Errorf("%d of %d bytes are used", n, c.size)
			}
			clone := copyUsed(t, u, image, 0xa5)
			w := on(clone, c.judge)
			t.Log(command(t, w[0], w[1:]...))
			if c.get == nil {
				return
			}
			w = on(clone, c.get)
			got, err := exec.Command(w[0], w[1:]...).Output()
			if err != nil || !bytes.Equal(got, content) {
				t.Errorf("the file has %d bytes, %v; want %d", len(got), err, len(content))
			}
		})
	}
}

// TestNonzero: what is unknown is read, and comes without its zeros.
func TestNonzero(t *testing.T) {
	need(t, "blkid")
	image := sparse(t, 10<<30) // 10 GiB, of which next to nothing is there
	for _, off := range []int64{0, 5 * mib, 1<<32 + 100, 10<<30 - 1} {
		write(t, image, off, []byte{1})
	}
	u, err := Look(t.Context(), Partition{Path: image})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, x := range u.Map.Extents {
		got = append(got, fmt.Sprintf("%d+%d", x.Off, x.Len))
	}
	want := fmt.Sprintf("0+4096 %d+4096 %d+4096 %d+4096", 5*mib, int64(1)<<32, int64(10)<<30-4096)
	if s := strings.Join(got, " "); s != want || u.Map.How != wire.BlocksNonzero || u.Type != "" {
		t.Errorf("%s %q: %s, want %s", u.Map.How, u.Type, s, want)
	}
	if u, err = Look(t.Context(), Partition{Path: image, How: wire.BlocksRaw}); err != nil || u.Map.Data() != 10<<30 {
		t.Errorf("raw: %+v, %v", u, err)
	}
	if _, err = Look(t.Context(), Partition{Path: image, How: wire.BlocksUsed}); err == nil || !strings.Contains(err.Error(), "unknown") {
		t.Errorf("used: %v", err)
	}
	if _, err = Look(t.Context(), Partition{Path: sparse(t, 0)}); err == nil {
		t.Error("an empty file is taken")
	}
	if _, err = Look(t.Context(), Partition{Path: t.TempDir()}); err == nil {
		t.Error("a folder is taken")
	}
}

// TestUnusable: a file system that partclone refuses comes by its zeros, and
// it is said why.
func TestUnusable(t *testing.T) {
	need(t, "partclone.extfs", "mkfs.ext4", "debugfs", "blkid")
	image := sparse(t, 64*mib)
	command(t, "mkfs.ext4", "-q", "-F", image)
	command(t, "debugfs", "-w", "-R", "ssv state 2", image) // has errors
	u, err := Look(t.Context(), Partition{Path: image})
	if err != nil {
		t.Fatal(err)
	}
	if u.Map.How != wire.BlocksNonzero || len(u.Notes) != 1 || !strings.Contains(u.Notes[0], "partclone") {
		t.Errorf("%s, %q", u.Map.How, u.Notes)
	}
	clone := copyUsed(t, u, image, 0)
	command(t, "cmp", image, clone)
	if _, err := Look(t.Context(), Partition{Path: image, How: wire.BlocksUsed}); err == nil {
		t.Error("its used blocks are known all the same")
	}
}

func TestBootCode(t *testing.T) {
	dir := t.TempDir()
	for n, ok := range map[int]bool{0: false, 445: false, 446: true, 447: false, 512: false} {
		name := filepath.Join(dir, fmt.Sprint(n))
		if err := os.WriteFile(name, noise(n), 0o600); err != nil {
			t.Fatal(err)
		}
		code, err := FileBootCode(name)
		if (err == nil) != ok || ok && !bytes.Equal(code, noise(n)) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if !ok && !strings.Contains(err.Error(), fmt.Sprint(n)) {
			t.Errorf("the length isn't named: %v", err)
		}
	}
	disk := sparse(t, mib)
	if _, err := DiskBootCode(disk); err == nil {
		t.Error("a disk without a boot record has one")
	}
	write(t, disk, 0, noise(512))
	if code, err := DiskBootCode(disk); err != nil || !bytes.Equal(code, noise(512)[:446]) {
		t.Errorf("%d bytes, %v", len(code), err)
	}
}
