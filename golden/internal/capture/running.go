package capture

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

func exitStatus(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// fromRunning finds out what the running machine has mounted and swaps to,
// and adds the disks that lie under it to the plan.
func (d *describer) fromRunning(ctx context.Context) ([]want, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var wants []want
	seen := map[string]bool{}
	for _, m := range mounts {
		device := fmt.Sprintf("%d:%d", m.Major, m.Minor)
		if m.Root != "/" || seen[device] {
			continue // a bind mount, or the same again
		}
		w, err := d.fromMount(ctx, m)
		if err != nil {
			return nil, err
		}
		if w != nil {
			seen[device] = true
			wants = append(wants, *w)
		}
	}
	if !slices.ContainsFunc(wants, func(w want) bool { return w.MountPoint == "/" }) {
		return nil, errors.New("describe this machine: its / is on no disk that can be cloned: give a folder with --root and a desc with -p")
	}
	swaps, err := d.fromSwaps()
	if err != nil {
		return nil, err
	}
	wants = append(wants, swaps...)
	tables := realTables(ctx, wants)
	idle, err := idleSwap(ctx, wants, tables)
	wants = append(wants, idle...)
	if err != nil {
		return nil, err
	}
	for i := range wants {
		if err := details(ctx, &wants[i]); err != nil {
			return nil, err
		}
	}
	if len(d.disks) == 1 && !exists("/sys/class/block/"+strings.ReplaceAll(d.disks[0].Name, "/", "!")) {
		wants = d.renameOnlyDisk(wants, "this machine")
	}
	return wants, d.addRealDisks(wants, tables)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// realTable is a golden disk's table, or why it has none.
type realTable struct {
	layout.Disk
	err error
}

// realTables reads the tables of the disks that the wants lie on.
func realTables(ctx context.Context, wants []want) map[string]realTable {
	tables := map[string]realTable{}
	for _, w := range wants {
		if _, ok := tables[w.disk]; ok {
			continue
		}
		var r realTable
		t, err := readTable(ctx, "/dev/"+w.disk)
		if r.err = err; err == nil {
			r.Disk, r.err = layout.FromTable(t)
		}
		tables[w.disk] = r
	}
	return tables
}

// fromMount is what a mount wants; nil if nothing of a clone's.
func (d *describer) fromMount(ctx context.Context, m *mountinfo.Info) (*want, error) {
	disk, number := sysDir(fmt.Sprintf("/sys/dev/block/%d:%d", m.Major, m.Minor))
	onDisk := m.Major != 0 || m.FSType == "btrfs" || m.FSType == "zfs" // which have a device number of their own making
	switch {
	case !onDisk || noDisk(m.FSType) || medium(m.Source):
		return nil, nil
	case strings.HasPrefix(disk, "loop") && number == 0:
		return nil, nil // a file that is mounted: a snap, an ISO
	case d.excluded(m.Mountpoint):
		d.note("%s left out: excluded", m.Mountpoint)
		return nil, nil
	case slices.Contains(d.skip, disk):
		if m.Mountpoint == "/" {
			return nil, fmt.Errorf("disk %s: left out (-X), but / is on it", disk)
		}
		d.note("%s left out: its disk %s is (-X)", m.Mountpoint, disk)
		return nil, nil
	case strings.HasPrefix(disk, "dm-") || strings.HasPrefix(disk, "md"):
		return nil, fmt.Errorf("%s is on %s: LVM, RAID and encrypted devices can't be cloned so far: exclude it with -x, or its disk with -X", m.Mountpoint, m.Source)
	case !known(m.FSType) || m.FSType == wire.VFAT && !efiPlace(m.Mountpoint):
		return nil, fmt.Errorf("%s is %s: only ext2, ext3, ext4 and an EFI system partition can be cloned so far: exclude it with -x %s, or its disk with -X %s", m.Mountpoint, m.FSType, m.Mountpoint, disk)
	case number == 0 && d.diskIndex(disk) < 0:
		return nil, fmt.Errorf("%s is on %s as a whole, which has no partition table: give a desc with -p %s DESC", m.Mountpoint, m.Source, disk)
	}
	w := want{source: "mounted from " + device(disk, number), disk: disk, number: number}
	w.Type, w.MountPoint, w.OldDevice = m.FSType, m.Mountpoint, device(disk, number)
	return &w, nil
}

// device is the path of a partition, or of the disk with number 0.
func device(disk string, number int) string { return "/dev/" + layout.PartitionName(disk, number) }

// fromSwaps is the partitions that the kernel swaps to.
func (d *describer) fromSwaps() ([]want, error) {
	text, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without swap
	}
	if err != nil {
		return nil, fmt.Errorf("list swap: %w", err)
	}
	var wants []want
	for line := range strings.Lines(string(text)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[1] != "partition" {
			continue
		}
		disk, number := sysPartition(unescape(words[0]))
		switch {
		case number == 0: // zram, LVM
			d.note("swap on %s left out: no partition", words[0])
		case slices.Contains(d.skip, disk):
			d.note("swap on %s left out: its disk is (-X)", words[0])
		default:
			wants = append(wants, newSwap(disk, number))
		}
	}
	return wants, nil
}

func newSwap(disk string, number int) want {
	w := want{source: device(disk, number), disk: disk, number: number}
	w.Type, w.OldDevice = "swap", device(disk, number)
	return w
}

// addRealDisks puts the disks that the wants lie on into the plan, those that
// have no desc as they are, but so that they use all of a larger disk.
func (d *describer) addRealDisks(wants []want, tables map[string]realTable) error {
	for _, w := range wants {
		if d.diskIndex(w.disk) >= 0 {
			continue
		}
		t := tables[w.disk]
		if t.err != nil {
			return fmt.Errorf("disk %s: %w", w.disk, t.err)
		}
		l := t.Grow()
		d.addDisk(w.disk, l)
		d.note("disk %s: laid out as it is here: %s", w.disk, strings.ReplaceAll(strings.TrimSpace(l.Desc()), "\n", ", "))
	}
	for _, disk := range d.disks {
		if !slices.ContainsFunc(wants, func(w want) bool { return w.disk == disk.Name }) {
			d.note("disk %s: has a desc, but nothing is mounted from it here", disk.Name)
		}
	}
	return nil
}

// idleSwap is the swap partitions of golden's disks that aren't in use, as on
// a machine that has just been installed.
func idleSwap(ctx context.Context, wants []want, tables map[string]realTable) ([]want, error) {
	var idle []want
	for _, name := range slices.Sorted(maps.Keys(tables)) {
		for _, p := range tables[name].Parts {
			known := slices.ContainsFunc(wants, func(w want) bool { return w.disk == name && w.number == p.Number })
			if known || !p.IsSwap() || !exists(device(name, p.Number)) {
				continue
			}
			s, err := probe(ctx, device(name, p.Number))
			if err != nil {
				return nil, err
			}
			if s.kind == "swap" {
				idle = append(idle, newSwap(name, p.Number))
			}
		}
	}
	return idle, nil
}

// details sets the golden file system's identifiers and features.
func details(ctx context.Context, w *want) error {
	dev := device(w.disk, w.number)
	s, err := probe(ctx, dev)
	if err != nil {
		return err
	}
	w.OldUUID, w.Label, w.OldPartID = s.uuid, s.label, s.partID
	if w.swap() || w.Type == wire.VFAT {
		return nil
	}
	if ext(s.kind) {
		w.Type = s.kind // the kernel's ext4 says ext4 for all three
	}
	return extDetails(ctx, &w.Filesystem, dev)
}

// identity is what the golden system under root is known by.
func identity(root string) wire.Golden {
	return wire.Golden{Hostname: firstLine(root, "etc/hostname"), MachineID: firstLine(root, "etc/machine-id")}
}

// firstLine is the first line of a small file below root, empty if none.
func firstLine(root, name string) string {
	r, err := os.OpenRoot(root)
	if err != nil {
		return ""
	}
	defer r.Close()
	text, err := r.ReadFile(name)
	if err != nil || len(text) > 4096 {
		return ""
	}
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// readable is the mount points whose files are cloned: the plan's, mounted now
// or not, so that the scan tells apart what each file system needs, and in a
// folder also what else of a disk is mounted below it, for that is how it
// became a whole system.
func (d *describer) readable(filesystems []wire.Filesystem) ([]string, error) {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(d.opt.Root))
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	list := []string{"/"}
	for _, fs := range filesystems {
		if fs.MountPoint != "" && fs.MountPoint != "/" {
			list = append(list, fs.MountPoint)
		}
	}
	for _, m := range mounts {
		rel, err := filepath.Rel(d.opt.Root, m.Mountpoint)
		if err != nil {
			return nil, fmt.Errorf("mount %s below %s: %w", m.Mountpoint, d.opt.Root, err)
		}
		at := filepath.Join("/", rel)
		bound := m.Root != "/" || m.Major == 0 || noDisk(m.FSType)
		if slices.Contains(list, at) || d.excluded(at) || d.opt.Root == "/" || bound {
			continue
		}
		d.note("%s: mounted there now, but no file system of the clone's: its files go into the one around it", m.Mountpoint)
		list = append(list, at)
	}
	return list, nil
}
