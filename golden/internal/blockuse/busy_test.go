package blockuse

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// inNamespace runs the rest of the test in a mount namespace of its own: the
// test binary starts itself once more. It says whether this is that run.
func inNamespace(t *testing.T) bool {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: mounts a loop device")
	}
	const env = "BLOCKUSE_TEST_NAMESPACE"
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

// TestBusy: a device that is mounted is refused while it may be written to,
// and taken while it may not; a write in between is noticed.
func TestBusy(t *testing.T) {
	need(t, "mkfs.ext4", "losetup", "partclone.extfs", "e2fsck")
	if !inNamespace(t) {
		return
	}
	image := sparse(t, 64*mib)
	command(t, "mkfs.ext4", "-q", "-F", image)
	dev := command(t, "losetup", "--find", "--show", image)
	held, err := os.Open(dev)
	command(t, "losetup", "--detach", dev) // it stays until the last one has closed it, also when we are killed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	dir := filepath.Join(t.TempDir(), "mnt")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	look := func() (*Use, error) { return Look(t.Context(), Partition{Path: dev}) }
	if _, err := look(); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", dev, dir)
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	if _, err := look(); err == nil || !strings.Contains(err.Error(), "mounted on "+dir) || !strings.Contains(err.Error(), "unmount it") {
		t.Errorf("mounted: %v", err)
	}
	if err := os.WriteFile(dir+"/file", noise(mib), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "remount,ro", dir)
	u, err := look()
	if err != nil || u.Map.How != wire.BlocksUsed {
		t.Fatalf("mounted read-only: %+v, %v", u, err)
	}
	clone := copyUsed(t, u, dev, 0x5a)
	command(t, "e2fsck", "-f", "-n", clone)
	b, err := stream.OpenBlocks(0, dev, "sda1", u.Map)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if torn := b.Torn(); len(torn) > 0 {
		t.Errorf("torn though nothing wrote: %q", torn)
	}
	again, err := stream.OpenBlocks(0, dev, "sda1", u.Map)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.Digest() != b.Digest() {
		t.Error("the digest is another one though nothing wrote")
	}
	command(t, "mount", "-o", "remount,rw", dir)
	if err := os.WriteFile(dir+"/more", noise(mib), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, "sync", "-f", dir)
	if torn := b.Torn(); len(torn) != 1 || !strings.Contains(torn[0], "was written to") {
		t.Errorf("torn %q", torn)
	}
}
