package restore

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/images/compare"
)

// TestOddThroughChain: the odd tree, through a real chain, to two machines one
// behind the other.
func TestOddThroughChain(t *testing.T) {
	need(t, "rsync", "getfattr", "getfacl", "getcap", "lsattr", "mkfs.ext4", "mkfs.xfs", "e2fsck")
	if !inNamespace(t) {
		return
	}
	from, first, second := mkfs(t, "from", "ext4"), mkfs(t, "first", "ext4"), mkfs(t, "second", "ext4")
	torture(t, from.dir)
	src, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from.dir})
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	l := newChainLab(t, src)
	var trees []*Tree
	for i, v := range []volume{first, second} {
		tree, err := NewTree(v.dir, src.Streams(), Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer tree.Close()
		trees = append(trees, tree)
		l.add(uint32(i+1), src.Streams(), tree)
	}
	out, err := l.head.Run(l.ctx)
	if err != nil {
		t.Fatal(err)
	}
	l.wg.Wait()
	for i, v := range []volume{first, second} {
		if o := out[uint32(i+1)]; !o.Complete {
			t.Fatalf("node %d: %+v", i+1, o)
		}
		if err := errors.Join(trees[i].Finish(context.Background()), trees[i].Close()); err != nil {
			t.Fatal(err)
		}
		if w := trees[i].Warnings(); len(w) > 0 {
			t.Errorf("node %d warns: %+v", i+1, w)
		}
		v.remount(t)
		judge(t, from.dir, v.dir)
		v.fsck(t)
	}
}

// TestCovered: what another mount covers is an empty directory with the
// attributes that it has on the disk, and a file under another is named.
func TestCovered(t *testing.T) {
	need(t, "mkfs.ext4")
	if !inNamespace(t) {
		return
	}
	from, home, to := mkfs(t, "from", "ext4"), mkfs(t, "home", "ext4"), mkfs(t, "to", "ext4")
	at := func(p string) string { return from.dir + p }
	var all error
	for _, d := range []string{"/proc", "/run", "/home", "/home-inner"} {
		all = errors.Join(all, os.Mkdir(at(d), 0o700))
	}
	all = errors.Join(all, unix.Mount(home.dir, at("/home"), "", unix.MS_BIND, ""), os.Mkdir(at("/home/tmp"), 0o700),
		os.WriteFile(at("/over"), []byte("below"), 0o600), os.WriteFile(at("/other"), []byte("above"), 0o600))
	for i, d := range []string{"/proc", "/run", "/home/tmp"} {
		ts := []unix.Timespec{{Sec: int64(1000 + i), Nsec: 7}, {Sec: int64(1000 + i), Nsec: 7}}
		all = errors.Join(all, os.WriteFile(at(d)+"/hidden", nil, 0o600), os.Chown(at(d), 10+i, 20+i),
			unix.Setxattr(at(d), "user.below", []byte(d), 0), unix.UtimesNanoAt(unix.AT_FDCWD, at(d), ts, 0))
	}
	want := scanned(t, from.dir)
	for _, d := range []string{"/proc", "/run", "/home/tmp"} {
		all = errors.Join(all, unix.Mount("none", at(d), "tmpfs", 0, "mode=1777"), os.WriteFile(at(d)+"/visible", nil, 0o600))
	}
	if all = errors.Join(all, unix.Mount(at("/other"), at("/over"), "", unix.MS_BIND, "")); all != nil {
		t.Fatal(all)
	}
	if err := os.Mkdir(to.dir+"/home", 0o700); err != nil {
		t.Fatal(err)
	}
	src, _ := clone(t, stream.ScanOptions{Root: from.dir, Mounts: []string{"/home"}}, to.dir, 1)
	got := scanned(t, to.dir)
	for _, d := range []string{"/proc", "/run", "/home/tmp"} {
		r := compare.Trees(compare.Tree{d: want[d]}, compare.Tree{d: got[d]}, nil)
		for _, x := range r.Differences {
			t.Error(x)
		}
		if got[d+"/hidden"] != nil || got[d+"/visible"] != nil {
			t.Errorf("%s is not empty", d)
		}
	}
	if w := src.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], `"/over": another file is mounted over it`) {
		t.Errorf("golden's warnings: %q", w)
	}
	unmountAll(t, at("/over"), at("/proc"), at("/run"), at("/home/tmp"), at("/home"))
}

// TestLeftOut: what mkfs makes at the top of a file system stays away, and
// what is only called so comes along.
func TestLeftOut(t *testing.T) {
	need(t, "mkfs.ext4", "chattr")
	if !inNamespace(t) {
		return
	}
	from, to := mkfs(t, "from", "ext3"), mkfs(t, "to", "xfs")
	for _, dir := range []string{"", "/sub"} {
		if err := errors.Join(os.MkdirAll(from.dir+dir+"/lost+found", 0o700), os.WriteFile(from.dir+dir+"/.journal", nil, 0o600),
			os.WriteFile(from.dir+dir+"/aquota.user", []byte("limits"), 0o600)); err != nil {
			t.Fatal(err)
		}
		command(t, from.dir+dir, "chattr", "+i", ".journal")
	}
	clone(t, stream.ScanOptions{Root: from.dir}, to.dir, 1)
	got := scanned(t, to.dir)
	for p, want := range map[string]bool{
		"/lost+found": false, "/.journal": false, "/aquota.user": true, "/sub/lost+found": true, "/sub/.journal": true, "/sub/aquota.user": true,
	} {
		if (got[p] != nil) != want {
			t.Errorf("%s is there: %v, want %v", p, got[p] != nil, want)
		}
	}
}

func unmountAll(t *testing.T, dirs ...string) {
	t.Helper()
	for _, d := range dirs {
		if err := unix.Unmount(d, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", d, err)
		}
	}
}

// TestSwapFile: of a swap file in use, the clone gets the space and the first
// page, and nothing of golden's memory.
func TestSwapFile(t *testing.T) {
	need(t, "mkfs.ext4", "mkswap", "swapon", "swapoff", "filefrag")
	if !inNamespace(t) {
		return
	}
	from := mkfs(t, "from", "ext4")
	swap := from.dir + "/swap file"
	if err := os.WriteFile(swap, bytes.Repeat([]byte("secret, from memory\n"), 400_000), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "/", "mkswap", swap)
	command(t, "/", "sync", "-f", swap)
	if err := unix.Access("/proc/swaps", unix.R_OK); err != nil {
		t.Skipf("this kernel has no swap space: %v", err)
	}
	command(t, "/", "swapon", "-p", "0", swap)
	t.Cleanup(func() { command(t, "/", "swapoff", swap) })
	for _, kind := range []string{"ext4", "ext3", "xfs", "btrfs"} {
		to := mkfs(t, kind, kind)
		src, dst := clone(t, stream.ScanOptions{Root: from.dir}, to.dir, 1)
		if w := append(dst.Warnings(), Warning{}); len(w) > 1 || len(src.Warnings()) > 0 {
			t.Errorf("%s: warnings %+v %q", kind, w, src.Warnings())
		}
		b, err := os.ReadFile(to.dir + "/swap file")
		if err != nil {
			t.Fatal(err)
		}
		if len(b) != 8_000_000 || string(b[4086:4096]) != "SWAPSPACE2" || bytes.Contains(b[4096:], []byte("secret")) {
			t.Errorf("%s: %d bytes, signature %q, or golden's memory in it", kind, len(b), b[4086:4096])
		}
		if err := errors.Join(src.Close(), dst.Close()); err != nil {
			t.Error(err)
		}
		to.remount(t)
		if kind == "btrfs" {
			continue // wants the flag C (btrfs(5)), which golden's has there
		}
		copied := to.dir + "/swap file"
		command(t, "/", "swapon", "-p", "0", copied) // refuses one with a hole
		command(t, "/", "swapoff", copied)
	}
}

// TestEncrypted: directories that fscrypt has locked are named or, where the
// key isn't there, refused, with what to do about it.
func TestEncrypted(t *testing.T) {
	need(t, "mkfs.ext4")
	if !inNamespace(t) {
		return
	}
	from, to := mkfs(t, "from", "ext4-encrypt"), mkfs(t, "to", "ext4")
	id := addKey(t, from.dir)
	for _, d := range []string{"/locked", "/plain"} {
		if err := os.Mkdir(from.dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	encrypt(t, from.dir+"/locked", id)
	for _, p := range []string{"/locked/sub", "/locked/sub/below"} {
		if err := os.Mkdir(from.dir+p, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(from.dir+p+"/file", []byte("readable with the key"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	src, _ := clone(t, stream.ScanOptions{Root: from.dir}, to.dir, 1)
	if w := src.Warnings(); len(w) != 1 || w[0] != "/locked: is encrypted (fscrypt); the clone's copy is not" {
		t.Errorf("warnings %q, want one, of /locked", w)
	}
	if b, err := os.ReadFile(to.dir + "/locked/sub/below/file"); err != nil || string(b) != "readable with the key" {
		t.Errorf("%q, %v", b, err)
	}
	src.Close()
	from.remount(t) // without the key
	_, err := stream.Scan(context.Background(), stream.ScanOptions{Root: from.dir})
	if err == nil || !errors.Is(err, unix.ENOKEY) || !strings.Contains(err.Error(), "unlock it, leave it out (-x) or copy its file system as blocks (-D)") {
		t.Errorf("scan without the key: %v", err)
	}
}
