package diskless

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// needs says which programs of this machine a test runs; it mounts, too.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: it mounts")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s isn't installed", p)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

func put(t *testing.T, root, name, text string, mode os.FileMode) {
	t.Helper()
	p := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

// tree is a root with this machine's ssh-keygen, and traces of the machine
// that it comes from.
func tree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	put(t, root, "lib/systemd/systemd", "#!/bin/true\n", 0o755)
	put(t, root, "etc/hostname", "golden\n", 0o644)
	put(t, root, "etc/machine-id", strings.Repeat("1", 32)+"\n", 0o444)
	put(t, root, "etc/fstab", "/dev/sda1 / ext4 defaults 0 1\ntmpfs /tmp tmpfs defaults 0 0\n", 0o644)
	put(t, root, "etc/ssh/ssh_host_rsa_key", "golden's key\n", 0o600)
	put(t, root, "etc/ssh/sshd_config", "", 0o644)
	put(t, root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644)
	put(t, root, "outside", "", 0o644)
	for to, name := range map[string]string{"/lib/systemd/systemd": "sbin/init", "/run/systemd/resolve/stub-resolv.conf": "etc/resolv.conf", "../../../../outside": "etc/node_id"} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(to, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(root, "usr/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	keygen, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen isn't installed")
	}
	out, err := exec.Command("ldd", keygen).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range append(strings.Fields(string(out)), keygen) {
		if !filepath.IsAbs(w) {
			continue
		}
		b, err := os.ReadFile(w)
		if err != nil {
			t.Fatal(err)
		}
		to := w
		if w == keygen {
			to = "/usr/bin/ssh-keygen"
		}
		put(t, root, to, string(b), 0o755)
	}
	return root
}

// give puts all that a source has into a sink, as the chain does.
func give(t *testing.T, src chain.Source, to chain.Sink) {
	t.Helper()
	for _, s := range src.Streams() {
		for n := range s.Pieces {
			b := make([]byte, s.Len(n))
			if err := src.ReadPiece(s.ID, n, b); err != nil {
				t.Fatal(err)
			}
			if err := to.Put(s.ID, n, b); err != nil {
				t.Fatalf("piece %d of stream %d: %v", n, s.ID, err)
			}
		}
	}
}

// source opens what golden would send.
func source(t *testing.T, path string) chain.Source {
	t.Helper()
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !st.IsDir() {
		src, err := stream.OpenImage(0, path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { src.Close() })
		return src
	}
	src, err := stream.Scan(t.Context(), stream.ScanOptions{Root: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { src.Close() })
	return src
}

// opened is a Root into which all was received.
func opened(t *testing.T, path string) *Root {
	t.Helper()
	top := t.TempDir()
	src := source(t, path)
	r, err := Open(Config{
		Streams: src.Streams(), NewRoot: filepath.Join(top, "newroot"), Dir: filepath.Join(top, "run/kamethod"),
		Load: func(string) error { return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Close()
		for range 4 { // what is under the folders, the last first
			unix.Unmount(r.NewRoot, unix.MNT_DETACH)
			for _, d := range []string{"rw", "lower", "image"} {
				unix.Unmount(filepath.Join(r.Dir, d), unix.MNT_DETACH)
			}
		}
	})
	give(t, src, r.Sink())
	if err := r.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func read(t *testing.T, root, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Each sort of root is received, can be written to, and becomes a machine of
// its own; two that come of one image share nothing that tells machines apart.
func TestRoots(t *testing.T) {
	needs(t, "mksquashfs", "mke2fs", "ldd", "ssh-keygen")
	dir := tree(t)
	top := t.TempDir()
	sqfs, ext4, ext2 := filepath.Join(top, "a.sqfs"), filepath.Join(top, "a.img"), filepath.Join(top, "b.img")
	run(t, "mksquashfs", dir, sqfs, "-quiet", "-no-progress", "-comp", "zstd")
	run(t, "mke2fs", "-q", "-t", "ext4", "-d", dir, ext4, "64M")
	run(t, "mke2fs", "-q", "-t", "ext2", "-d", dir, ext2, "64M")
	seen := map[string]string{}
	for kind, path := range map[string]string{"a squashfs": sqfs, "ext4": ext4, "ext2": ext2, "a tree": dir} {
		t.Run(kind, func(t *testing.T) {
			r := opened(t, path)
			runDir := t.TempDir()
			put(t, runDir, "resolv", "nameserver 10.0.1.1\n", 0o644)
			s := self()
			s.RunDir, s.ResolvConf, s.Say = runDir, filepath.Join(runDir, "resolv"), t.Logf
			s.Files = []wire.RunFile{{Path: "/etc/kerrighed_nodes", Mode: 0o644, Content: []byte("session=1\n")}, {Path: "/ka/go", Mode: 0o755, Content: []byte("#!/bin/sh\n")}}
			keys, err := r.Become(t.Context(), s)
			if err != nil {
				t.Fatal(err)
			}
			if init, err := Init(r.NewRoot); err != nil || init != "/sbin/init" {
				t.Errorf("init is %q, %v", init, err)
			}
			for name, want := range map[string]string{
				"etc/hostname": "node31\n", "etc/node_id": "31\n", "etc/resolv.conf": "nameserver 10.0.1.1\n", "etc/kerrighed_nodes": "session=1\n",
				"etc/fstab": "# diskless: /dev/sda1 / ext4 defaults 0 1\ntmpfs /tmp tmpfs defaults 0 0\n", "outside": "",
			} {
				if got := read(t, r.NewRoot, name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if st, err := os.Stat(filepath.Join(r.NewRoot, "ka/go")); err != nil || st.Mode().Perm() != 0o755 {
				t.Errorf("ka/go: %v, %v", st, err)
			}
			if _, err := os.Lstat(filepath.Join(r.NewRoot, "etc/ssh/ssh_host_rsa_key")); err == nil {
				t.Error("golden's host key is still there")
			}
			if len(keys) != 2 || !strings.HasPrefix(keys[0], "ssh-ed25519 ") || !strings.HasSuffix(keys[0], " root@node31") {
				t.Errorf("host keys %q", keys)
			}
			id := read(t, r.NewRoot, "etc/machine-id")
			if len(id) != 33 || strings.HasPrefix(id, "1111") {
				t.Errorf("machine-id %q", id)
			}
			for _, x := range append(keys, id) {
				if other := seen[x]; other != "" {
					t.Errorf("%s has the same as %s: %s", kind, other, x)
				}
				seen[x] = kind
			}
			if got := read(t, runDir, "systemd/network/05-kamethod.network"); !strings.Contains(got, "DHCP=ipv4") {
				t.Errorf("network:\n%s", got)
			}
			put(t, r.NewRoot, "written", "x", 0o644)
			for line := range strings.Lines(read(t, "/proc/self", "mountinfo")) {
				at := strings.Fields(line)[4] // the mount point, proc_pid_mountinfo(5)
				if strings.HasPrefix(at, r.Dir) || at == filepath.Join(r.NewRoot, "dev") {
					t.Errorf("a mount is left: %s", line)
				}
			}
		})
	}
	if read(t, dir, "etc/hostname") != "golden\n" {
		t.Error("golden's folder was written to")
	}
}

// What is not to be run, or has no room, is refused with words that say so.
func TestRefusals(t *testing.T) {
	needs(t)
	top := t.TempDir()
	big := filepath.Join(top, "big")
	put(t, top, "big", strings.Repeat("x", 3<<20), 0o600)
	src := source(t, big)
	_, err := Open(Config{Streams: src.Streams(), NewRoot: filepath.Join(top, "n"), Dir: filepath.Join(top, "d"), Free: 50 << 20})
	if err == nil || !strings.Contains(err.Error(), "memory is too small: what golden sends needs 3 MiB there") {
		t.Errorf("too little memory: %v", err)
	}
	if _, err := os.Stat(filepath.Join(top, "n")); err == nil {
		t.Error("something was made before it was known that there is room")
	}
	r, err := Open(Config{Streams: src.Streams(), NewRoot: filepath.Join(top, "n"), Dir: filepath.Join(top, "d")})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(filepath.Join(top, "d/image"), unix.MNT_DETACH)
	defer r.Close()
	give(t, src, r.Sink())
	if err := r.Finish(t.Context()); err == nil || !strings.Contains(err.Error(), "neither a squashfs nor an ext") {
		t.Errorf("a file of x: %v", err)
	}
	if _, err := Open(Config{Streams: []wire.Stream{{Kind: wire.BlockMapStream}}, Free: 1 << 30}); err == nil {
		t.Error("blocks of a disk are run")
	}
	if _, err := Init(top); err == nil || !strings.Contains(err.Error(), "no init") {
		t.Errorf("a root without an init: %v", err)
	}
	if err := os.MkdirAll(filepath.Join(top, "sbin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/bin/true", filepath.Join(top, "sbin/init")); err != nil {
		t.Fatal(err)
	}
	if got, err := Init(top); err == nil {
		t.Errorf("a link that ends nowhere in the new root is its init: %s", got)
	}
}

// Names that golden gives stay inside, whatever links the tree has.
func TestInside(t *testing.T) {
	needs(t)
	top := t.TempDir()
	root := filepath.Join(top, "root")
	put(t, root, "etc/x", "", 0o644)
	put(t, top, "victim/passwd", "mine\n", 0o644)
	for name, to := range map[string]string{"abs": filepath.Join(top, "victim"), "up": "../victim", "file": "../victim/passwd"} {
		if err := os.Symlink(to, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	in, err := openInside(root)
	if err != nil {
		t.Fatal(err)
	}
	defer in.close()
	for _, name := range []string{"/abs/passwd", "/up/passwd", "/file", "/etc/../../victim/passwd", "etc/x", "/", "", "/etc/", "/a\x00b"} {
		err := in.write(name, []byte("theirs\n"), 0o644)
		t.Logf("%q: %v", name, err)
	}
	if got := read(t, top, "victim/passwd"); got != "mine\n" {
		t.Errorf("a file outside was written: %q", got)
	}
	if err := in.write("/new/folder/file", []byte("x"), 0o600); err != nil || read(t, root, "new/folder/file") != "x" {
		t.Error(err)
	}
}
