package cook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/chain"
	"github.com/kamethod/kamethod/golden/wire"
)

func root(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: owners and devices")
	}
}

func command(t testing.TB, dir, stdin, name string, args ...string) []byte {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skipf("needs %s (scripts/setup.sh installs it)", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	var out, said bytes.Buffer
	c.Dir, c.Stdin, c.Stdout, c.Stderr = dir, strings.NewReader(stdin), &out, &said
	if err := c.Run(); err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, &said)
	}
	return out.Bytes()
}

// tree is a folder with all that tar -x keeps for root.
func tree(t testing.TB) string {
	t.Helper()
	root(t)
	dir := t.TempDir()
	old := unix.NsecToTimespec(time.Date(2007, 2, 22, 15, 0, 24, 0, time.UTC).UnixNano())
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.MkdirAll(dir+"/etc/deep/er", 0o755))
	do(os.WriteFile(dir+"/etc/passwd", []byte("root:x:0:0\n"), 0o600))
	do(os.WriteFile(dir+"/empty", nil, 0o644))
	do(os.WriteFile(dir+"/kernel", bytes.Repeat([]byte("vmlinuz "), 200_000), 0o644))
	do(os.WriteFile(dir+"/suid", []byte("#!"), 0o755))
	do(os.Chown(dir+"/suid", 12, 34))
	do(unix.Chmod(dir+"/suid", 0o4751))
	do(os.Link(dir+"/kernel", dir+"/etc/deep/kernel.old"))
	do(os.Symlink("kernel", dir+"/vmlinuz"))
	do(os.Symlink("../../empty", dir+"/etc/deep/up"))
	do(os.Lchown(dir+"/vmlinuz", 5, 6))
	do(unix.Mkfifo(dir+"/pipe", 0o640))
	do(unix.Mknod(dir+"/null", unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	do(unix.Mknod(dir+"/loop", unix.S_IFBLK|0o660, int(unix.Mkdev(7, 99))))
	do(os.Mkdir(dir+"/sealed", 0o755))
	do(os.WriteFile(dir+"/sealed/in", []byte("x"), 0o400))
	do(unix.Chmod(dir+"/sealed", 0o1555))
	do(os.Chown(dir+"/etc/deep", 77, 78))
	do(filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		return errors.Join(err, unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{old, old}, unix.AT_SYMLINK_NOFOLLOW))
	}))
	return dir
}

// look describes every file of a folder.
func look(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	names := map[uint64]string{}
	err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		var st unix.Stat_t
		if err == nil {
			err = unix.Lstat(p, &st)
		}
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		text := fmt.Sprintf("%o %d:%d %d %x", st.Mode, st.Uid, st.Gid, st.Mtim.Sec, st.Rdev)
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFREG:
			b, err := os.ReadFile(p)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" %d %x", len(b), b[:min(len(b), 20)])
			if st.Nlink > 1 {
				if names[st.Ino] == "" {
					names[st.Ino] = rel
				}
				text += " is " + names[st.Ino]
			}
		case unix.S_IFLNK:
			to, _ := os.Readlink(p)
			text += " " + to
		}
		all[rel] = text
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// names lists a folder's files for cpio, folders before what is in them.
func names(t testing.TB, dir string) string {
	return string(command(t, dir, "", "find", ".", "-print"))
}

// source is bytes that golden sends.
type source struct {
	copy wire.Copy
	data []byte
}

// serve sends everything through a sink as the chain would: from several
// goroutines, not in order, and what comes too early once more in the next lap.
func serve(t testing.TB, opt Options, mounts []wire.Mount, all ...source) error {
	t.Helper()
	plan := wire.Plan{Mounts: mounts}
	var streams []wire.Stream
	type at struct {
		stream int
		piece  uint32
	}
	var lap []at
	for i, s := range all {
		st := wire.NewStream(uint16(i), wire.ImageStream, int64(len(s.data)))
		plan.Copies, streams = append(plan.Copies, s.copy), append(streams, st)
		for p := range st.Pieces {
			lap = append(lap, at{i, p})
		}
	}
	opt.Say, opt.Log = func(line string) { t.Log(line) }, slog.New(slog.NewTextHandler(os.Stderr, nil))
	if opt.Memory == 0 {
		opt.Memory = 1 << 20
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sink, err := New(ctx, plan, streams, opt)
	if err != nil {
		return err
	}
	defer sink.Close()
	idle := 0
	for laps := 0; len(lap) > 0; laps++ {
		if laps%2 == 0 { // in order but for neighbours; then anyhow
			for i := 0; i+3 < len(lap); i += 3 {
				lap[i], lap[i+2] = lap[i+2], lap[i]
			}
		} else {
			rand.Shuffle(len(lap), func(i, j int) { lap[i], lap[j] = lap[j], lap[i] })
		}
		var mu sync.Mutex
		var again []at
		var broken error
		work := make(chan at)
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for x := range work {
					s := streams[x.stream]
					off := int64(x.piece) * int64(s.PieceSize)
					err := sink.Put(uint16(x.stream), x.piece, all[x.stream].data[off:off+int64(s.Len(x.piece))])
					mu.Lock()
					if errors.Is(err, chain.ErrNotYet) {
						again = append(again, x)
					} else if err != nil && broken == nil {
						broken = err
					}
					mu.Unlock()
				}
			})
		}
		for _, x := range lap {
			work <- x
		}
		close(work)
		wg.Wait()
		if broken != nil {
			return broken
		}
		if idle++; len(again) < len(lap) {
			idle = 0
		}
		if idle == 3 { // chain's maxIdleLaps
			t.Fatalf("three laps brought nothing: %v", again)
		}
		lap = again
	}
	return sink.Finish(ctx)
}

// Everything that the real programs pack is unpacked to what it was: owners,
// modes, times, links, devices.
func TestCook(t *testing.T) {
	dir := tree(t)
	want := look(t, dir)
	list := names(t, dir)
	packed := map[string][]byte{
		"tar": command(t, dir, "", "tar", "-cf", "-", "."), "tar pax": command(t, dir, "", "tar", "--format=pax", "-cf", "-", "."),
		"tar.gz": command(t, dir, "", "tar", "-czf", "-", "."), "tar.Z": command(t, dir, "", "tar", "-cZf", "-", "."),
		"tar.xz": command(t, dir, "", "tar", "-cJf", "-", "."), "tar.zst": command(t, dir, "", "tar", "--zstd", "-cf", "-", "."),
	}
	for _, f := range []string{"newc", "crc", "odc", "bin"} {
		packed["cpio "+f] = command(t, dir, list, "cpio", "--quiet", "-o", "-H", f)
	}
	for end, args := range map[string][]string{"gz": {"gzip"}, "Z": {"compress", "-c", "-f"}, "zst": {"zstd", "-q"}, "xz": {"xz"}} {
		packed["cpio."+end] = command(t, dir, string(packed["cpio newc"]), args[0], args[1:]...)
	}
	for how, b := range packed {
		t.Run(how, func(t *testing.T) {
			form := archive.FormOf("x." + strings.Fields(how)[0])
			out := filepath.Join(t.TempDir(), "to", "here")
			c := wire.Copy{From: how, To: out, Archive: form.Archive, Packing: form.Packing, Bytes: 10 << 20}
			for range 2 { // the second time over what is there
				if err := serve(t, Options{}, nil, source{c, b}); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, look(t, out)); d != "" {
					t.Errorf("(-want +got)\n%s", d)
				}
			}
		})
	}
}

// Single files, and several things at once; hardly any memory.
func TestFiles(t *testing.T) {
	root(t)
	dir := t.TempDir()
	plain := bytes.Repeat([]byte("0123456789abcde\n"), 300_000)
	noise := make([]byte, 3<<20+5)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	all := []source{
		{wire.Copy{From: "n", To: dir + "/as/it/is", Bytes: int64(len(noise))}, noise},
		{wire.Copy{From: "e", To: dir + "/nothing"}, nil},
	}
	for end, args := range map[string][]string{"gz": {"gzip"}, "Z": {"compress", "-c", "-f"}, "zst": {"zstd", "-q"}, "xz": {"xz"}} {
		all = append(all,
			source{wire.Copy{From: "p", To: dir + "/plain." + end, Packing: end, Bytes: int64(len(plain))}, command(t, dir, string(plain), args[0], args[1:]...)},
			source{wire.Copy{From: "n", To: dir + "/noise." + end, Packing: end, Bytes: int64(len(noise))}, command(t, dir, string(noise), args[0], args[1:]...)})
	}
	if err := serve(t, Options{Memory: 300 << 10}, nil, all...); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		want := noise
		if s.copy.From == "p" {
			want = plain
		} else if s.copy.From == "e" {
			want = nil
		}
		if got, err := os.ReadFile(s.copy.To); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes, %v", s.copy.To, len(got), err)
		}
	}
	bad := all[2]
	for what, change := range map[string]func(s *source){
		"half":    func(s *source) { s.data = s.data[:len(s.data)/2] },
		"longer":  func(s *source) { s.copy.Bytes-- },
		"shorter": func(s *source) { s.copy.Bytes++ },
		"flipped": func(s *source) { s.data = bytes.Clone(s.data); s.data[len(s.data)/2] ^= 1 },
	} {
		s := bad
		s.copy.To = dir + "/bad"
		change(&s)
		if err := serve(t, Options{}, nil, s); err == nil {
			t.Errorf("%s: no error", what)
		}
	}
}

// inNamespace runs the rest of the test in a mount namespace of its own.
func inNamespace(t *testing.T) bool {
	t.Helper()
	root(t)
	const env = "COOK_TEST_NAMESPACE"
	if os.Getenv(env) == t.Name() {
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=5m")
	cmd.Env = append(os.Environ(), env+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Fatalf("in its namespace: %v", err)
	}
	return false
}

func loop(t *testing.T, size int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "disk")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	dev := strings.TrimSpace(string(command(t, "/", "", "losetup", "--find", "--show", image)))
	held, err := os.Open(dev)
	command(t, "/", "", "losetup", "--detach", dev) // it stays until the last one has closed it, also when we are killed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	return dev
}

// A device gets an image as it is, another one a packed image; a third is
// mounted, when its image is there, and gets files.
func TestDevices(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const mib = 1 << 20
	one, two, three := loop(t, 4*mib), loop(t, 8*mib), loop(t, 33*mib)
	noise := make([]byte, 4*mib)
	for i := range noise {
		noise[i] = byte(rand.Uint32())
	}
	image := filepath.Join(t.TempDir(), "ext4")
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 32*mib)); err != nil {
		t.Fatal(err)
	}
	command(t, "/", "", "mkfs.ext4", "-q", "-F", image)
	ext4, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	dir := tree(t)
	mnt := t.TempDir()
	t.Cleanup(func() { _ = unix.Unmount(mnt+"/boot", unix.MNT_DETACH) })
	err = serve(t, Options{Root: mnt}, []wire.Mount{{Device: three, At: "/boot"}},
		source{wire.Copy{From: "boot.tar.Z", To: "/boot/sub", Archive: "tar", Packing: "Z", Bytes: 10 * mib}, command(t, dir, "", "tar", "-cZf", "-", ".")},
		source{wire.Copy{From: "a file", To: "/boot/file", Bytes: 4}, []byte("text")},
		source{wire.Copy{From: "an empty one", To: "/boot/none"}, nil},
		source{wire.Copy{From: "noise", To: one, Bytes: 4 * mib}, noise},
		source{wire.Copy{From: "noise.xz", To: two, Packing: "xz", Bytes: 4 * mib}, command(t, "/", string(noise), "xz")},
		source{wire.Copy{From: "ext4.gz", To: three, Packing: "gz", Bytes: 32 * mib}, command(t, "/", string(ext4), "gzip")},
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, dev := range []string{one, two} {
		if got, err := os.ReadFile(dev); err != nil || !bytes.Equal(got[:4*mib], noise) {
			t.Errorf("%s: %v", dev, err)
		}
	}
	if d := cmp.Diff(look(t, dir), look(t, mnt+"/boot/sub")); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	if got, err := os.ReadFile(mnt + "/boot/file"); err != nil || string(got) != "text" {
		t.Errorf("%q, %v", got, err)
	}
	if out := command(t, "/", "", "findmnt", "-n", "-o", "FSTYPE", mnt+"/boot"); strings.TrimSpace(string(out)) != "ext4" {
		t.Errorf("%q", out)
	}
}

// What can't go where it should is refused before anything is written.
func TestRefused(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	const mib = 1 << 20
	dev := loop(t, 4*mib)
	command(t, "/", "", "mkfs.ext4", "-q", "-F", dev)
	before, err := os.ReadFile(dev)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	data := make([]byte, 4*mib+1)
	good := source{wire.Copy{From: "a", To: dir + "/first", Bytes: 1}, data[:1]}
	for _, c := range []struct {
		to   wire.Copy
		want string
	}{
		{wire.Copy{From: "big.img", To: dev, Bytes: 4*mib + 1}, fmt.Sprintf("%s has %d bytes, big.img has %d", dev, 4*mib, 4*mib+1)},
		{wire.Copy{From: "a", To: "/dev/hdz9", Bytes: 1}, "/dev/hdz9: this machine has no disk hdz, it has "},
		{wire.Copy{From: "a", To: "/dev/null", Bytes: 1}, "is no disk or partition"},
		{wire.Copy{From: "a", To: "/proc/x", Bytes: 1}, "the kernel's own"},
		{wire.Copy{From: "a", To: "/", Archive: "tar"}, "--mount sda1=/"},
		{wire.Copy{From: "a", To: dir, Bytes: 1}, "is no file"},
		{wire.Copy{From: "a", To: dir + "/../x", Bytes: 1}, "want a whole path"},
		{wire.Copy{From: "a", To: dir + "/huge", Bytes: 1 << 60}, "room for"},
		{wire.Copy{From: "a", To: dir + "/x", Packing: "rar", Bytes: 1}, `compression "rar"`},
		{wire.Copy{From: "a", To: dir + "/first", Bytes: 1}, "are both"},
	} {
		err := Check(wire.Plan{Copies: []wire.Copy{good.copy, c.to}}, dir+"/mnt", func(string) {})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v; want %s", c.to, err, c.want)
		}
	}
	command(t, "/", "", "mount", "-o", "ro", dev, dir)
	if err := Check(wire.Plan{Copies: []wire.Copy{{From: "a", To: dev, Bytes: 1}}}, dir+"/mnt", func(string) {}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("mounted: %v", err)
	}
	command(t, "/", "", "umount", dir)
	after, err := os.ReadFile(dev)
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the device is another one: %v", err)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) > 0 {
		t.Errorf("written: %v, %v", list, err)
	}
}
