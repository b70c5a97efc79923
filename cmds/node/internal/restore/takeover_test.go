package restore

import (
	"context"
	"errors"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/stream"
)

// TestTakeOver restores onto what disk preparation leaves behind: a root file
// system and one mounted below it, each with its lost+found, from a golden
// root that is one file system. Directories that are there get golden's
// attributes, and what is in them inherits nothing.
func TestTakeOver(t *testing.T) {
	need(t, "rsync", "getfacl", "setfacl", "mkfs.ext4", "lsattr")
	if !inNamespace(t) {
		return
	}
	from, _ := ext4(t, "from", "100M")
	to, _ := ext4(t, "to", "100M")
	home, _ := ext4(t, "home", "100M")
	for _, d := range []string{"home/user/.config", "etc", "root", "var/lock"} {
		if err := os.MkdirAll(filepath.Join(from, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for f, mode := range map[string]os.FileMode{"home/user/file": 0o640, "etc/shadow": 0o600, "home/plain": 0o644} {
		if err := os.WriteFile(filepath.Join(from, f), []byte(f), mode); err != nil {
			t.Fatal(err)
		}
	}
	err := errors.Join(os.Chmod(from+"/root", 0o700), os.Chown(from+"/home/user", 1000, 1000), os.Chown(from, 0, 3),
		os.Link(from+"/etc/shadow", from+"/etc/shadow-"),
		os.Link(from+"/etc/shadow", from+"/home/shadow"), os.Symlink("/run/lock", from+"/var/lock2"))
	// What is there: a file system below, odd directories, an old file, a link.
	err = errors.Join(err, os.Mkdir(to+"/home", 0o755))
	if err != nil {
		t.Fatal(err)
	}
	command(t, "/", "mount", "--move", home, to+"/home")
	t.Cleanup(func() { command(t, "/", "umount", to+"/home") })
	err = errors.Join(os.Mkdir(to+"/etc", 0o700), os.Chown(to+"/etc", 12, 34), os.Chmod(to+"/etc", 0o777|os.ModeSetgid),
		os.WriteFile(to+"/etc/shadow-", []byte("old"), 0o666), os.Symlink("/etc", to+"/root"),
		os.WriteFile(to+"/lost+found/kept", nil, 0o600))
	if err != nil {
		t.Fatal(err)
	}
	command(t, to, "setfacl", "-m", "d:u:7:rwx,u:7:rwx", "etc", "home")
	command(t, to, "chattr", "+d", "etc")
	src, dst := clone(t, stream.ScanOptions{Root: from, Mounts: []string{"/", "/home"}}, to, 3)
	// etc/shadow and home/shadow can't be one file any more: no -H.
	out := command(t, "/", "rsync", "-aAXSn", "--numeric-ids", "--checksum", "--delete", "--modify-window=-1", "-i",
		"--exclude=lost+found/", from+"/", to+"/")
	if out != "" {
		t.Errorf("rsync sees differences:\n%s", out)
	}
	if a, b := command(t, from, "lsattr", "-d", "etc"), command(t, to, "lsattr", "-d", "etc"); a != b {
		t.Errorf("lsattr: %q, want %q", b, a)
	}
	if w := dst.Warnings(); len(w) != 1 || w[0].Count != 1 || w[0].First[0] != to+"/home/shadow" {
		t.Errorf("warnings %+v, want one for home/shadow", w)
	}
	if a, b := inode(t, to+"/etc/shadow"), inode(t, to+"/etc/shadow-"); a != b {
		t.Error("etc/shadow- is no hard link")
	}
	for _, p := range []string{"lost+found/kept", "home/lost+found"} {
		if _, err := os.Lstat(filepath.Join(to, p)); err != nil {
			t.Error(err)
		}
	}
	if u := src.Usage(); len(u) != 2 || u[1].Mount != "/home" || u[1].Inodes != 5 || u[1].Bytes != 5*4096 {
		t.Errorf("usage %+v", u)
	}
	// A directory where a file has to go is not removed.
	if err := errors.Join(os.Remove(to+"/home/plain"), os.MkdirAll(to+"/home/plain/precious", 0o755)); err != nil {
		t.Fatal(err)
	}
	dst, err = NewTree(to, src.Streams(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := putAll(src, dst); err == nil || !strings.Contains(err.Error(), "home/plain") {
		t.Errorf("a directory in the way: %v", err)
	}
}

func inode(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

// putAll takes the pieces in order and returns the first error.
func putAll(src *stream.Tree, dst *Tree) error {
	for _, s := range src.Streams() {
		for n := range s.Pieces {
			buf := make([]byte, s.Len(n))
			if err := errors.Join(src.ReadPiece(s.ID, n, buf), dst.Put(s.ID, n, buf)); err != nil {
				return err
			}
		}
	}
	return dst.Finish(context.Background())
}

// TestAgain restores the same tree twice over itself, immutable files and all.
func TestAgain(t *testing.T) {
	need(t, "rsync", "getfacl", "setcap", "mkfs.ext4")
	if !inNamespace(t) {
		return
	}
	from, _ := ext4(t, "from", "400M")
	to, _ := ext4(t, "to", "400M")
	torture(t, from)
	for seed := range uint64(2) {
		clone(t, stream.ScanOptions{Root: from}, to, seed)
		judge(t, from, to)
	}
}

// TestWarnings: tmpfs takes no inode flags such as noatime; that is said, not
// fatal, and everything else is there.
func TestWarnings(t *testing.T) {
	need(t, "rsync", "getfacl", "setcap", "mkfs.ext4")
	if !inNamespace(t) {
		return
	}
	from, _ := ext4(t, "from", "400M")
	torture(t, from)
	to := t.TempDir()
	command(t, "/", "mount", "-t", "tmpfs", "none", to)
	t.Cleanup(func() { command(t, "/", "umount", "-l", to) })
	_, dst := clone(t, stream.ScanOptions{Root: from}, to, 5)
	ws := dst.Warnings()
	if len(ws) == 0 {
		t.Fatal("no warning about flags")
	}
	for _, w := range ws {
		t.Logf("%+v", w)
		if w.Count < 1 || len(w.First) < 1 || !strings.HasPrefix(w.First[0], to+"/") || !strings.Contains(w.What, "not set") {
			t.Errorf("warning %+v", w)
		}
	}
}

// TestUnprivileged: an ordinary user restores what he may.
func TestUnprivileged(t *testing.T) {
	if os.Geteuid() == 0 {
		if _, err := user.Lookup("nobody"); err != nil {
			t.Skip("needs the user nobody")
		}
		asNobody(t)
		return
	}
	root := t.TempDir()
	e := file("file", 0, 4)
	e.UID, e.GID, e.Mode = 5, 6, 0o640
	m := manifest(t, children{0, []stream.Entry{e, {Type: stream.Char, Name: "null", Mode: 0o666, Major: 1, Minor: 3}}})
	tree := open(t, root, m, 4)
	if err := errors.Join(tree.Put(0, 0, m), tree.Put(1, 0, []byte("data")), tree.Finish(context.Background())); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(root + "/file"); err != nil || string(b) != "data" {
		t.Errorf("%q, %v", b, err)
	}
	if ws := tree.Warnings(); len(ws) != 2 {
		t.Errorf("warnings %+v, want one for the owner and one for the device", ws)
	}
}
