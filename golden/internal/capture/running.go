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
	"github.com/kamethod/kamethod/golden/mangle"
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
	wants, err := d.fromMounts(ctx)
	if err != nil {
		return nil, err
	}
	swaps, err := d.fromSwaps(ctx)
	if err != nil {
		return nil, err
	}
	wants = append(wants, swaps...)
	d.pruneStack(wants)
	tables := realTables(ctx, d.stack.disks, d.stack.whole)
	idle, err := d.idleSwap(ctx, wants, tables)
	wants = append(wants, idle...)
	if err != nil {
		return nil, err
	}
	for i := range wants {
		if err := d.details(ctx, &wants[i]); err != nil {
			return nil, err
		}
		if wants[i].Type == "btrfs" {
			if err := d.completeSubvolumes(ctx, &wants[i]); err != nil {
				return nil, err
			}
		}
	}
	d.nameLikeFstab(wants)
	wants = d.takeLayout(wants)
	if len(d.disks) == 1 && !exists("/sys/class/block/"+sysName(d.disks[0].Name)) {
		wants = d.renameOnlyDisk(wants, "this machine")
	}
	return wants, d.addRealDisks(tables, d.under(wants))
}

func (d *describer) fromMounts(ctx context.Context) ([]want, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	var wants []want
	seen := map[string]bool{}
	for _, m := range mounts {
		id := mountID(m)
		if id == "" || seen[id] {
			continue // a bind mount, or the same again
		}
		w, err := d.fromMount(ctx, m)
		if err != nil {
			return nil, err
		}
		if w != nil {
			seen[id] = true
			wants = append(wants, *w)
		}
	}
	d.noteBound(mounts)
	if !slices.ContainsFunc(wants, func(w want) bool { return w.MountPoint == "/" }) {
		return nil, errors.New("describe this machine: its / is on no disk that can be cloned: give a folder with --root and a layout with -p")
	}
	wants, err = d.joinSubvolumes(d.takeLeft(wants))
	return slices.DeleteFunc(wants, func(w want) bool {
		gone := !slices.ContainsFunc(w.MountPoints(), func(at string) bool { return !d.excluded(at) })
		if gone {
			d.note("%s left out: excluded", w.MountPoint)
		}
		return gone
	}), err
}

// mountID tells apart what is mounted; empty for a mount of some directory.
// Each subvolume of a btrfs is mounted on its own.
func mountID(m *mountinfo.Info) string {
	if m.FSType == "btrfs" {
		if st, err := look(m.Mountpoint); err == nil && st.Ino == btrfsTopInode {
			return m.Source + " " + m.Root
		}
		return ""
	}
	if m.Root != "/" {
		return ""
	}
	return fmt.Sprintf("%d:%d", m.Major, m.Minor)
}

// noteBound names the file systems of which only a directory is mounted.
func (d *describer) noteBound(mounts []*mountinfo.Info) {
	of := func(m *mountinfo.Info) string {
		if m.FSType == "btrfs" {
			return m.Source
		}
		return fmt.Sprintf("%d:%d", m.Major, m.Minor)
	}
	known := map[string]bool{}
	for _, m := range mounts {
		if mountID(m) != "" {
			known[of(m)] = true
		}
	}
	for _, m := range mounts {
		name, ok := d.onDisk(m)
		if !ok || known[of(m)] || d.excluded(m.Mountpoint) || d.skipped(name) != "" || d.asBlocksHere(name) {
			continue
		}
		known[of(m)] = true
		d.note("%s left out: it is only %s of the %s on /dev/%s, which is mounted nowhere as a whole: mount it to have it cloned", m.Mountpoint, m.Root, m.FSType, name)
	}
}

// onDisk says whether what is mounted lies on a disk of the machine's, and on
// which of its devices.
func (d *describer) onDisk(m *mountinfo.Info) (name string, ok bool) {
	name, ok = d.m.byNumber(m.Major, m.Minor), m.Major != 0
	if m.FSType == "btrfs" || m.FSType == "zfs" { // which have a device number of their own making
		name, ok = d.m.kernelName(m.Source), true
	}
	file := strings.HasPrefix(name, "loop") && !strings.Contains(name[4:], "p") // that is mounted: a snap, an ISO
	return name, ok && !file && !noDisk(m.FSType) && !medium(m.Source)
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

// realTables reads the tables of disks.
func realTables(ctx context.Context, disks, whole map[string]bool) map[string]realTable {
	tables := map[string]realTable{}
	for name := range disks {
		if whole[name] {
			tables[name] = realTable{Disk: layout.Disk{Table: layout.None}}
			continue
		}
		var r realTable
		t, err := readTable(ctx, "/dev/"+name)
		if r.err = err; err == nil {
			r.Disk, r.err = layout.FromTable(t)
		}
		tables[name] = r
	}
	return tables
}

// fromMount is what a mount wants; nil if nothing of a clone's.
func (d *describer) fromMount(ctx context.Context, m *mountinfo.Info) (*want, error) {
	name, onDisk := d.onDisk(m)
	switch {
	case !onDisk:
		return nil, nil
	case d.excluded(m.Mountpoint) && m.FSType != "btrfs":
		d.note("%s left out: excluded", m.Mountpoint)
		return nil, nil
	}
	if d.belowLeft(m.Mountpoint, "/dev/"+name) {
		return nil, nil
	}
	if disk := d.skipped(name); disk != "" {
		if m.Mountpoint == "/" {
			return nil, fmt.Errorf("disk %s: left out (-X), but / is on it", disk)
		}
		d.note("%s left out: its disk %s is (-X)", m.Mountpoint, disk)
		d.left = append(d.left, m.Mountpoint)
		return nil, nil
	}
	if d.asBlocksHere(name) {
		d.note("%s: comes as blocks, not as files (-D)", m.Mountpoint)
		d.left = append(d.left, m.Mountpoint)
		return nil, nil
	}
	if !known(m.FSType) || m.FSType == wire.VFAT && !efiPlace(m.Mountpoint) {
		return nil, fmt.Errorf("%s is %s: only %s can be cloned as files: exclude it with -x %s, copy it as blocks with -D %s, or leave out its disk with -X", m.Mountpoint, m.FSType, knownWords, m.Mountpoint, name)
	}
	ref, err := d.device(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: exclude it with -x, or its disk with -X", m.Mountpoint, err)
	}
	w := want{source: "mounted from /dev/" + ref, node: "/dev/" + name}
	w.at(ref, d.stack.whole[ref])
	w.Type, w.MountPoint, w.OldDevice = m.FSType, m.Mountpoint, "/dev/"+ref
	w.subvol = strings.Trim(m.Root, "/")
	w.Options = fileOptions(m.FSType, strings.Split(m.VFSOptions, ","))
	return &w, nil
}

// skipped is the disk below a device that is left out (-X), empty if none is.
func (d *describer) skipped(name string) string {
	under := d.m.slaves(name)
	for _, u := range under {
		if disk := d.skipped(u); disk != "" {
			return disk
		}
	}
	if len(under) > 0 {
		return ""
	}
	disk, _ := sysDir(filepath.Join(d.m.sys, "class/block", sysName(name)))
	if slices.Contains(d.skip, disk) {
		return disk
	}
	return ""
}

// device is the path of a partition, or of the disk with number 0.
func device(disk string, number int) string { return "/dev/" + layout.PartitionName(disk, number) }

// fromSwaps is the partitions and volumes that the kernel swaps to.
func (d *describer) fromSwaps(ctx context.Context) ([]want, error) {
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
		name := d.m.kernelName(mangle.Undo(words[0]))
		disk := d.skipped(name)
		switch {
		case strings.HasPrefix(name, "zram"):
			d.note("swap on %s left out: it is in memory", words[0])
			continue
		case disk != "":
			d.note("swap on %s left out: its disk %s is (-X)", words[0], disk)
			continue
		}
		if d.asBlocksHere(name) {
			continue
		}
		ref, err := d.device(ctx, name)
		if err != nil {
			d.note("swap on %s left out: %v", words[0], err)
			continue
		}
		wants = append(wants, d.newSwap(ref, name))
	}
	return wants, nil
}

func (d *describer) newSwap(ref, name string) want {
	w := want{source: "/dev/" + ref, node: "/dev/" + name}
	w.at(ref, d.stack.whole[ref])
	w.Type, w.OldDevice = "swap", "/dev/"+ref
	return w
}

// addRealDisks puts the disks that lie under the machine into the plan, those
// that have no layout as they are, but so that they use all of a larger disk.
func (d *describer) addRealDisks(tables map[string]realTable, under map[string]bool) error {
	for _, name := range slices.Sorted(maps.Keys(under)) {
		if d.diskIndex(name) >= 0 || d.laid.whole {
			continue
		}
		t := tables[name]
		if t.err != nil {
			return fmt.Errorf("disk %s: %w", name, t.err)
		}
		l := t.Grow()
		d.addDisk(name, l)
		d.real[name] = true
		if l.Table == layout.None {
			d.note("disk %s: used as a whole, as here", name)
			continue
		}
		d.note("disk %s: laid out as it is here: %s", name, strings.ReplaceAll(strings.TrimSpace(l.Desc()), "\n", ", "))
	}
	for _, disk := range d.disks {
		if !under[disk.Name] {
			d.note("disk %s: has a layout, but nothing is mounted from it here", disk.Name)
		}
	}
	return nil
}

// idleSwap is the swap partitions and volumes of golden's that aren't in use,
// as on a machine that has just been installed.
func (d *describer) idleSwap(ctx context.Context, wants []want, tables map[string]realTable) ([]want, error) {
	var names []string
	for _, disk := range slices.Sorted(maps.Keys(tables)) {
		for _, p := range tables[disk].Parts {
			if p.IsSwap() || p.IsLinux() {
				names = append(names, layout.PartitionName(disk, p.Number))
			}
		}
	}
	for _, g := range d.stack.Groups {
		for _, v := range g.Volumes {
			names = append(names, g.Name+"/"+v.Name)
		}
	}
	var idle []want
	for _, ref := range names {
		taken := slices.ContainsFunc(wants, func(w want) bool { return w.OldDevice == "/dev/"+ref })
		if taken || d.asBlocks(ref) || !exists("/dev/"+ref) {
			continue
		}
		s, err := probe(ctx, "/dev/"+ref)
		if err != nil {
			return nil, err
		}
		if s.kind == "swap" {
			idle = append(idle, d.newSwap(ref, d.m.kernelName("/dev/"+ref)))
		}
	}
	return idle, nil
}

// nameLikeFstab gives each want the name that golden's own fstab has for its
// device, which the clone's has to replace.
func (d *describer) nameLikeFstab(wants []want) {
	entries, err := readFstab(d.opt.Root)
	if err != nil {
		d.note("golden's own fstab: %v", err)
		return
	}
	for _, e := range entries {
		if !strings.HasPrefix(e.spec, "/dev/") || strings.HasPrefix(e.spec, "/dev/disk/") {
			continue
		}
		name := d.m.kernelName(e.spec)
		for i, w := range wants {
			if w.MountPoint == e.file && w.MountPoint != "" || w.swap() && e.kind == "swap" && "/dev/"+name == w.node {
				wants[i].OldDevice = e.spec
			}
		}
	}
}
