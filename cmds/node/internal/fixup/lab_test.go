//go:build vmtest

package fixup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// packages is what a golden node has for this test.
const packages = "linux-image-cloud-amd64,systemd-sysv,udev,kmod,grub-pc,openssh-server,initramfs-tools,dbus,zstd"

// lab is a kind of disk that a clone is put on.
type lab struct {
	name    string
	script  string // for sfdisk
	table   layout.Table
	fs      []wire.Filesystem
	modules string // golden's MODULES=
	devices bool   // golden's files name devices, not UUIDs
	unnamed string // a mount point that golden's fstab doesn't have
}

func labs() []lab {
	return []lab{
		{
			name: "mbr", table: layout.MBR, modules: "most",
			script: "label: dos\nstart=2048, size=2662400, type=83, bootable\ntype=82\n",
			fs: []wire.Filesystem{
				{Part: 1, Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/sda1"},
				{Part: 2, Type: "swap", OldUUID: oldSwap, OldDevice: "/dev/sda2"},
			},
		},
		{
			name: "gpt-boot", table: layout.GPT, modules: "dep", unnamed: "/boot",
			script: "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n" +
				"size=409600, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\ntype=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n",
			fs: []wire.Filesystem{
				{Part: 3, Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/sda3"},
				{Part: 2, Type: "ext2", MountPoint: "/boot", OldUUID: oldBoot, OldDevice: "/dev/sda2"},
			},
		},
		{
			name: "logical", table: layout.MBR, modules: "most", devices: true,
			script: "label: dos\nx1 : start=2048, size=2662400, type=83, bootable\nx2 : type=5\nx5 : size=131072, type=82\nx6 : type=83\n",
			fs: []wire.Filesystem{
				{Part: 1, Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/sda1"},
				{Part: 5, Type: "swap", OldUUID: oldSwap, OldDevice: "/dev/sda5"},
				{Part: 6, Type: "ext3", MountPoint: "/home", OldUUID: oldBoot, OldDevice: "/dev/sda6"},
			},
		},
	}
}

// golden is what golden's files call a file system.
func (l lab) golden(f wire.Filesystem) string {
	if l.devices {
		return f.OldDevice
	}
	return "UUID=" + f.OldUUID
}

// swap is the swap area's place in the plan, -1 if there is none.
func (l lab) swap() int {
	return slices.IndexFunc(l.fs, func(f wire.Filesystem) bool { return f.Type == "swap" })
}

// goldenTar makes the golden root once; the name tells what is in it.
func goldenTar(t *testing.T) string {
	dir := os.Getenv("KAMETHOD_CACHE")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", ".cache")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "fixup"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(packages))
	name := filepath.Join(dir, fmt.Sprintf("golden-%x.tar", sum[:8]))
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	part := partFile(t, name)
	sh(t, "mmdebstrap", "--variant=minbase", "--format=tar", "--include="+packages, "bookworm", part)
	if err := os.Rename(part, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// partFile is a name, in a new folder beside what is to be made, for this test
// alone: another run may be making the same.
func partFile(t *testing.T, name string) string {
	dir, err := os.MkdirTemp(filepath.Dir(name), filepath.Base(name)+".*.part")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, filepath.Base(name))
}

func makeDisk(t *testing.T, img, script string) string {
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 1500<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "-q", img)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s", err, out)
	}
	loop := strings.TrimSpace(sh(t, "losetup", "-f", "--show", img))
	t.Cleanup(func() { // after a test that went well both are gone already
		if out, err := exec.Command("losetup", "-n", "-O", "BACK-FILE", loop).Output(); err == nil && strings.Contains(string(out), img) {
			_ = exec.Command("partx", "-d", loop).Run()
			_ = exec.Command("losetup", "-d", loop).Run()
		}
	})
	sh(t, "partx", "-a", loop)
	return loop
}

func makeFilesystems(t *testing.T, loop string, fs []wire.Filesystem) []wire.FilesystemResult {
	var res []wire.FilesystemResult
	for _, f := range fs {
		dev := layout.PartitionName(loop, f.Part)
		if f.Type == "swap" {
			sh(t, "mkswap", dev)
		} else {
			sh(t, "mkfs."+f.Type, "-q", "-F", dev)
		}
		id := strings.TrimSpace(sh(t, "blkid", "-p", "-s", "UUID", "-o", "value", dev))
		res = append(res, wire.FilesystemResult{Device: dev, UUID: id})
	}
	return res
}

// mountAll relies on the plan naming / before what is mounted in it.
func mountAll(t *testing.T, root string, fs []wire.Filesystem, res []wire.FilesystemResult) {
	t.Cleanup(func() { // innermost first; all are gone after a good test
		for range fs {
			_ = unix.Unmount(filepath.Join(root, "boot"), unix.MNT_DETACH)
			_ = unix.Unmount(filepath.Join(root, "home"), unix.MNT_DETACH)
			_ = unix.Unmount(root, unix.MNT_DETACH)
		}
	})
	for i, f := range fs {
		if f.Type == "swap" {
			continue
		}
		on := filepath.Join(root, f.MountPoint)
		if err := os.MkdirAll(on, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mount(res[i].Device, on, f.Type, 0, ""); err != nil {
			t.Fatalf("mount %s: %v", res[i].Device, err)
		}
	}
}

func unmountAll(t *testing.T, root string, fs []wire.Filesystem) {
	for i := len(fs) - 1; i >= 0; i-- {
		if fs[i].Type == "swap" {
			continue
		}
		if err := unix.Unmount(filepath.Join(root, fs[i].MountPoint), 0); err != nil {
			t.Fatalf("unmount %s: %v", fs[i].MountPoint, err)
		}
	}
}

// proofs are what the console must say, and do: "Started" is systemd's word.
func (l lab) proofs() []*regexp.Regexp {
	want := []string{`node007 login:`, `Started.*ssh\.service`}
	for _, f := range l.fs {
		switch f.MountPoint {
		case "":
			want = append(want, `Activated swap`)
		case "/":
		default:
			want = append(want, `Mounted.*`+f.MountPoint[1:]+`\.mount`)
		}
	}
	var res []*regexp.Regexp
	for _, w := range want {
		res = append(res, regexp.MustCompile(w))
	}
	return res
}

// failure is what systemd says of a unit that it couldn't start.
func failure() *regexp.Regexp {
	return regexp.MustCompile(`Timed out waiting for device|Dependency failed|FAILED|Kernel panic|rescue>`)
}

// boot starts the disk, with others or alone, and waits for all proofs on its serial port.
func boot(t *testing.T, img string, proofs []*regexp.Regexp, more ...string) {
	accel := os.Getenv("ACCEL")
	if accel == "" {
		accel = "tcg"
	}
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	defer stop()
	console := filepath.Join(t.TempDir(), "serial.log")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", accel, "-machine", "pc", "-m", "512", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none", "-serial", "file:"+console,
		"-drive", "if=virtio,format=raw,cache=unsafe,file="+img)
	for _, m := range more {
		cmd.Args = append(cmd.Args, "-drive", "if=virtio,format=raw,cache=unsafe,file="+m)
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread() // the signal is for the death of this thread
	defer runtime.UnlockOSThread()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill(); <-done }()
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		b, _ := os.ReadFile(console)
		if m := failure().Find(b); m != nil {
			t.Fatalf("%q on the console:\n%s", m, b)
		}
		missing := slices.DeleteFunc(slices.Clone(proofs), func(r *regexp.Regexp) bool { return r.Match(b) })
		if len(missing) == 0 {
			t.Logf("all of %q after %v", proofs, time.Since(start).Round(time.Second))
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("qemu ended: %v\n%s\n%s", err, out.Bytes(), b)
		case <-ctx.Done():
			t.Fatalf("no %q on the console:\n%s", missing, b)
		case <-tick.C:
		}
	}
}

func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	var out, msg bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %q: %v\n%s%s", name, args, err, out.Bytes(), msg.Bytes())
	}
	return out.String()
}
