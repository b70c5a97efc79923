//go:build vmtest

package fixup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

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
	checkIdentity(t, root, goldenKeys, res, report)
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
	boot(t, img, l.proofs())
}

// makeGolden writes what a golden node that has run for a while has.
func makeGolden(t *testing.T, root string, l lab) {
	fstab := "# golden's\nproc /proc proc defaults 0 0\n/dev/sdb1  /data ext4 defaults 0 2\n"
	for _, f := range l.fs {
		switch {
		case f.Type == "swap":
			fstab += l.golden(f) + " none swap sw 0 0\n"
		case f.MountPoint != l.unnamed:
			fstab += fmt.Sprintf("%s %s %s errors=remount-ro 0 1\n", l.golden(f), f.MountPoint, f.Type)
		}
	}
	resume := "UUID=" + oldSwap
	if i := l.swap(); i >= 0 {
		resume = l.golden(l.fs[i])
	}
	for name, text := range map[string]string{
		"etc/fstab":                         fstab,
		"etc/machine-id":                    oldID + "\n",
		"etc/hostname":                      "golden\n",
		"etc/hosts":                         "127.0.0.1\tlocalhost\n127.0.1.1\tgolden.lan\tgolden\n",
		"etc/default/grub":                  "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"\"\nGRUB_CMDLINE_LINUX=\"console=ttyS0 resume=" + resume + "\"\nGRUB_TERMINAL=serial\n",
		"etc/initramfs-tools/conf.d/resume": "RESUME=" + resume + "\n",
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
	for _, old := range []string{oldRoot, oldBoot, oldSwap, "loop", "/dev/sda"} {
		if strings.Contains(strings.ReplaceAll(menu, "loopback", ""), old) {
			t.Errorf("grub.cfg names %s", old)
		}
	}
	resume, swap := "resume=", l.swap()
	if swap >= 0 {
		resume += "UUID=" + res[swap].UUID
	}
	if got := strings.Contains(menu, resume); got != (swap >= 0) {
		t.Errorf("grub.cfg has %q: %v", resume, got)
	}
}

func checkIdentity(t *testing.T, root string, golden map[string]string, res []wire.FilesystemResult, report Report) {
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
	for _, f := range res {
		if strings.Count(string(fstab), "\nUUID="+f.UUID+" ") != 1 {
			t.Errorf("fstab without %s:\n%s", f.UUID, fstab)
		}
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
	if i := l.swap(); i >= 0 {
		want = "RESUME=UUID=" + res[i].UUID
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
