package builder_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// archive is an initramfs as read back.
type archive struct {
	headers map[string]*cpio.Header
	bodies  map[string][]byte
	raw     []byte // the cpio, decompressed
}

func readArchive(t *testing.T, file string) archive {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(128<<20)) // the kernel's limit
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	a := archive{headers: map[string]*cpio.Header{}, bodies: map[string][]byte{}}
	if a.raw, err = io.ReadAll(z); err != nil {
		t.Fatal(err)
	}
	r := cpio.NewReader(bytes.NewReader(a.raw))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if a.headers[h.Name] != nil {
			t.Errorf("%s is twice in the archive", h.Name)
		}
		a.headers[h.Name], a.bodies[h.Name] = h, body
	}
}

func (a archive) release(t *testing.T) string {
	t.Helper()
	for name := range a.headers {
		if strings.HasSuffix(name, "/modules.dep") {
			return strings.Split(name, "/")[2]
		}
	}
	t.Fatal("no modules.dep in the archive")
	return ""
}

func TestInitramfs(t *testing.T) {
	b := images(t)
	a := readArchive(t, filepath.Join(b.dir, "all.rdz"))
	inodes := map[int64]string{}
	for name, h := range a.headers {
		if h.Uid != 0 || h.Guid != 0 {
			t.Errorf("%s belongs to %d:%d, want root", name, h.Uid, h.Guid)
		}
		if !h.ModTime.IsZero() && h.ModTime.Unix() != 0 {
			t.Errorf("%s has time %v, want none", name, h.ModTime)
		}
		if other, ok := inodes[h.Inode]; ok {
			t.Errorf("%s and %s have one inode %d", name, other, h.Inode)
		}
		inodes[h.Inode] = name
		if dir := filepath.Dir(name); dir != "." && (a.headers[dir] == nil || a.headers[dir].Mode&0o170000 != cpio.TypeDir) {
			t.Errorf("%s stands in %s, which is no folder of the archive", name, dir)
		}
	}
	for name, want := range map[string]struct {
		mode cpio.FileMode
		body string
	}{
		"etc/extra":     {cpio.TypeReg | 0o640, "extra\n"},
		"init":          {cpio.TypeSymlink | 0o777, "bbin/init"},
		"bbin/init":     {cpio.TypeSymlink | 0o777, "bb"},
		"bin/sh":        {cpio.TypeSymlink | 0o777, "../bbin/sh"},
		"sbin/modprobe": {cpio.TypeSymlink | 0o777, "../bbin/hello"},
		"tmp":           {cpio.TypeDir | cpio.ModeSticky | 0o777, ""},
		"root":          {cpio.TypeDir | 0o700, ""},
	} {
		h := a.headers[name]
		if h == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		body := string(a.bodies[name])
		if h.Linkname != "" {
			body = h.Linkname
		}
		if h.Mode != want.mode || body != want.body {
			t.Errorf("%s: mode %o, body %q; want %o, %q", name, h.Mode, body, want.mode, want.body)
		}
	}
	if m := a.headers["bbin/bb"]; m == nil || m.Mode.Perm() != 0o755 {
		t.Errorf("bbin/bb: %v, want mode 755", m)
	}
}

// TestInitramfsByCPIO asks cpio(1), an outside judge.
func TestInitramfsByCPIO(t *testing.T) {
	need(t, "cpio")
	b := images(t)
	a := readArchive(t, filepath.Join(b.dir, "all.rdz"))
	c := exec.Command("cpio", "--quiet", "-t")
	c.Stdin = bytes.NewReader(a.raw)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("cpio -t: %v: %s", err, out)
	}
	got := strings.Fields(string(out))
	var want []string
	for name := range a.headers {
		want = append(want, name)
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("names, ours and those of cpio -t: %s", d)
	}
}

func TestStage1Drivers(t *testing.T) {
	b := images(t)
	a := readArchive(t, filepath.Join(b.dir, "all.rdz"))
	dir := "lib/modules/" + a.release(t) + "/"
	for _, m := range []string{
		"ethernet/intel/e1000/e1000", "ethernet/intel/e1000e/e1000e", "ethernet/realtek/r8169", "ethernet/realtek/8139too",
		"ethernet/broadcom/tg3", "ethernet/broadcom/bnx2", "ethernet/broadcom/bnx2x/bnx2x", "ethernet/intel/igb/igb",
		"ethernet/intel/igc/igc", "ethernet/intel/ixgbe/ixgbe", "ethernet/intel/i40e/i40e", "ethernet/nvidia/forcedeth",
		"ethernet/marvell/sky2", "ethernet/atheros/alx/alx", "virtio_net", "vmxnet3/vmxnet3", "hyperv/hv_netvsc", "usb/r8152",
	} {
		if a.headers[dir+"kernel/drivers/net/"+m+".ko"] == nil {
			t.Errorf("no driver %s", m)
		}
	}
	have := map[string]bool{}
	for line := range strings.Lines(string(a.bodies[dir+"modules.dep"])) {
		file, deps, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			t.Errorf("modules.dep: line %q", line)
		}
		have[dir+file] = true
		for d := range strings.FieldsSeq(deps) {
			if a.headers[dir+d] == nil {
				t.Errorf("%s needs %s, which is not in the archive", file, d)
			}
		}
	}
	for name := range a.headers {
		if strings.HasSuffix(name, ".ko") != have[name] {
			t.Errorf("%s: in the archive and in modules.dep are two things", name)
		}
		if strings.Contains(name, "/wireless/") {
			t.Errorf("%s: wireless drivers are not wanted", name)
		}
	}
	names := string(a.bodies["usr/share/misc/pci.ids"])
	for _, want := range []string{"8086  Intel Corporation\n", "\t100e  82540EM Gigabit Ethernet Controller\n", "\t1041  Virtio 1.0 network device\n", "\nC 02  Network controller\n"} {
		if !strings.Contains(names, want) {
			t.Errorf("pci.ids lacks %q", want)
		}
	}
	if strings.Contains(names, "82371SB PIIX3 IDE") || len(names) > 100_000 {
		t.Errorf("pci.ids has %d bytes, and names what no module here serves", len(names))
	}
}

func TestRescue(t *testing.T) {
	need(t, "unsquashfs")
	if os.Getuid() != 0 {
		t.Skip("needs root for chroot")
	}
	b := images(t)
	root := filepath.Join(t.TempDir(), "root")
	file := filepath.Join(b.dir, "rescue.sqfs")
	if out, err := exec.Command("unsquashfs", "-quiet", "-no-progress", "-d", root, file).CombinedOutput(); err != nil {
		t.Fatalf("unsquashfs: %v: %s", err, out)
	}
	out, err := exec.Command("unsquashfs", "-lln", file).CombinedOutput()
	if err != nil {
		t.Fatalf("unsquashfs -lln: %v: %s", err, out)
	}
	lines := 0
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, "squashfs-root") {
			continue
		}
		lines++
		if f := strings.Fields(line); f[1] != "0/0" || !strings.HasPrefix(line[len(f[0]):], " 0/0") {
			t.Errorf("not root's: %s", line)
		}
		if !strings.Contains(line, "1970-01-01 00:00") {
			t.Errorf("has a time: %s", line)
		}
	}
	if want := b.manifest.Images[1].Entries + 1; lines != want {
		t.Errorf("unsquashfs lists %d entries, want %d", lines, want)
	}

	t.Run("programs", func(t *testing.T) { programsRun(t, root) })
	t.Run("softdeps", func(t *testing.T) { softdepsThere(t, root, b.manifest.Images[1].Modules) })
}

// programsRun starts the programs with nothing but the image's own libraries.
func programsRun(t *testing.T, root string) {
	disk := filepath.Join(root, "disk")
	if err := os.WriteFile(disk, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	must(unix.Mknod(filepath.Join(root, "dev/urandom"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 9))))
	must(unix.Mknod(filepath.Join(root, "dev/random"), unix.S_IFCHR|0o644, int(unix.Mkdev(1, 8))))
	for _, c := range [][]string{
		{"sfdisk", "--version"}, {"wipefs", "--version"}, {"blkid", "-V"}, {"partx", "--version"},
		{"blockdev", "--version"}, {"losetup", "--version"},
		{"mkfs.ext4", "-q", "-F", "/disk"}, {"e2fsck", "-f", "-n", "/disk"}, {"tune2fs", "-L", "golden", "/disk"},
		{"dumpe2fs", "-h", "/disk"}, {"resize2fs", "/disk", "160M"},
		{"mkfs.ext2", "-q", "-F", "/disk"}, {"mkfs.ext3", "-q", "-F", "/disk"}, {"mkswap", "/disk"},
		{"mkfs.vfat", "/disk"}, {"fsck.fat", "-n", "/disk"},
		{"mkfs.xfs", "-q", "-f", "/disk"}, {"xfs_repair", "-n", "/disk"}, {"xfs_db", "-r", "-c", "uuid", "/disk"},
		{"mkfs.btrfs", "-q", "-f", "/disk"}, {"btrfs", "check", "--force", "/disk"}, {"btrfstune", "-f", "-u", "/disk"},
		{"mkfs.f2fs", "-q", "-f", "/disk"}, {"fsck.f2fs", "/disk"},
		{"mkfs.jfs", "-q", "/disk"}, {"fsck.jfs", "-n", "/disk"}, {"jfs_tune", "-l", "/disk"},
		{"mkfs.reiserfs", "-q", "-f", "/disk"}, {"reiserfsck", "--check", "-y", "/disk"},
		{"lvm", "version"}, {"mdadm", "--version"}, {"dmsetup", "--version"}, {"efibootmgr", "--version"},
		// argon2i's threads end by pthread_exit, which opens libgcc_s.
		{"cryptsetup", "luksFormat", "-q", "--type=luks2", "--pbkdf-memory=32768", "--pbkdf-force-iterations=4", "/disk", "/etc/mke2fs.conf"},
	} {
		if strings.HasPrefix(c[0], "mk") || c[0] == "cryptsetup" { // they ask before they overwrite another's
			must(os.Truncate(disk, 0))
		}
		must(os.Truncate(disk, 320<<20))
		// e2fsprogs look into /proc/mounts: it is mounted in namespaces that end with the program.
		args := append([]string{"-m", "-p", "-f", "--mount-proc=" + filepath.Join(root, "proc"),
			"chroot", root, "/sbin/" + c[0]}, c[1:]...)
		if out, err := exec.Command("unshare", args...).CombinedOutput(); err != nil {
			t.Errorf("%v: %v: %s", c, err, out)
		}
	}
}

// softdepsThere looks for what ext4, xfs and btrfs ask the kernel for by alias.
func softdepsThere(t *testing.T, root string, modules []string) {
	for _, m := range []string{
		"ext4", "jbd2", "mbcache", "crc32c_generic", "crc32c_intel", "libcrc32c", "crct10dif_pclmul",
		"ahci", "ata_piix", "nvme", "virtio_blk", "virtio_scsi", "sd_mod", "megaraid_sas", "mpt3sas", "aacraid", "hpsa",
		"mptspi", "aic7xxx", "usb_storage", "uas", "mmc_block", "xfs", "jfs", "reiserfs", "btrfs", "f2fs", "vfat",
		"nls_cp437", "nls_ascii", "dm_mod", "raid1", "loop", "squashfs", "overlay",
	} {
		if !slices.Contains(modules, m) {
			t.Errorf("no module %s", m)
		}
	}
	files, _ := filepath.Glob(filepath.Join(root, "lib/modules/*/modules.softdep"))
	if len(files) != 1 {
		t.Fatalf("modules.softdep: %v", files)
	}
	b, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), "softdep ext4 pre: crypto-crc32c\n") {
		t.Errorf("modules.softdep says nothing of ext4 and crc32c:\n%s", b)
	}
}

func TestManifestTellsTheTruth(t *testing.T) {
	b := images(t)
	names := map[string]bool{}
	for _, f := range b.manifest.Files {
		names[f.Name] = true
		body, err := os.ReadFile(filepath.Join(b.dir, f.Name))
		if err != nil {
			t.Error(err)
			continue
		}
		sum := sha256.Sum256(body)
		if int64(len(body)) != f.Size || hex.EncodeToString(sum[:]) != f.SHA256 {
			t.Errorf("%s: %d bytes, sha256 %x; manifest says %d, %s", f.Name, len(body), sum, f.Size, f.SHA256)
		}
	}
	for _, want := range []string{"vmlinuz", "all.rdz", "rescue.sqfs", "tftp/images/all.rdz", "tftp/messages", "tftp/go.mod", "tftp/syslinux.efi"} {
		if !names[want] {
			t.Errorf("manifest lacks %s", want)
		}
	}
	warned := 0
	for _, w := range b.manifest.Warnings {
		if strings.HasPrefix(w, "no tftp/nobodys.efi: kamethod-has-no-such-package isn't installed") {
			warned++
		}
		if strings.Contains(w, "quiet.efi") {
			t.Errorf("a file of no package is missed: %s", w)
		}
	}
	if warned != 1 || names["tftp/nobodys.efi"] || names["tftp/quiet.efi"] {
		t.Errorf("an optional file that isn't there: %d warnings in %q", warned, b.manifest.Warnings)
	}
	var table strings.Builder
	if err := b.manifest.Table(&table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "all.rdz meets its goal of 15613654 bytes") {
		t.Errorf("table says nothing good of the goal:\n%s", &table)
	}
	left, _ := filepath.Glob(filepath.Join(b.dir, ".*.new"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func need(t *testing.T, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skipf("no %s on this machine", program)
	}
}
