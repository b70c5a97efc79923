package fixup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/golden/wire"
	"golang.org/x/sys/unix"
)

// TestKernels: every family has its own place for a kernel and its initrd.
func TestKernels(t *testing.T) {
	c := newTestClone(t, t.TempDir(), map[string]string{
		"boot/vmlinuz-6.1": "", "boot/initrd.img-6.1": "", "lib/modules/6.1/": "",
		"boot/vmlinuz-6.2": "", "boot/initramfs-6.2.img": "", "lib/modules/6.2/": "",
		"boot/vmlinuz-6.3": "", "boot/initrd-6.3": "", "lib/modules/6.3/": "",
		"boot/vmlinuz-2.6": "", "boot/initrd-2.6.img": "", "lib/modules/2.6/": "",
		"boot/vmlinuz-5.9": "", "lib/modules/5.9/": "", "boot/vmlinuz-no-modules": "", "boot/vmlinuz-0-rescue-" + idWas: "",
		"boot/vmlinuz-linux-lts": "", "boot/initramfs-linux-lts.img": "", "lib/modules/6.6-lts/pkgbase": "linux-lts\n",
		"lib/modules/6.7/pkgbase": "../../etc\n",
		"boot/fedora/6.8/linux":   "", "boot/fedora/6.8/initrd": "", "lib/modules/6.8/": "",
	}, nil)
	got := map[string]string{}
	for _, k := range c.kernels() {
		got[k.version] = k.initrd
	}
	want := map[string]string{
		"6.1": "/boot/initrd.img-6.1", "6.2": "/boot/initramfs-6.2.img", "6.3": "/boot/initrd-6.3", "2.6": "/boot/initrd-2.6.img", "5.9": "",
		"6.6-lts": "/boot/initramfs-linux-lts.img", "6.8": "/boot/fedora/6.8/initrd",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

// TestRHEL8: the menu itself is on the EFI system partition, and GRUB's
// variables are a link to there.
func TestRHEL8(t *testing.T) {
	c := uefiClone(t, map[string]string{
		"boot/grub2/grubenv -> ../efi/EFI/redhat/grubenv": "",
		"boot/efi/EFI/redhat/grubenv":                     grubenvHead + "kernelopts=root=/dev/sda1 ro\n" + strings.Repeat("#", grubenvSize-len(grubenvHead)-29),
		"boot/efi/EFI/redhat/grub.cfg":                    "insmod blscfg\nblscfg\n",
		"boot/efi/EFI/redhat/shimx64.efi":                 "shim", "boot/efi/EFI/redhat/grubx64.efi": "grub", "boot/efi/EFI/redhat/mmx64.efi": "mm",
		"boot/efi/EFI/centos/grubx64.efi": "grub", "etc/os-release": "ID=\"rhel\"\n",
	}, nil)
	if got := c.grubConfigs(grubNames{dir: "/boot/grub2"}); len(got) != 1 || got[0] != "/boot/efi/EFI/redhat/grub.cfg" {
		t.Errorf("menus to make: %q", got)
	}
	if err := fixEntries(t.Context(), c, &StepReport{}); err != nil {
		t.Fatal(err)
	}
	env, err := c.tree.read("/boot/efi/EFI/redhat/grubenv")
	if err != nil || len(env) != grubenvSize || !strings.Contains(string(env), "kernelopts=root=UUID="+rootNow+" ro\n") {
		t.Errorf("%v, %d bytes: %q", err, len(env), env)
	}
	if !c.tree.isLink("/boot/grub2/grubenv") {
		t.Error("the link has become a file")
	}
	l, ok := c.signedLoader()
	if want := (efiLoader{"/boot/efi/EFI/redhat", "shimx64.efi", "grubx64.efi"}); !ok || l != want {
		t.Errorf("signed: %v %+v", ok, l)
	}
	var rep StepReport
	names := grubNames{dir: "/boot/grub2"}
	if err := c.keepSigned(&rep, l, "/boot/efi/EFI/BOOT", names); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"BOOTX64.EFI": "shim", "grubx64.efi": "grub", "mmx64.efi": "mm", "grub.cfg": "insmod blscfg"} {
		if got := c.tree.firstLine("/boot/efi/EFI/BOOT/" + name); got != want {
			t.Errorf("EFI/BOOT/%s is %q, want %q", name, got, want)
		}
	}
}

// TestGrubStub: a signed GRUB without a pointer to its menu gets one.
func TestGrubStub(t *testing.T) {
	c := uefiClone(t, map[string]string{"boot/efi/EFI/x/shim.efi": "shim", "boot/efi/EFI/x/grub.efi": "grub", "boot/efi/EFI/BOOT/fbx64.efi": "fallback"}, func(e *Env) {
		e.Plan.Filesystems[0].Type = "btrfs"
		e.Plan.Filesystems[0].Subvolumes = []wire.Subvolume{{Path: "@", MountPoint: "/", Mounted: true}}
		e.Plan.Identity.NoNVRAM = true
	})
	l, _ := c.signedLoader()
	if err := c.keepSigned(&StepReport{}, l, "/boot/efi/EFI/BOOT", grubNames{dir: "/boot/grub2"}); err != nil {
		t.Fatal(err)
	}
	want := "search --no-floppy --fs-uuid --set=dev " + rootNow + "\nset prefix=($dev)/@/boot/grub2\nexport prefix\nconfigfile $prefix/grub.cfg\n"
	for _, dir := range []string{"x", "BOOT"} {
		if text, err := c.tree.read("/boot/efi/EFI/" + dir + "/grub.cfg"); err != nil || string(text) != want {
			t.Errorf("%s: %v\n%s", dir, err, cmp.Diff(want, string(text)))
		}
	}
	if c.tree.isFile("/boot/efi/EFI/BOOT/fbx64.efi") {
		t.Error("shim's fallback would write to the firmware's list")
	}
}

// TestStackNodes: the clone's programs find arrays, containers and volumes by
// all their names, and the container's partition by its UUID.
func TestStackNodes(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mknod is root's")
	}
	makeNode(t)
	f := rhel9()
	c, err := newClone(Env{Root: t.TempDir(), Plan: f.plan, Disks: f.made, Number: 1}, &Report{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	if err := c.chroot.open(); err != nil {
		t.Fatal(err)
	}
	dev := filepath.Join(c.tree.path, "dev")
	for _, name := range []string{"rhel/root", "mapper/rhel-root", "rhel/swap", "mapper/luks-" + uuidOf('a', 7, ""), "mapper/luks-" + uuidOf('b', 7, ""), "shm/vda", "shm/vda1", "shm/dm-0"} {
		var st unix.Stat_t
		if err := unix.Lstat(filepath.Join(dev, name), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
			t.Errorf("/dev/%s: %v, mode %o", name, err, st.Mode)
		}
	}
	if target, err := os.Readlink(filepath.Join(dev, "disk/by-uuid", uuidOf('b', 7, ""))); err != nil || target != "../../shm/vda3" {
		t.Errorf("the container's link leads to %q, %v", target, err)
	}
}

// TestBootCode writes a boot record to a file in a disk's place.
func TestBootCode(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	sector := make([]byte, 1024)
	for i := range sector {
		sector[i] = byte(i)
	}
	sector[510], sector[511], sector[446], sector[446+16] = 0x55, 0xaa, 0x80, 0
	write := func(b []byte) {
		if err := os.WriteFile(disk, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(sector)
	if err := writeBootCode(disk, []byte("code"), 2, "dos"); err != nil {
		t.Fatal(err)
	}
	got, _ := os.ReadFile(disk)
	if string(got[:5]) != "code\x00" || got[439] != 0 || got[440] != sector[440] || got[446] != 0 || got[462] != 0x80 || got[512+100] != sector[512+100] {
		t.Errorf("wrote % x", got[:512])
	}
	if err := writeBootCode(disk, []byte("code"), 5, "dos"); err == nil || !strings.Contains(err.Error(), "logical") {
		t.Errorf("a logical partition: %v", err)
	}
	if err := writeBootCode(disk, []byte("code"), 5, "gpt"); err != nil {
		t.Error(err)
	}
	write(make([]byte, 1024))
	if err := writeBootCode(disk, []byte("code"), 1, "dos"); err == nil {
		t.Error("wrote to a disk without a table")
	}
}

// TestHardware asks this machine's own kernel.
func TestHardware(t *testing.T) {
	c := newTestClone(t, t.TempDir(), map[string]string{"etc/x": ""}, nil)
	hw := c.hardware()
	t.Logf("%+v", hw)
	for _, m := range append(hw.nets, hw.hosts...) {
		if checkModuleNames([]string{m}) != nil {
			t.Errorf("%q is no module", m)
		}
	}
	var rep StepReport
	if err := fixModprobe(t.Context(), c, &rep); err != nil || rep.Skipped == "" {
		t.Errorf("a system without modprobe.conf: %v, %+v", err, rep)
	}
}
