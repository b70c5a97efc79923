//go:build vmtest

package fixup

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// toolPackages are a golden node's that isn't made as Debian's installer makes
// it: dracut's initrd, and boot loaders of other families. Those of lateTools
// look for a boot partition and its menu when a kernel is installed, and come
// after it.
const (
	toolPackages = "linux-image-cloud-amd64,systemd-sysv,udev,kmod,dbus,zstd,dracut,extlinux,syslinux-common,efibootmgr,openssh-server"
	lateTools    = "grub-legacy systemd-boot"
)

// toolsTar makes that root once.
func toolsTar(t *testing.T) string {
	dir := os.Getenv("KAMETHOD_CACHE")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "..", ".cache")
	}
	dir, err := filepath.Abs(filepath.Join(dir, "fixup"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte(toolPackages + lateTools))
	name := filepath.Join(dir, fmt.Sprintf("tools-%x.tar", sum[:8]))
	if _, err := os.Stat(name); err == nil {
		return name
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	part := partFile(t, name)
	sh(t, "mmdebstrap", "--variant=minbase", "--format=tar", "--include="+toolPackages,
		`--customize-hook=chroot "$1" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends `+lateTools, "bookworm", part)
	if err := os.Rename(part, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// tool is a boot loader with the disk that it can read.
type tool struct {
	name, script string
	fs           []wire.Filesystem
	mkfs         map[int][]string // by partition: what an old loader can read
	menu, text   string           // golden's; VERSION is the kernel's
}

func tools() []tool {
	return []tool{
		{
			name: "extlinux", script: "label: dos\nstart=2048, size=2662400, type=83\ntype=82\n",
			fs: []wire.Filesystem{
				{Part: 1, Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/sda1"},
				{Part: 2, Type: "swap", OldUUID: oldSwap, OldDevice: "/dev/sda2"},
			},
			mkfs: map[int][]string{1: {"-O", "^64bit,^metadata_csum"}},
			menu: "boot/extlinux/extlinux.conf",
			text: "# golden's\nSERIAL 0\nDEFAULT linux\nLABEL linux\n  LINUX /boot/vmlinuz-VERSION\n  INITRD /boot/initrd.img-VERSION\n  APPEND root=UUID=" + oldRoot + " ro console=ttyS0 resume=/dev/sda2\n",
		},
		{
			name: "grub-legacy", script: "label: dos\nstart=2048, size=409600, type=83, bootable\ntype=83\n",
			fs: []wire.Filesystem{
				{Part: 2, Type: "ext4", MountPoint: "/", OldUUID: oldRoot, OldDevice: "/dev/sda2"},
				{Part: 1, Type: "ext2", MountPoint: "/boot", OldUUID: oldBoot, OldDevice: "/dev/sda1"},
			},
			mkfs: map[int][]string{1: {"-I", "128"}},
			menu: "boot/grub/menu.lst",
			text: "# golden's\nserial --unit=0\ntimeout 0\ndefault 0\ntitle linux\nroot (hd0,0)\nkernel /vmlinuz-VERSION root=/dev/sda2 ro console=ttyS0\ninitrd /initrd.img-VERSION\n",
		},
	}
}

// TestToolsBoot boots clones by boot loaders of other families, each installed
// by the real program, with an initrd by the real dracut.
func TestToolsBoot(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: loop devices, mounts, chroot")
	}
	tarball := toolsTar(t)
	for _, l := range tools() {
		t.Run(l.name, func(t *testing.T) { l.boots(t, tarball) })
	}
}

func (l tool) boots(t *testing.T, tarball string) {
	img, root := filepath.Join(t.TempDir(), "disk.img"), t.TempDir()
	loop := makeDisk(t, img, l.script)
	var res []wire.FilesystemResult
	for _, f := range l.fs {
		dev := layout.PartitionName(loop, f.Part)
		if f.Type == "swap" {
			sh(t, "mkswap", dev)
		} else {
			sh(t, "mkfs."+f.Type, append(append([]string{"-q", "-F"}, l.mkfs[f.Part]...), dev)...)
		}
		res = append(res, wire.FilesystemResult{Device: dev, UUID: strings.TrimSpace(sh(t, "blkid", "-p", "-s", "UUID", "-o", "value", dev))})
	}
	mountAll(t, root, l.fs, res)
	sh(t, "tar", "-C", root, "-xf", tarball)
	version := l.golden(t, root)
	report, err := Run(t.Context(), Env{
		Root: root, Number: 7, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Plan: wire.Plan{
			Disks: []wire.DiskPlan{{Name: "sda", Layout: layout.Disk{Table: layout.MBR}}}, Filesystems: l.fs,
			Loader: wire.Loader{Kind: l.name, With: []string{"virtio_blk"}},
			Golden: wire.Golden{Hostname: "golden", MachineID: oldID}, Identity: wire.Identity{Hostname: "node%03d"},
		},
		Disks: wire.DiskResult{Disks: []string{loop}, Filesystems: res},
	})
	report.Print(t.Output())
	if err != nil {
		t.Fatal(err)
	}
	list := sh(t, "chroot", root, "lsinitrd", "/boot/initrd.img-"+version)
	for _, m := range []string{"/virtio_blk.ko", "/ata_piix.ko"} {
		if !strings.Contains(list, m) {
			t.Errorf("initrd without %s", m)
		}
	}
	checkMountsGone(t, root)
	unmountAll(t, root, l.fs)
	sh(t, "partx", "-d", loop)
	sh(t, "losetup", "-d", loop)
	boot(t, img, []*regexp.Regexp{regexp.MustCompile(`node007 login:`), regexp.MustCompile(`Started.*ssh\.service`)})
}

// golden makes the root that of a golden node with this loader.
func (l tool) golden(t *testing.T, root string) (version string) {
	names, _ := filepath.Glob(filepath.Join(root, "boot/vmlinuz-*"))
	if len(names) != 1 {
		t.Fatalf("kernels: %q", names)
	}
	version = strings.TrimPrefix(filepath.Base(names[0]), "vmlinuz-")
	fstab := ""
	for _, f := range l.fs {
		at := f.MountPoint
		if at == "" {
			at = "none"
		}
		fstab += f.OldDevice + " " + at + " " + f.Type + " defaults 0 0\n"
	}
	files := map[string]string{
		"etc/fstab": fstab, "etc/machine-id": oldID + "\n", "etc/hostname": "golden\n",
		l.menu:                       strings.ReplaceAll(l.text, "VERSION", version),
		"boot/initrd.img-" + version: "golden's",
	}
	for name, text := range files {
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return version
}

// TestEFITools has the real bootctl install systemd-boot, and the real
// efibootmgr write the entry, into a folder in place of a firmware's variables.
func TestEFITools(t *testing.T) {
	if os.Getuid() != 0 {
		t.Fatal("needs root: loop devices, chroot")
	}
	root := t.TempDir()
	sh(t, "tar", "-C", root, "-xf", toolsTar(t))
	loop := makeDisk(t, filepath.Join(t.TempDir(), "disk.img"), "label: gpt\nsize=204800, type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B\ntype=0FC63DAF-8483-4772-8E79-3D69D8477DE4\n")
	// bootctl wants the root of a file system, and this kernel has no FAT.
	esp := filepath.Join(root, "boot/efi")
	plant(t, root, map[string]string{"boot/efi/": ""})
	if err := unix.Mount("tmpfs", esp, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Unmount(esp, unix.MNT_DETACH) }()
	plant(t, root, map[string]string{
		"vars/": "", "etc/machine-id": oldID + "\n",
		"boot/efi/loader/entries/x.conf": "title x\nlinux /linux\noptions root=UUID=" + oldRoot + "\n", "boot/efi/linux": "kernel",
		"usr/local/sbin/efibootmgr": "#!/bin/sh\nEFIVARFS_PATH=/vars/ exec /bin/efibootmgr \"$@\"\n",
	})
	if err := os.Chmod(filepath.Join(root, "usr/local/sbin/efibootmgr"), 0o755); err != nil {
		t.Fatal(err)
	}
	fs := []wire.Filesystem{{Part: 2, Type: "ext4", MountPoint: "/", OldUUID: oldRoot}, {Part: 1, Type: wire.VFAT, MountPoint: "/boot/efi", OldUUID: "AAAA-0001"}}
	c, err := newClone(Env{
		Root: root, Number: 7, Firmware: wire.UEFI, Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Plan: wire.Plan{Disks: []wire.DiskPlan{{Name: "sda"}}, Filesystems: fs, Loader: wire.Loader{Kind: "systemd-boot"}},
		Disks: wire.DiskResult{Disks: []string{loop}, Filesystems: []wire.FilesystemResult{
			{Device: loop + "p2", UUID: "44444444-aaaa-4bbb-8ccc-111111111111"}, {Device: loop + "p1", UUID: "BBBB-0001"},
		}},
	}, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	ctx, stop := context.WithTimeout(t.Context(), 5*time.Minute)
	defer stop()
	var rep StepReport
	for _, run := range []func(context.Context, *clone, *StepReport) error{fixEntries, fixMenu, fixLoader} {
		if err := run(ctx, c, &rep); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"/boot/efi/EFI/systemd/systemd-bootx64.efi", "/boot/efi/EFI/BOOT/BOOTX64.EFI"} {
		if b, err := c.tree.read(name); err != nil || !strings.HasPrefix(string(b), "MZ") {
			t.Errorf("%s: %v, %d bytes", name, err, len(b))
		}
	}
	c.bootOrder(ctx, t, loop)
	if out, err := exec.Command("partx", "-d", loop).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// bootOrder writes the entry twice into a list that has a network entry in
// front and an old one of the same name.
func (c *clone) bootOrder(ctx context.Context, t *testing.T, loop string) {
	esp, _ := c.esp()
	for _, args := range [][]string{
		{"-c", "-d", loop, "-p", "2", "-L", "other", "-l", `\EFI\other\grubx64.efi`},
		{"-c", "-d", loop, "-p", "2", "-L", "Linux Boot Manager", "-l", `\EFI\old\old.efi`},
		{"-c", "-d", loop, "-p", "2", "-L", "net", "-l", `\MAC(525400123456,0)\IPv4()`},
	} {
		if err := c.chroot.run(ctx, "efibootmgr", append([]string{"-q"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		var rep StepReport
		if err := c.writeEntry(ctx, &rep, esp, "/boot/efi/EFI/systemd", "systemd-bootx64.efi"); err != nil {
			t.Fatal(err)
		}
		n, err := c.readNVRAM(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, number := range n.order {
			for _, e := range n.entries {
				// A file in a folder doesn't shrink, as a variable does: the
				// end of a longer list stays behind the shorter one.
				if e.number == number && !slices.Contains(got, e.label) {
					got = append(got, e.label)
				}
			}
		}
		if want := "net, Linux Boot Manager, other"; strings.Join(got, ", ") != want || len(n.entries) != 3 {
			t.Errorf("the order is %q, want %s; %+v", got, want, n)
		}
	}
}
