package fixup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/xattr"
)

// plant makes files from "path" to contents; "path -> target" is a link.
func plant(t testing.TB, root string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		name, target, isLink := strings.Cut(name, " -> ")
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		switch {
		case isLink:
			err = os.Symlink(target, p)
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(p, 0o755)
		default:
			err = os.WriteFile(p, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func newTree(t testing.TB, root string) *tree {
	t.Helper()
	tr, err := openTree(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.close() })
	return tr
}

// TestTreeStaysInside: the node has the same names as the clone, and no link
// of the clone leads to them.
func TestTreeStaysInside(t *testing.T) {
	node := t.TempDir()
	root := filepath.Join(node, "mnt/disk")
	plant(t, node, map[string]string{"etc/secret": "node's", "outside": "node's", "mnt/beside": "node's"})
	plant(t, root, map[string]string{
		"etc/secret":                            "clone's",
		"abs -> /etc/secret":                    "",
		"up -> ../../../../../../../etc/secret": "",
		"etc/beside -> ../../beside":            "",
		"etc/dir -> /":                          "",
		"etc/new -> /fresh/file":                "",
		"fresh/":                                "",
		"loop -> /loop":                         "",
		"node -> " + node + "/outside":          "",
	})
	tr := newTree(t, root)
	for name, want := range map[string]string{
		"/etc/secret": "clone's", "/abs": "clone's", "/up": "clone's", "/etc/dir/etc/dir/abs": "clone's", "/../../etc/../../etc/secret": "clone's",
	} {
		if b, err := tr.read(name); err != nil || string(b) != want {
			t.Errorf("read %s: %q, %v", name, b, err)
		}
	}
	for _, name := range []string{"/etc/beside", "/node", "/etc/new"} {
		if b, err := tr.read(name); !errors.Is(err, errAbsent) {
			t.Errorf("read %s: %q, %v, want it absent", name, b, err)
		}
	}
	if _, err := tr.read("/loop"); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("read /loop: %v", err)
	}
	for _, name := range []string{"/abs", "/up", "/etc/new"} {
		if err := tr.write(name, []byte("written"), 0o600); err != nil {
			t.Errorf("write %s: %v", name, err)
		}
		if !tr.isLink(name) {
			t.Errorf("%s was a link and isn't any more", name)
		}
	}
	if err := tr.write("/node", nil, 0o600); err == nil {
		t.Error("wrote through a link into a folder that isn't there")
	}
	for name, want := range map[string]string{
		"etc/secret": "node's", "outside": "node's", "mnt/beside": "node's", "mnt/disk/etc/secret": "written", "mnt/disk/fresh/file": "written",
	} {
		if b, err := os.ReadFile(filepath.Join(node, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	if err := tr.remove("/abs"); err != nil {
		t.Fatal(err)
	}
	if !tr.isFile("/etc/secret") || tr.isLink("/abs") {
		t.Error("remove took what the link leads to, or left the link")
	}
}

func TestTreeReadsFilesOnly(t *testing.T) {
	root := t.TempDir()
	plant(t, root, map[string]string{"dir/": "", "large": ""})
	if err := syscall.Mkfifo(filepath.Join(root, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(root, "large"), maxText+1); err != nil {
		t.Fatal(err)
	}
	tr := newTree(t, root)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, name := range []string{"/fifo", "/dir", "/large", "/none"} {
			if _, err := tr.read(name); err == nil {
				t.Errorf("read %s: no error", name)
			}
		}
	}()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatal("hangs at a fifo")
	}
	if err := tr.write("/dir", []byte("x"), 0o600); err == nil {
		t.Error("wrote over a folder")
	}
}

func TestTreeWriteKeepsOwnerModeAttributes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a file's owner is root's to change")
	}
	root := t.TempDir()
	plant(t, root, map[string]string{"f": "old"})
	p := filepath.Join(root, "f")
	for _, err := range []error{
		os.Chown(p, 1234, 4321), os.Chmod(p, 0o640|os.ModeSetgid), xattr.Set(p, "user.k", []byte("v")), xattr.Set(p, "trusted.k", []byte("w")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := newTree(t, root).write("/f", []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	fi, err := os.Stat(p)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	if st.Uid != 1234 || st.Gid != 4321 || fi.Mode() != 0o640|os.ModeSetgid {
		t.Errorf("%d:%d %v", st.Uid, st.Gid, fi.Mode())
	}
	for k, want := range map[string]string{"user.k": "v", "trusted.k": "w"} {
		if v, err := xattr.Get(p, k); err != nil || string(v) != want {
			t.Errorf("%s: %q, %v", k, v, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(root, ".*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
