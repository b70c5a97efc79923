package download

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace is set in the tests' own network and mount namespace: real
// servers listen on their real ports there.
const inNamespace = "KAMETHOD_DOWNLOAD_NS"

func TestMain(m *testing.M) {
	if os.Getuid() != 0 || os.Getenv(inNamespace) != "" {
		if os.Getenv(inNamespace) != "" {
			if err := loopback(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
		}
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			os.Exit(max(exit.ExitCode(), 1))
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func loopback() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// needs skips where the namespace or a program is missing.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("needs root for a network namespace")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s isn't installed", p)
		}
	}
}

// start runs a server until the test ends, and waits until it listens.
func start(t *testing.T, address string, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	})
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			return cmd
		}
		if time.Now().After(end) {
			t.Fatalf("%s doesn't listen on %s: %v", name, address, err)
		}
	}
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// noise is data that doesn't compress, so that an image has a size.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint64(88172645463325252)
	for i := range b { // xorshift64
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

// squash makes a squashfs of some size, as the real image is.
func squash(t *testing.T, size int) string {
	t.Helper()
	needs(t, "mksquashfs")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "init"), noise(size), 0o755); err != nil {
		t.Fatal(err)
	}
	img := filepath.Join(t.TempDir(), "rescue.sqfs")
	run(t, "mksquashfs", dir, img, "-quiet", "-no-progress")
	return img
}

// ext2 makes an image as the manual's clone_script made stage2.img.
func ext2(t *testing.T) string {
	t.Helper()
	needs(t, "mke2fs")
	img := filepath.Join(t.TempDir(), "stage2.img")
	run(t, "mke2fs", "-q", "-t", "ext2", img, "3M")
	return img
}

// tree is DIRECTORY of a server, with an image under a name.
func tree(t *testing.T, name, img string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"cs4", "cs4/install", "cs4/install/stage2"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if img != "" {
		put(t, dir, name, read(t, img))
	}
	return dir
}

func put(t *testing.T, dir, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "cs4", Folder, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// config is the manual's boot line in short.
func config(t *testing.T, method string) Config {
	return Config{
		Method: method, Server: "127.0.0.1", Directory: "/cs4", Path: filepath.Join(t.TempDir(), "rescue.sqfs"),
		Stall: 20 * time.Second, Say: func(line string) { t.Log(line) },
	}
}

// refused wants an error with all these words, and nothing left behind.
func refused(t *testing.T, c Config, words ...string) error {
	t.Helper()
	_, err := Get(t.Context(), c)
	if err == nil {
		t.Fatal("it was taken")
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q isn't in: %v", w, err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(c.Path), "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(c.Path), ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	t.Log(err)
	return err
}

// taken wants the image, byte by byte.
func taken(t *testing.T, c Config, img string, kind Kind, url string) Image {
	t.Helper()
	got, err := Get(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	want := read(t, img)
	if have := read(t, c.Path); string(have) != string(want) {
		t.Errorf("%d bytes came, %d were sent", len(have), len(want))
	}
	if got.Kind != kind || got.URL != url || got.Bytes != int64(len(want)) {
		t.Errorf("got %+v", got)
	}
	return got
}
