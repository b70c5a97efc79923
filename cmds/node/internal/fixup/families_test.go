package fixup

import (
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
	"github.com/rogpeppe/go-internal/txtar"
	"golang.org/x/sys/unix"
)

var update = flag.Bool("update", false, "write what the families' trees become as what is expected")

// nodeDev is where the tests' node has its disks: a tmpfs of their own in the
// tests' mount namespace, so that the names are the same everywhere.
const nodeDev = "/dev/shm"

// family is a golden system and a node that it is cloned to. Its tree is
// testdata/families/NAME.txt, what it is to become NAME.want.
//
//	NAME.txt ──plant──▶ tree + stand-ins ──Run──▶ what changed + calls == NAME.want
type family struct {
	name string
	plan wire.Plan
	made wire.DiskResult
	uefi bool
	sys  map[string]string // the node's sysfs
}

// The file systems of the families, golden's and the clone's.
func part(n int, kind, at, device string) wire.Filesystem {
	return wire.Filesystem{Part: n, Type: kind, MountPoint: at, OldUUID: uuidOf('a', n, kind), OldPartID: partID('a', n), OldDevice: device}
}

func uuidOf(c byte, n int, kind string) string {
	if kind == wire.VFAT {
		return strings.ToUpper(strings.Repeat(string(c), 4)) + "-000" + string(rune('0'+n))
	}
	return strings.Repeat(string(c), 8) + "-0000-4000-8000-00000000000" + string(rune('0'+n))
}

func partID(c byte, n int) string {
	return strings.Repeat(string(c), 8) + "-0000-4000-8000-99999999990" + string(rune('0'+n))
}

// onNode is what a node makes of file systems on one disk's partitions.
func onNode(fs []wire.Filesystem) (made []wire.FilesystemResult) {
	for _, f := range fs {
		r := wire.FilesystemResult{Device: nodeDev + "/vda" + string(rune('0'+f.Part)), UUID: uuidOf('b', f.Part, f.Type)}
		if f.OldPartID != "" {
			r.PartID = partID('b', f.Part)
		}
		made = append(made, r)
	}
	return made
}

// oneDisk is a family whose golden node has one disk, without layers.
func oneDisk(name, disk string, uefi bool, loader wire.Loader, fs ...wire.Filesystem) family {
	return family{
		name: name, uefi: uefi,
		plan: wire.Plan{
			Disks: []wire.DiskPlan{{Name: disk, Layout: layout.Disk{Table: layout.GPT}}}, Filesystems: fs, Loader: loader,
			Golden: wire.Golden{Hostname: "golden", MachineID: idWas}, Identity: wire.Identity{Hostname: "node%03d", NoNVRAM: true},
		},
		made: wire.DiskResult{Disks: []string{nodeDev + "/vda"}, Filesystems: onNode(fs)},
	}
}

func families() []family {
	grub, with := wire.Loader{Kind: "grub"}, wire.Loader{Kind: "grub", With: []string{"ahci", "mpt3sas"}}
	suseRoot := part(2, "btrfs", "/", "/dev/sda2")
	suseRoot.Subvolumes = []wire.Subvolume{
		{Path: "@", MountPoint: "/"}, {Path: "@/.snapshots/1/snapshot", MountPoint: "/", Mounted: true, Default: true},
		{Path: "@/home", MountPoint: "/home", Mounted: true}, {Path: "@/var", MountPoint: "/var", Mounted: true},
		{Path: "@/boot/grub2/i386-pc", MountPoint: "/boot/grub2/i386-pc", Mounted: true},
	}
	fedoraRoot := part(3, "btrfs", "/", "/dev/nvme0n1p3")
	fedoraRoot.Subvolumes = []wire.Subvolume{{Path: "root", MountPoint: "/", Mounted: true}, {Path: "home", MountPoint: "/home", Mounted: true}}
	fams := []family{
		oneDisk("fedora40", "nvme0n1", true, with, fedoraRoot, part(2, "ext4", "/boot", "/dev/nvme0n1p2"), part(1, wire.VFAT, "/boot/efi", "/dev/nvme0n1p1")),
		oneDisk("tumbleweed", "sda", false, with, suseRoot, part(3, "swap", "", "/dev/sda3")),
		oneDisk("leap15-uefi", "sda", true, grub, suseRoot, part(3, "swap", "", "/dev/sda3"), part(1, wire.VFAT, "/boot/efi", "/dev/sda1")),
		oneDisk("arch", "nvme0n1", true, wire.Loader{Kind: "systemd-boot", With: []string{"ahci"}}, part(2, "ext4", "/", "/dev/nvme0n1p2"), part(1, wire.VFAT, "/boot", "/dev/nvme0n1p1"), part(3, "swap", "", "/dev/nvme0n1p3")),
		oneDisk("mandriva2008", "hda", false, wire.Loader{Kind: "grub-legacy", With: []string{"jfs", "ata_piix"}}, part(1, "ext3", "/", "/dev/hda1"), part(6, "jfs", "/home", "/dev/hda6"), part(5, "swap", "", "/dev/hda5")),
		oneDisk("mandriva2008-lilo", "hda", false, wire.Loader{Kind: "lilo"}, part(1, "ext3", "/", "/dev/hda1"), part(5, "swap", "", "/dev/hda5")),
		oneDisk("sles11", "sda", false, wire.Loader{Kind: "grub-legacy", With: []string{"megaraid_sas"}}, part(2, "reiserfs", "/", "/dev/sda2"), part(1, "swap", "", "/dev/sda1")),
		oneDisk("ubuntu2404", "vda", true, grub, part(2, "ext4", "/", "/dev/vda2"), part(1, wire.VFAT, "/boot/efi", "/dev/vda1")),
		rhel9(), debianStack(),
	}
	for i, f := range fams {
		if strings.HasPrefix(f.name, "mandriva") {
			fams[i].plan.Disks[0].Layout.Table = layout.MBR
			fams[i].sys = oldHardware()
		}
	}
	return fams
}

// rhel9 has its root on LVM, whose physical volume is on LUKS.
func rhel9() family {
	root, swap := part(3, "xfs", "/", "/dev/mapper/rhel-root"), part(4, "swap", "", "/dev/mapper/rhel-swap")
	root.On, swap.On, root.OldPartID, swap.OldPartID = "rhel/root", "rhel/swap", "", ""
	f := oneDisk("rhel9", "sda", true, wire.Loader{Kind: "grub"}, root, swap, part(2, "xfs", "/boot", "/dev/sda2"), part(1, wire.VFAT, "/boot/efi", "/dev/sda1"))
	luks := "luks-" + uuidOf('a', 7, "")
	f.plan.Stack = layout.Stack{
		Crypts: []layout.Crypt{{Name: luks, Device: "sda3", OldUUID: uuidOf('a', 7, "")}},
		Groups: []layout.Group{{Name: "rhel", Devices: []string{"mapper/" + luks}, OldUUID: "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaaa", Volumes: []layout.Volume{
			{Name: "root", OldUUID: "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaa1"}, {Name: "swap", OldUUID: "aaaaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aaaaa2"},
		}}},
	}
	f.made.Stack = []wire.StackResult{
		{Name: "mapper/" + luks, Device: nodeDev + "/dm-0", UUID: uuidOf('b', 7, "")},
		{Name: "rhel", UUID: "bbbbbb-bbbb-bbbb-bbbb-bbbb-bbbb-bbbbbb"},
		{Name: "rhel/root", Device: nodeDev + "/dm-1", UUID: "bbbbbb-bbbb-bbbb-bbbb-bbbb-bbbb-bbbbb1"},
		{Name: "rhel/swap", Device: nodeDev + "/dm-2", UUID: "bbbbbb-bbbb-bbbb-bbbb-bbbb-bbbb-bbbbb2"},
	}
	f.made.Filesystems[0].Device, f.made.Filesystems[1].Device = nodeDev+"/dm-1", nodeDev+"/dm-2"
	f.made.Filesystems[0].PartID, f.made.Filesystems[1].PartID = "", ""
	return f
}

// debianStack is a BIOS machine with RAID 1 for all, and LVM on a second array.
func debianStack() family {
	boot, root, swap := part(1, "ext4", "/boot", "/dev/md0"), part(2, "ext4", "/", "/dev/mapper/vg--0-root"), part(3, "swap", "", "/dev/vg-0/swap")
	boot.On, root.On, swap.On = "md0", "vg-0/root", "vg-0/swap"
	boot.OldPartID, root.OldPartID, swap.OldPartID = "", "", ""
	f := oneDisk("debian-raid", "sda", false, wire.Loader{Kind: "grub"}, root, boot, swap)
	f.plan.Disks = append(f.plan.Disks, wire.DiskPlan{Name: "sdb"})
	f.made.Disks = append(f.made.Disks, nodeDev+"/vdb")
	f.plan.Stack = layout.Stack{
		Arrays: []layout.Array{
			{Name: "md0", Level: 1, Members: []string{"sda1", "sdb1"}, OldUUID: "aaaaaaaa:00000000:00000000:00000001"},
			{Name: "md1", Level: 1, Members: []string{"sda2", "sdb2"}, OldUUID: "aaaaaaaa:00000000:00000000:00000002"},
		},
		Groups: []layout.Group{{Name: "vg-0", Devices: []string{"md1"}, Volumes: []layout.Volume{{Name: "root"}, {Name: "swap"}}}},
	}
	f.made.Stack = []wire.StackResult{
		{Name: "md0", Device: nodeDev + "/md0", UUID: "bbbbbbbb:00000000:00000000:00000001"},
		{Name: "md1", Device: nodeDev + "/md1", UUID: "bbbbbbbb:00000000:00000000:00000002"},
		{Name: "vg-0"}, {Name: "vg-0/root", Device: nodeDev + "/dm-0"}, {Name: "vg-0/swap", Device: nodeDev + "/dm-1"},
	}
	for i, d := range []string{"/dm-0", "/md0", "/dm-1"} {
		f.made.Filesystems[i] = wire.FilesystemResult{Device: nodeDev + d, UUID: f.made.Filesystems[i].UUID}
	}
	return f
}

// makeNode gives the node its disks: numbers of loop devices that nobody opens.
func makeNode(t *testing.T) {
	t.Helper()
	if err := unix.Mount("tmpfs", nodeDev, "tmpfs", 0, "mode=0755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(nodeDev, unix.MNT_DETACH) })
	for i, name := range []string{"vda", "vda1", "vda2", "vda3", "vda5", "vda6", "vdb", "dm-0", "dm-1", "dm-2", "md0", "md1"} {
		if err := unix.Mknod(filepath.Join(nodeDev, name), unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(i%4)))); err != nil {
			t.Fatal(err)
		}
	}
}

// plantFamily makes a family's tree. A line "programs: a b" of the archive's
// comment names its programs.
func plantFamily(t *testing.T, root, name string, scripts map[string]string) (before map[string]string) {
	t.Helper()
	ar, err := txtar.ParseFile(filepath.Join("testdata", "families", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	before = map[string]string{}
	for _, f := range ar.Files {
		text := string(f.Data)
		if strings.HasSuffix(f.Name, "grubenv") { // as GRUB has it: 1024 bytes
			text = grubenvHead + strings.TrimSpace(text) + "\n"
			text += strings.Repeat("#", grubenvSize-len(text))
		}
		before[f.Name] = text
	}
	if strings.Contains(string(txtar.Format(ar)), "-- usr/lib/modules/") {
		plant(t, root, map[string]string{"usr/lib/": "", "lib -> usr/lib": ""})
	}
	plant(t, root, before)
	before = contents(t, root)
	plant(t, root, map[string]string{"dev/": "", "proc/": "", "sys/": "", "run/": "", "tmp/": "", "bin/": "", "usr/local/sbin/": ""})
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skip("no /bin/busybox for the stand-ins' shell: package busybox-static")
	}
	for _, applet := range []string{"sh", "cat", "mkdir", "cp", "sed", "grep"} {
		if err := os.WriteFile(filepath.Join(root, "bin", applet), busybox, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	programs := regexp.MustCompile(`(?m)^programs: (.*)$`).FindSubmatch(ar.Comment)
	if programs == nil {
		t.Fatalf("%s.txt names no programs", name)
	}
	for _, p := range strings.Fields(string(programs[1])) {
		text, ok := scripts[p]
		if !ok {
			t.Fatalf("%s.txt: no stand-in for %s", name, p)
		}
		text = "#!/bin/sh\nset -e\necho \"${0##*/} $*\" >>/calls\n" + text + "\n"
		if err := os.WriteFile(filepath.Join(root, "usr/local/sbin", p), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return before
}

// runBoot runs the steps that make the clone start, in their order; those that
// make it somebody have tests of their own.
func runBoot(t *testing.T, env Env) (report Report, err error) {
	t.Helper()
	c, err := newClone(env, &report)
	if err != nil {
		return report, err
	}
	defer func() {
		if err := c.close(); err != nil {
			t.Error(err)
		}
	}()
	own := []string{"fstab", "storage", "machine-id", "resume", "uuids", "boot-entries", "modprobe", "initrd", "boot-menu", "selinux", "boot-loader"}
	for _, s := range steps() {
		if !slices.Contains(own, s.name) {
			continue
		}
		if err := c.do(t.Context(), s); err != nil {
			return report, fmt.Errorf("fix-up step %s: %w", s.name, err)
		}
	}
	return report, nil
}

// TestFamilies compares what these steps together make of each family's tree
// with what is expected, file by file, and runs them once more on the clone.
func TestFamilies(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("chroot and mknod are root's")
	}
	makeNode(t)
	for _, f := range families() {
		t.Run(f.name, func(t *testing.T) {
			root := t.TempDir()
			before := plantFamily(t, root, f.name, standIns())
			env := f.env(t, root)
			report, err := runBoot(t, env)
			if err != nil {
				t.Fatal(err)
			}
			got := outcome(t, root, before, report)
			want := filepath.Join("testdata", "families", f.name+".want")
			if *update {
				if err := os.WriteFile(want, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			b, err := os.ReadFile(want)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(string(b), got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
			if n := mountsIn(t, root); n != 0 {
				t.Errorf("%d mounts are left", n)
			}
			f.again(t, env, root)
		})
	}
}

func (f family) env(t *testing.T, root string) Env {
	env := Env{Root: root, Plan: f.plan, Disks: f.made, Firmware: wire.BIOS, Number: 7, Sys: t.TempDir(), Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	if f.uefi {
		env.Firmware = wire.UEFI
	}
	plant(t, env.Sys, f.sys)
	return env
}

// again: the same steps on the clone change no configuration any more.
func (f family) again(t *testing.T, env Env, root string) {
	text := func() map[string]string {
		m := contents(t, root)
		for name := range m {
			if name == "calls" || strings.HasPrefix(name, "etc/ssh/") || strings.Contains(name, "machine-id") {
				delete(m, name)
			}
		}
		return m
	}
	once := text()
	if _, err := runBoot(t, env); err != nil {
		t.Fatalf("the second time: %v", err)
	}
	if d := cmp.Diff(once, text()); d != "" {
		t.Errorf("the second time (-once +twice)\n%s", d)
	}
}

// outcome is what changed, as text in which nothing is random.
func outcome(t *testing.T, root string, before map[string]string, report Report) string {
	t.Helper()
	after := contents(t, root)
	id := strings.TrimSpace(after["etc/machine-id"])
	plain := func(s string) string {
		if id != "" {
			s = strings.ReplaceAll(s, id, "NEW-MACHINE-ID")
		}
		return s
	}
	ar := txtar.Archive{}
	var removed, kept []string
	for name, text := range after {
		was, there := before[name]
		switch {
		case strings.HasPrefix(name, "usr/local/sbin/"), strings.HasPrefix(name, "bin/"):
		case !there || was != text:
			if strings.HasSuffix(name, "grubenv") {
				if len(text) != grubenvSize {
					t.Errorf("%s has %d bytes", name, len(text))
				}
				text = strings.TrimRight(text, "#")
			}
			ar.Files = append(ar.Files, txtar.File{Name: plain(name), Data: []byte(plain(text))})
		default:
			kept = append(kept, name)
		}
	}
	for name := range before {
		if _, ok := after[name]; !ok {
			removed = append(removed, name)
		}
	}
	slices.SortFunc(ar.Files, func(a, b txtar.File) int { return strings.Compare(a.Name, b.Name) })
	slices.Sort(removed)
	slices.Sort(kept)
	var notes []string
	for _, s := range report.Steps {
		for _, w := range s.Warnings {
			notes = append(notes, plain(s.Name+": "+w))
		}
	}
	for _, l := range report.Leftovers {
		notes = append(notes, "left over: "+plain(l))
	}
	list := func(head string, lines []string) string { return head + ":\n\t" + strings.Join(lines, "\n\t") + "\n" }
	ar.Comment = []byte(list("removed", removed) + list("kept", kept) + list("notes", notes))
	return string(txtar.Format(&ar))
}
