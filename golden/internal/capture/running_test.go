package capture

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
)

// TestMain runs the tests again in a mount namespace of their own, and, as the
// machine that TestRunning describes, does nothing but describe it.
func TestMain(m *testing.M) {
	if opt := os.Getenv("CAPTURE_TEST_DESCRIBE"); opt != "" {
		describeHere(opt)
		return
	}
	if os.Geteuid() != 0 || os.Getenv("CAPTURE_TEST_NAMESPACE") != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), "CAPTURE_TEST_NAMESPACE=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		panic(err)
	}
}

func describeHere(text string) {
	var opt Options
	if err := json.Unmarshal([]byte(text), &opt); err != nil {
		panic(err)
	}
	m, err := Describe(context.Background(), opt)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		panic(err)
	}
}

func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// disk makes a loop device with the table of the script.
func disk(t *testing.T, script string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	file := filepath.Join(t.TempDir(), "disk.img")
	write(t, file, "")
	if err := os.Truncate(file, 600<<20); err != nil {
		t.Fatal(err)
	}
	table(t, file, script)
	dev := must(t, "losetup", "--find", "--show", file)
	held, err := os.Open(dev)
	must(t, "losetup", "--detach", dev) // it stays until the last one has closed it, also when we are killed
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = exec.Command("partx", "--delete", dev).Run() // fails where there is none
		held.Close()
	})
	must(t, "partx", "--add", dev)
	return dev
}

func table(t *testing.T, file, script string) {
	t.Helper()
	cmd := exec.Command("sfdisk", "--quiet", file)
	cmd.Stdin = strings.NewReader(script)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
}

// TestRunning builds a machine on a loop device: its / and /var are mounted
// from partitions, its programs are this machine's, bound into it.
func TestRunning(t *testing.T) {
	dev := disk(t, "label: gpt\nsize=1MiB, type=21686148-6449-6E6F-744E-656564454649, name=\"BIOS boot\"\nsize=200MiB, name=root\nsize=50MiB\nsize=100MiB\nsize=20MiB, type=L\n")
	name := filepath.Base(dev)
	must(t, "mkfs.ext4", "-q", "-L", "golden root", "-O", "^metadata_csum,^64bit", "-I", "128", dev+"p2")
	must(t, "mkswap", "-L", "swap0", dev+"p3")
	must(t, "mkfs.ext3", "-q", dev+"p4")
	packed := t.TempDir()
	must(t, "mkdir", packed+"/sub")
	must(t, "mksquashfs", packed, dev+"p5", "-quiet", "-no-progress", "-noappend")
	root := t.TempDir()
	mount(t, dev+"p2", root, "ext4", 0)
	for _, d := range []string{"etc", "usr", "proc", "sys", "dev", "var", "tmp", "srv"} {
		if err := os.Mkdir(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+d, filepath.Join(root, d)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, root+"/etc/hostname", "golden1\n")
	for _, d := range []string{"usr", "dev", "sys"} {
		mount(t, "/"+d, filepath.Join(root, d), "", unix.MS_BIND)
	}
	mount(t, "proc", root+"/proc", "proc", 0)
	mount(t, dev+"p4", root+"/var", "ext3", 0)
	mount(t, "tmpfs", root+"/tmp", "tmpfs", 0)
	exe, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root+"/tmp/capture.test", exe, 0o755); err != nil {
		t.Fatal(err)
	}

	m, err := inside(t, root, Options{Excludes: []string{"/tmp"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:2 / ext4, 0:4 /var ext3, 0:3  swap" {
		t.Errorf("file systems: %s\n%s", got, strings.Join(m.Notes, "\n"))
	}
	fs := m.Plan.Filesystems
	uuid := must(t, "blkid", "-p", "-s", "UUID", "-o", "value", dev+"p2")
	part := must(t, "blkid", "-p", "-s", "PART_ENTRY_UUID", "-o", "value", dev+"p2")
	if fs[0].OldUUID != uuid || fs[0].OldPartID != part || fs[0].Label != "golden root" || fs[0].OldDevice != dev+"p2" || fs[0].InodeSize != 128 {
		t.Errorf("root: %+v", fs[0])
	}
	if f := strings.Join(fs[0].Features, " "); strings.Contains(f, "metadata_csum") || !strings.Contains(f, "extent") || strings.Contains(f, "needs_recovery") {
		t.Errorf("features: %s", f)
	}
	if fs[2].Label != "swap0" || fs[2].OldUUID == "" {
		t.Errorf("swap: %+v", fs[2])
	}
	if m.Plan.Golden.Hostname != "golden1" || strings.Join(m.Mounts, " ") != "/ /var" {
		t.Errorf("%+v %v", m.Plan.Golden, m.Mounts)
	}
	l := m.Plan.Disks[0]
	if l.Name != name || l.Layout.Table != layout.GPT || l.Layout.Parts[0].GUID != layout.GUIDBIOSBoot || !l.Layout.Parts[4].Fill || l.Layout.Parts[1].Size != 200<<20 {
		t.Errorf("layout: %+v", l)
	}

	write(t, root+"/tmp/desc", "linux 100\nextended fill\nlogical swap 20\nlogical linux fill\n")
	m, err = inside(t, root, Options{Descs: map[string]string{name: "/tmp/desc"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:1 / ext4, 0:6 /var ext3, 0:5  swap" {
		t.Errorf("with a desc: %s", got)
	}
	m, err = inside(t, root, Options{Descs: map[string]string{"sdx": "/tmp/desc"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:1 / ext4, 0:6 /var ext3, 0:5  swap" || len(m.Plan.Disks) != 1 || m.Plan.Filesystems[2].OldUUID == "" {
		t.Errorf("with a desc for another name: %s, %+v", got, m.Plan)
	}
	if _, err = inside(t, root, Options{SkipDisks: []string{name}}); err == nil || !strings.Contains(err.Error(), "/ is on it") {
		t.Errorf("got %v", err)
	}
	// Of a file system that is mounted elsewhere only a directory is seen.
	whole := t.TempDir()
	mount(t, dev+"p5", whole, "squashfs", unix.MS_RDONLY)
	must(t, "mkdir", root+"/part")
	mount(t, whole+"/sub", root+"/part", "", unix.MS_BIND)
	m, err = inside(t, root, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(m.Notes, "\n"); !strings.Contains(notes, "/part left out: it is only /sub of the squashfs on "+dev+"p5") || strings.Contains(notes, "/var left out") {
		t.Errorf("notes:\n%s", notes)
	}
	mount(t, dev+"p5", root+"/srv", "squashfs", unix.MS_RDONLY)
	// Seen from outside, the same is a folder with mounts below it.
	m, err = Describe(t.Context(), Options{Root: root, Descs: descs(t, manual)})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(m.Mounts, " "); got != "/ /var /srv" {
		t.Errorf("mounts of the folder: %s", got)
	}
	if _, err = inside(t, root, Options{}); err == nil || !strings.Contains(err.Error(), "/srv is squashfs") {
		t.Errorf("got %v", err)
	}
	if _, err = inside(t, root, Options{Excludes: []string{"/srv"}}); err != nil {
		t.Error(err)
	}
	m, err = inside(t, root, Options{Blocks: []string{name + "p5"}})
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(m.Notes, "\n"); len(m.Plan.Excludes) != 1 || m.Plan.Excludes[0] != "/srv" || strings.Contains(notes, "partition 5 of "+name+": stays empty") {
		t.Errorf("as blocks: %q\n%s", m.Plan.Excludes, notes)
	}
	// What is mounted inside of what is left out is named.
	must(t, "mkdir", root+"/var/inside")
	mount(t, dev+"p5", root+"/var/inside", "squashfs", unix.MS_RDONLY)
	m, err = inside(t, root, Options{Excludes: []string{"/srv"}, Blocks: []string{name + "p4"}})
	if err != nil {
		t.Fatal(err)
	}
	if notes := strings.Join(m.Notes, "\n"); strings.Join(m.Plan.Excludes, " ") != "/srv /var" || !strings.Contains(notes, "/var/inside left out: it is mounted below /var") || strings.Contains(notes, "/var/inside left out: excluded") {
		t.Errorf("below blocks: %q\n%s", m.Plan.Excludes, notes)
	}
}

func mount(t *testing.T, from, to, kind string, flags uintptr) {
	t.Helper()
	if err := unix.Mount(from, to, kind, flags, ""); err != nil {
		t.Fatalf("mount %s on %s: %v", from, to, err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(to, 0); err != nil {
			t.Errorf("unmount %s: %v", to, err)
		}
	})
}

// inside describes the machine whose root is that folder, from inside.
func inside(t *testing.T, root string, opt Options) (*Machine, error) {
	t.Helper()
	text, err := json.Marshal(opt)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/tmp/capture.test")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), "CAPTURE_TEST_DESCRIBE="+string(text))
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, said.String())
	}
	m := &Machine{}
	if err := json.Unmarshal([]byte(out.String()), m); err != nil {
		t.Fatal(err)
	}
	return m, nil
}

// TestFolderByUUID: an fstab's UUID that lies on the disk of the desc decides.
func TestFolderByUUID(t *testing.T) {
	dev := disk(t, "label: dos\nsize=50MiB, type=83\nsize=50MiB, type=83\n")
	must(t, "mkfs.ext4", "-q", dev+"p1")
	must(t, "mkfs.ext4", "-q", dev+"p2")
	uuid := must(t, "blkid", "-p", "-s", "UUID", "-o", "value", dev+"p2")
	path := filepath.Join(t.TempDir(), "desc")
	write(t, path, "linux 50\nlinux fill\n")
	m, err := Describe(t.Context(), Options{Root: folder(t, "UUID="+uuid+" / ext4\nUUID=none /var ext4\n"), Descs: map[string]string{filepath.Base(dev): path}})
	if err != nil {
		t.Fatal(err)
	}
	if got := short(m); got != "0:2 / ext4, 0:1 /var ext4" {
		t.Errorf("got %s\n%s", got, strings.Join(m.Notes, "\n"))
	}
}

func TestDescribeDisk(t *testing.T) {
	if _, err := exec.LookPath("sfdisk"); err != nil {
		t.Skip("sfdisk is not installed")
	}
	file := filepath.Join(t.TempDir(), "disk.img")
	write(t, file, "")
	if err := os.Truncate(file, 80026361856); err != nil {
		t.Fatal(err)
	}
	// The table of the manual's fdisk -l, in its sectors.
	table(t, file, "label: dos\nstart=63, size=16370172, type=82\nstart=16370235, size=61432560, type=83\nstart=77802795, size=78493590, type=5\nstart=77802858, size=78493526, type=83\n")
	d, err := DescribeDisk(file)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Desc(), "swap 7993\nlinux 29996\nextended 38326\nlogical linux 38326\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := DescribeDisk("/dev/null"); err == nil {
		t.Error("/dev/null has a layout")
	}
	if _, err := DescribeDisk("nosuchdisk"); err == nil || !strings.Contains(err.Error(), "/dev/nosuchdisk") {
		t.Errorf("got %v", err)
	}
}
