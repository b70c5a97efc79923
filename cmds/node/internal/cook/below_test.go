package cook

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// The node's own links lead into the node's own file systems only: not to
// stage 2's files, and not to its devices.
func TestForeignLinks(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const mib = 1 << 20
	disk, inner, other := loop(t, 8*mib), loop(t, 8*mib), loop(t, mib)
	mnt, victim := t.TempDir(), t.TempDir()
	command(t, "/", "", "mkfs.ext4", "-q", "-F", disk)
	command(t, "/", "", "mkfs.ext4", "-q", "-F", inner)
	command(t, "/", "", "mount", disk, mnt)
	err := errors.Join(os.Mkdir(mnt+"/run", 0o755), os.Mkdir(mnt+"/var", 0o755), os.Mkdir(mnt+"/dev", 0o755), os.Mkdir(mnt+"/data", 0o755),
		os.Symlink(victim, mnt+"/gone"), os.Symlink("/run", mnt+"/var/run"), os.Symlink("../../../../../../../run", mnt+"/var/up"), os.Symlink("/data", mnt+"/inner"),
		os.Symlink(other, mnt+"/image"), os.Symlink("/run/real", mnt+"/link"), os.WriteFile(mnt+"/run/real", []byte("old and longer"), 0o600),
		unix.Mknod(mnt+"/node", unix.S_IFBLK|0o600, int(unix.Mkdev(7, 99))), unix.Mkfifo(mnt+"/pipe", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	command(t, "/", "", "umount", mnt)
	packed := command(t, "/", "evil", "gzip")
	tarred := tarOf(t, tar.Header{Name: "in", Typeflag: tar.TypeReg})
	one := func(to, packing, archive string) source {
		s := source{wire.Copy{From: "x", To: to, Packing: packing, Archive: archive, Bytes: 4}, []byte("evil")}
		if packing != "" {
			s.data = packed
		} else if archive != "" {
			s.data = tarred
		}
		return s
	}
	mounts := []wire.Mount{{Device: disk, At: "/"}}
	// umount lets the next one look at the disk anew.
	umount := func() { command(t, "/", "", "umount", "--recursive", mnt) }
	for _, to := range []string{"/image", "/node", "/pipe", "/dev", "/gone/x"} {
		for _, s := range []source{one(to, "", ""), one(to, "gz", "")} {
			if err := serve(t, Options{Root: mnt}, mounts, s); err == nil {
				t.Errorf("%s %q: no error", to, s.copy.Packing)
			}
			umount()
		}
	}
	if err := serve(t, Options{Root: mnt}, mounts, one("/gone", "", "tar")); err == nil {
		t.Error("a folder that is a link to nowhere: no error")
	}
	umount()
	err = serve(t, Options{Root: mnt}, append(mounts, wire.Mount{Device: inner, At: "/inner"}),
		one("/var/run/a", "", ""), one("/var/run/b", "gz", ""), one("/var/up/c", "", ""), one("/var/run/d", "", "tar"), one("/link", "gz", ""), one("/inner/e", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"/run/a", "/run/b", "/run/c", "/run/d/in", "/run/real", "/data/e"} {
		if b, err := os.ReadFile(mnt + name); err != nil || string(b) != "evil" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
	var a, b unix.Stat_t
	if err := errors.Join(unix.Stat(mnt+"/data/e", &a), unix.Stat(mnt+"/run/a", &b)); err != nil || a.Dev == b.Dev {
		t.Errorf("what belongs on the inner mount isn't there: %v", err)
	}
	umount()
	for _, name := range []string{"/run/a", "/run/b", "/run/c", "/run/d", "/run/real"} {
		if _, err := os.Lstat(name); err == nil {
			t.Errorf("%s is there", name)
		}
	}
	if b, err := os.ReadFile(other); err != nil || strings.Contains(string(b[:16]), "evil") {
		t.Errorf("a device was written to: %q, %v", b[:16], err)
	}
	if list, err := os.ReadDir(victim); err != nil || len(list) > 0 {
		t.Errorf("outside are %v, %v", list, err)
	}
	// Where the root isn't mounted, a link may lead into memory.
	if err := os.Mkdir(mnt+"/run", 0o755); err != nil {
		t.Fatal(err)
	}
	err = serve(t, Options{Root: mnt}, []wire.Mount{{Device: disk, At: "/boot"}}, one("/boot/var/run/a", "", ""))
	if err == nil || !strings.Contains(err.Error(), "nothing is mounted") {
		t.Errorf("a link into memory: %v", err)
	}
	command(t, "/", "", "umount", mnt+"/boot")
}

// What can't fit below a mount is refused before any of it is written; what
// replaces as much isn't.
func TestRoomBelow(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const mib = 1 << 20
	disk, mnt := loop(t, 16*mib), t.TempDir()
	command(t, "/", "", "mkfs.ext4", "-q", "-F", disk)
	mounts := []wire.Mount{{Device: disk, At: "/"}}
	file := func(to string, size int) source {
		return source{wire.Copy{From: "x", To: to, Bytes: int64(size)}, bytes.Repeat([]byte("x"), size)}
	}
	folder := func(to string, size int64) source {
		return source{wire.Copy{From: "x.tar", To: to, Archive: "tar", Bytes: size}, tarOf(t, tar.Header{Name: "in", Typeflag: tar.TypeReg})}
	}
	for _, c := range []struct {
		what string
		all  []source
		fits bool
	}{
		{"a file", []source{file("/new", 17*mib)}, false},
		{"two files", []source{file("/a", 8*mib), file("/b", 8*mib)}, false},
		{"an archive", []source{folder("/", 17*mib)}, false},
		{"an archive and a file", []source{folder("/sub", 8*mib), file("/b", 8*mib)}, false},
		{"a large file", []source{file("/file", 8*mib)}, true},
		{"it once more", []source{file("/file", 8*mib+1)}, true},
		{"another one", []source{file("/other", 8*mib)}, false},
		{"an archive where something is", []source{folder("/", 8*mib)}, true},
	} {
		err := serve(t, Options{Root: mnt}, mounts, c.all...)
		if (err == nil) != c.fits || err != nil && !strings.Contains(err.Error(), "all that goes to the same place") {
			t.Errorf("%s: %v", c.what, err)
		}
		for _, name := range []string{"/new", "/a", "/b", "/sub/in", "/other"} {
			if _, err := os.Lstat(mnt + name); err == nil {
				t.Errorf("%s: %s was written", c.what, name)
			}
		}
		command(t, "/", "", "umount", mnt)
	}
}
