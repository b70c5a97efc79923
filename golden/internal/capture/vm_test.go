package capture

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/internal/layoutfile"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/kamethod/kamethod/images/vmlab"
	"github.com/kamethod/kamethod/images/vmlab/vmtest"
)

// TestInVM has a machine be golden that has what this one's kernel may lack:
// md, device mapper, jfs.
func TestInVM(t *testing.T) {
	if testing.Short() {
		t.Skip("boots a machine")
	}
	vmtest.Run(t, vmtest.Machine{
		Run:      "^TestStackOfVM$",
		Timeout:  9 * time.Minute, // 30 s alone; the limit is go test's own
		Disks:    []vmlab.Disk{{Size: 400 << 20}, {Size: 400 << 20}, {Size: 100 << 20}, {Size: 100 << 20}, {Size: 100 << 20}},
		Programs: []string{"mkfs.f2fs", "dump.f2fs", "mkfs.reiserfs", "debugreiserfs", "mdadm", "lvm", "cryptsetup", "mkfs.jfs", "jfs_tune", "sfdisk", "mkfs.ext4", "dumpe2fs", "mkswap", "blkid", "partx"},
	})
}

// TestStackOfVM: / and swap on LVM on LUKS on RAID 1, /boot on a RAID 1 of its
// own, /home a jfs on a disk without a table: all of it is found again.
func TestStackOfVM(t *testing.T) {
	if !vmtest.Inside() {
		t.Skip("runs in a machine, by TestInVM")
	}
	t.Setenv("DM_DISABLE_UDEV", "1") // nobody else makes /dev/vg0/root (libdm)
	root := t.TempDir()
	for _, d := range []string{"/dev/vda", "/dev/vdb"} {
		table(t, d, "label: gpt\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649\nsize=100MiB, type=R\ntype=R\n")
	}
	tell(t, "yes\n", "mdadm", "--create", "/dev/md0", "--run", "--level=1", "--raid-devices=2", "--metadata=1.0", "/dev/vda2", "/dev/vdb2")
	tell(t, "yes\n", "mdadm", "--create", "/dev/md1", "--run", "--level=1", "--raid-devices=2", "/dev/vda3", "/dev/vdb3")
	tell(t, "secret\n", "cryptsetup", "luksFormat", "-q", "--type", "luks2", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "/dev/md1", "-")
	tell(t, "secret\n", "cryptsetup", "open", "--key-file", "-", "/dev/md1", "crypt")
	must(t, "lvm", "pvcreate", "/dev/mapper/crypt")
	must(t, "lvm", "vgcreate", "vg-a", "/dev/mapper/crypt")
	for _, v := range []string{"root 100", "my-swap 40", "idle 20"} {
		name, size, _ := strings.Cut(v, " ")
		must(t, "lvm", "lvcreate", "-y", "-n", name, "-L", size+"M", "vg-a")
	}
	must(t, "mkfs.ext4", "-q", "-m", "3", "/dev/vg-a/root")
	must(t, "mkfs.ext4", "-q", "-L", "boot", "/dev/md0")
	must(t, "mkfs.jfs", "-q", "-L", "home", "/dev/vdc")
	must(t, "mkfs.f2fs", "-q", "-O", "extra_attr,inode_checksum", "/dev/vdd")
	must(t, "mkfs.reiserfs", "-q", "-ff", "/dev/vde")
	must(t, "mkswap", "/dev/vg-a/my-swap")
	mount(t, "/dev/vg-a/root", root, "ext4", 0)
	for _, d := range []string{"boot", "home", "flash", "old", "etc", "proc", "sys", "dev", "tmp", "sbin", "bin", "lib", "lib64", "usr", "bbin", "tools"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"sys", "dev", "sbin", "bin", "lib", "lib64", "usr", "bbin"} {
		if exists("/" + d) {
			mount(t, "/"+d, filepath.Join(root, d), "", unix.MS_BIND)
		}
	}
	mount(t, "proc", root+"/proc", "proc", 0)
	mount(t, "tmpfs", root+"/tmp", "tmpfs", 0)
	mount(t, "/dev/md0", root+"/boot", "ext4", 0)
	mount(t, "/dev/vdc", root+"/home", "jfs", 0)
	mount(t, "/dev/vdd", root+"/flash", "f2fs", 0)
	mount(t, "/dev/vde", root+"/old", "reiserfs", 0)
	for _, link := range []string{"lvs", "pvs"} { // as lvm2's package has them
		if err := os.Symlink("/sbin/lvm", filepath.Join(root, "tools", link)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, root+"/tmp/pass", "a new one\nand no more\n")
	write(t, root+"/boot/vmlinuz-6", "kernel")
	write(t, root+"/etc/fstab", "/dev/mapper/vg--a-root / ext4\n/dev/md/0 /boot ext4\n/dev/vdc /home jfs\n/dev/vg-a/my-swap none swap\n")
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/tmp/capture.test", exe, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", os.Getenv("PATH")+":/tools:/sbin:/usr/sbin:/bin")

	opt := Options{Loader: wire.Loader{Kind: "grub"}, Passphrases: []string{"/tmp/pass"}}
	if _, err := inside(t, root, Options{Look: true}); err != nil {
		t.Errorf("only to look at it: %v", err)
	}
	if _, err := inside(t, root, Options{}); err == nil || !strings.Contains(err.Error(), "--luks-passphrase FILE") {
		t.Errorf("without a passphrase: %v", err)
	}
	opt.Loader.Kind = "none"
	m, err := inside(t, root, opt)
	if err != nil {
		t.Fatal(err)
	}
	checkVM(t, m)
	write(t, root+"/tmp/desc", "linux 100\nswap 40\nlinux 100\nlinux fill\n")
	m, err = inside(t, root, Options{Descs: map[string]string{"vda": "/tmp/desc"}, SkipDisks: []string{"vdc", "vdd|vde"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:1 / ext4, 0:3 /boot ext4, 0:2  swap" || len(m.Plan.Disks) != 1 || len(Made(m.Plan.Stack)) > 0 {
		t.Errorf("by a desc with plain partitions: %s, %+v\n%s", got, m.Plan.Stack, strings.Join(m.Notes, "\n"))
	}
	if _, err := inside(t, root, Options{SkipDisks: []string{"vdb"}}); err == nil || !strings.Contains(err.Error(), "disk vdb: left out (-X), but / is on it") {
		t.Errorf("half the mirror left out: %v", err)
	}
}

func checkVM(t *testing.T, m *Machine) {
	t.Helper()
	s := m.Plan.Stack
	var list []string
	for _, fs := range m.Plan.Filesystems {
		on := fs.On
		if on == "" {
			on = layout.PartitionName(m.Plan.Disks[fs.Disk].Name, fs.Part)
		}
		list = append(list, strings.TrimSpace(strings.Join([]string{on, fs.Type, fs.MountPoint, fs.OldDevice, fs.Label}, " ")))
		if fs.OldUUID == "" && fs.Type != "swap" {
			t.Errorf("%s has no UUID", on)
		}
	}
	want := "vg-a/root ext4 / /dev/mapper/vg--a-root|md0 ext4 /boot /dev/md/0 boot|vdc jfs /home /dev/vdc home|vdd f2fs /flash /dev/vdd|vde reiserfs /old /dev/vde|vg-a/my-swap swap  /dev/vg-a/my-swap"
	if got := strings.Join(list, "|"); got != want {
		t.Errorf("file systems %s\nwant %s\n%s", got, want, strings.Join(m.Notes, "\n"))
	}
	if len(s.Arrays) != 2 || len(s.Crypts) != 1 || len(s.Groups) != 1 {
		t.Fatalf("stack %+v", s)
	}
	a0, a1, g := s.Arrays[0], s.Arrays[1], s.Groups[0]
	if a0.Name == "md1" {
		a0, a1 = a1, a0
	}
	if a0.Name != "md0" || a0.Level != 1 || strings.Join(a0.Members, " ") != "vda2 vdb2" || a0.Metadata != "1.0" || len(a0.OldUUID) != 35 ||
		a1.Name != "md1" || strings.Join(a1.Members, " ") != "vda3 vdb3" || a1.Metadata != "1.2" {
		t.Errorf("arrays %+v", s.Arrays)
	}
	if c := s.Crypts[0]; c.Name != "crypt" || c.Device != "md1" || c.Version != 2 || len(c.OldUUID) != 36 {
		t.Errorf("crypt %+v", c)
	}
	var volumes []string
	for _, v := range g.Volumes {
		volumes = append(volumes, v.Name)
		if v.Size < 20<<20 || len(v.OldUUID) != 38 {
			t.Errorf("volume %+v", v)
		}
	}
	if g.Name != "vg-a" || strings.Join(g.Devices, " ") != "mapper/crypt" || g.Extent != 4<<20 || strings.Join(volumes, " ") != "idle my-swap root" {
		t.Errorf("group %+v", g)
	}
	if len(m.Plan.Disks) != 5 || m.Plan.Disks[2].Layout.Table != layout.None || len(m.Plan.Disks[0].Layout.Parts) != 3 {
		t.Errorf("disks %+v", m.Plan.Disks)
	}
	if len(m.Plan.Secrets) != 1 || m.Plan.Secrets[0].Crypt != "crypt" || string(m.Plan.Secrets[0].Passphrase) != "a new one" {
		t.Errorf("secrets %q", m.Plan.Secrets)
	}
	text := layoutfile.Print(m.layoutFile())
	if f, err := layoutfile.Parse(strings.NewReader(text), "printed"); err != nil || len(f.Filesystems) != 6 || len(f.Stack.Arrays) != 2 {
		t.Errorf("as a layout file: %v\n%s", err, text)
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "vg-a/idle: stays empty") || strings.Contains(notes, "a new one") || strings.Contains(notes, "can't be read") {
		t.Errorf("notes:\n%s", notes)
	}
}

// tell runs a program that reads its standard input.
func tell(t *testing.T, text, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}
