//go:build vmtest

package fixup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// packages is what a golden node has for this test.
const packages = "linux-image-cloud-amd64,systemd-sysv,udev,kmod,grub-pc,openssh-server,initramfs-tools,dbus,zstd"

const (
	oldRoot = "11111111-aaaa-4bbb-8ccc-111111111111"
	oldBoot = "22222222-aaaa-4bbb-8ccc-222222222222"
	oldSwap = "33333333-aaaa-4bbb-8ccc-333333333333"
	oldID   = "0123456789abcdef0123456789abcdef"
)

// lab is a kind of disk that a clone is put on.
type lab struct {
	name    string
	script  string // for sfdisk
	table   layout.Table
	fs      []wire.Filesystem
	modules string // golden's MODULES=
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
			name: "gpt-boot", table: layout.GPT, modules: "dep",
			script: "label: gpt\nstart=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649\n" +
				"size=409600, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4\ntype=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n",
			fs: []wire.Filesystem{
				{Part: 3, Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/sda3"},
				{Part: 2, Type: "ext2", MountPoint: "/boot", OldUUID: oldBoot, OldDevice: "/dev/sda2"},
			},
		},
	}
}

// TestCloneBoots restores a real Debian onto a disk, makes it a machine of its
// own, and has it boot to its own log-in prompt.
//
//	golden.tar ──tar x──▶ loop disk ──Run──▶ checks ──▶ QEMU ──serial──▶ "node007 login:"
func TestCloneBoots(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: loop devices, mounts, chroot")
	}
	tarball := goldenTar(t)
	for _, l := range labs() {
		t.Run(l.name, func(t *testing.T) { cloneBoots(t, l, tarball) })
	}
}

func cloneBoots(t *testing.T, l lab, tarball string) {
	img := filepath.Join(t.TempDir(), "disk.img")
	loop := makeDisk(t, img, l.script)
	root := t.TempDir()
	res := makeFilesystems(t, loop, l.fs)
	mountAll(t, root, l.fs, res)
	sh(t, "tar", "-C", root, "-xf", tarball)
	makeGolden(t, root, l)
	goldenKeys := keys(t, root)

	env := Env{
		Root: root,
		Plan: wire.Plan{
			Disks:       []wire.DiskPlan{{Name: "sda", Layout: layout.Disk{Table: l.table}}},
			Filesystems: l.fs,
			Loader:      wire.Loader{Kind: "grub", With: []string{"virtio_net"}},
			Golden:      wire.Golden{Hostname: "golden", MachineID: oldID},
			Identity:    wire.Identity{Hostname: "node%03d"},
		},
		Disks:  wire.DiskResult{Disks: []string{loop}, Filesystems: res},
		Number: 7,
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Minute)
	defer stop()
	start := time.Now()
	report, err := Run(ctx, env)
	report.Print(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("fix-up took %v", time.Since(start).Round(time.Millisecond))
	// The one that makeGolden planted, so that the scan is known to see.
	if len(report.Leftovers) != 1 || !strings.HasPrefix(report.Leftovers[0], "/etc/fstab:1: ") {
		t.Errorf("left over: %q", report.Leftovers)
	}
	checkMenuOf(t, root, l, res)
	checkIdentity(t, root, goldenKeys, report)
	checkInitrd(t, root, l, res)
	checkMountsGone(t, root)
	unmountAll(t, root, l.fs)
	for i, f := range l.fs {
		if f.Type != "swap" {
			sh(t, "fsck."+f.Type, "-fn", res[i].Device)
		}
	}
	sh(t, "partx", "-d", loop)
	sh(t, "losetup", "-d", loop)
	boot(t, img, "node007 login:")
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
	part := name + ".part"
	sh(t, "mmdebstrap", "--variant=minbase", "--format=tar", "--include="+packages, "bookworm", part)
	if err := os.Rename(part, name); err != nil {
		t.Fatal(err)
	}
	return name
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
		dev := partDevice(loop, f.Part)
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

// makeGolden writes what a golden node that has run for a while has.
func makeGolden(t *testing.T, root string, l lab) {
	fstab := "# golden's\nproc /proc proc defaults 0 0\n/dev/sdb1  /data ext4 defaults 0 2\n"
	for _, f := range l.fs {
		if f.Type == "swap" {
			fstab += fmt.Sprintf("UUID=%s none swap sw 0 0\n", f.OldUUID)
		} else {
			fstab += fmt.Sprintf("UUID=%s %s %s errors=remount-ro 0 1\n", f.OldUUID, f.MountPoint, f.Type)
		}
	}
	for name, text := range map[string]string{
		"etc/fstab":                         fstab,
		"etc/machine-id":                    oldID + "\n",
		"etc/hostname":                      "golden\n",
		"etc/hosts":                         "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.lan\tgolden\n",
		"etc/default/grub":                  "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=UUID=" + oldSwap + "\"\nGRUB_TERMINAL=serial\n",
		"etc/initramfs-tools/conf.d/resume": "RESUME=UUID=" + oldSwap + "\n",
		"boot/grub/device.map":              "(hd0)\t/dev/disk/by-id/ata-GOLDEN_1\n",
		"boot/grub/grub.cfg":                "search --fs-uuid " + oldRoot + "\n",
		"var/lib/systemd/random-seed":       "seed",
		"var/lib/dhcp/dhclient.eth0.leases": "lease { fixed-address 10.0.0.9; }\n",
	} {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(root, "etc/initramfs-tools/initramfs.conf")
	b, err := os.ReadFile(conf)
	if err != nil {
		t.Fatal(err)
	}
	b = regexp.MustCompile(`(?m)^MODULES=.*$`).ReplaceAll(b, []byte("MODULES="+l.modules))
	if err := os.WriteFile(conf, b, 0o644); err != nil {
		t.Fatal(err)
	}
}

func keys(t *testing.T, root string) map[string]string {
	m := map[string]string{}
	names, _ := filepath.Glob(filepath.Join(root, "etc/ssh/ssh_host_*"))
	for _, n := range names {
		b, err := os.ReadFile(n)
		if err != nil {
			t.Fatal(err)
		}
		m[filepath.Base(n)] = string(b)
	}
	if len(m) < 6 {
		t.Fatalf("only %d host key files", len(m))
	}
	return m
}

func checkMenuOf(t *testing.T, root string, l lab, res []wire.FilesystemResult) {
	b, err := os.ReadFile(filepath.Join(root, "boot/grub/grub.cfg"))
	if err != nil {
		t.Fatal(err)
	}
	menu := string(b)
	if !strings.Contains(menu, "root=UUID="+res[0].UUID) || !strings.Contains(menu, "console=ttyS0") {
		t.Errorf("grub.cfg without root=UUID=%s or console=ttyS0:\n%s", res[0].UUID, menu)
	}
	for _, old := range []string{oldRoot, oldBoot, oldSwap, "loop"} {
		if strings.Contains(strings.ReplaceAll(menu, "loopback", ""), old) {
			t.Errorf("grub.cfg names %s", old)
		}
	}
	resume := "resume=UUID="
	if l.name == "mbr" {
		resume += res[1].UUID
	}
	if got := strings.Contains(menu, resume); got != (l.name == "mbr") {
		t.Errorf("grub.cfg has %q: %v", resume, got)
	}
}

func checkIdentity(t *testing.T, root string, golden map[string]string, report Report) {
	for name, text := range keys(t, root) {
		if golden[name] == text {
			t.Errorf("%s is golden's", name)
		}
		if fi, err := os.Stat(filepath.Join(root, "etc/ssh", name)); err != nil || (!strings.HasSuffix(name, ".pub") && fi.Mode() != 0o600) {
			t.Errorf("%s: mode %v, %v", name, fi.Mode(), err)
		}
	}
	if len(report.HostKeys) != len(golden)/2 {
		t.Errorf("%d host keys reported, %d made", len(report.HostKeys), len(golden)/2)
	}
	id, _ := os.ReadFile(filepath.Join(root, "etc/machine-id"))
	if !regexp.MustCompile(`^[0-9a-f]{32}\n$`).Match(id) || strings.HasPrefix(string(id), oldID) {
		t.Errorf("machine-id %q", id)
	}
	for _, gone := range []string{"var/lib/systemd/random-seed", "var/lib/dhcp/dhclient.eth0.leases", "boot/grub/device.map"} {
		if _, err := os.Lstat(filepath.Join(root, gone)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", gone)
		}
	}
	fstab, _ := os.ReadFile(filepath.Join(root, "etc/fstab"))
	if !strings.Contains(string(fstab), notCloned+"/dev/sdb1") {
		t.Errorf("fstab:\n%s", fstab)
	}
}

// checkInitrd looks into the new initrd: the module asked for, drivers for any
// hardware, and the new swap.
func checkInitrd(t *testing.T, root string, l lab, res []wire.FilesystemResult) {
	names, _ := filepath.Glob(filepath.Join(root, "boot/initrd.img-*"))
	if len(names) != 1 {
		t.Fatalf("initrds: %q", names)
	}
	list := sh(t, "chroot", root, "lsinitramfs", "/boot/"+filepath.Base(names[0]))
	for _, m := range []string{"/virtio_net.ko", "/virtio_blk.ko", "/ata_piix.ko"} {
		if !strings.Contains(list, m) {
			t.Errorf("initrd without %s", m)
		}
	}
	sh(t, "chroot", root, "unmkinitramfs", "/boot/"+filepath.Base(names[0]), "/var/tmp/initrd")
	defer os.RemoveAll(filepath.Join(root, "var/tmp/initrd"))
	var resume []byte
	for _, dir := range []string{"", "main"} { // with microcode in front it is main
		b, err := os.ReadFile(filepath.Join(root, "var/tmp/initrd", dir, "conf/conf.d/resume"))
		if err == nil {
			resume = b
		}
	}
	want := "RESUME=none"
	if l.fs[1].Type == "swap" {
		want = "RESUME=UUID=" + res[1].UUID
	}
	if got := strings.TrimSpace(string(resume)); got != want {
		t.Errorf("the initrd has %q, want %q", got, want)
	}
}

func checkMountsGone(t *testing.T, root string) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run"} {
		if strings.Contains(string(b), " "+root+dir+" ") {
			t.Errorf("%s is still mounted", dir)
		}
	}
}

// boot starts the disk alone and waits for a line on its serial port.
func boot(t *testing.T, img, want string) {
	accel := os.Getenv("ACCEL")
	if accel == "" {
		accel = "tcg"
	}
	ctx, stop := context.WithTimeout(t.Context(), 6*time.Minute)
	defer stop()
	console := filepath.Join(t.TempDir(), "serial.log")
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64", "-accel", accel, "-machine", "pc", "-m", "512", "-smp", "1",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none", "-serial", "file:"+console,
		"-drive", "if=virtio,format=raw,cache=unsafe,file="+img)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	start := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	defer func() { _ = cmd.Process.Kill(); <-done }()
	for tick := time.NewTicker(500 * time.Millisecond); ; {
		b, _ := os.ReadFile(console)
		if bytes.Contains(b, []byte(want)) {
			t.Logf("%q after %v", want, time.Since(start).Round(time.Second))
			if bytes.Contains(b, []byte("Timed out waiting for device")) || bytes.Contains(b, []byte("Dependency failed")) {
				t.Errorf("it waited for a device that isn't there:\n%s", b)
			}
			return
		}
		select {
		case err := <-done:
			done <- err
			t.Fatalf("qemu ended: %v\n%s\n%s", err, out.Bytes(), b)
		case <-ctx.Done():
			t.Fatalf("no %q on the console:\n%s", want, b)
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
