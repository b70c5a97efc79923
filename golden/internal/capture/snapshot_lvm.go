package capture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// volume is a logical volume to be mounted.
type volume struct{ device, kind, options string }

// lvmUUID says whether a block device is a logical volume, by its
// device-mapper UUID (lvm2, lib/misc/lvm-globals: UUID_PREFIX "LVM-").
func lvmUUID(major, minor int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/dm/uuid", major, minor))
	return err == nil && strings.HasPrefix(string(text), "LVM-")
}

// lvm makes the place number i, dir of the mount m, a picture of its logical
// volume.
func (s *Snapshot) lvm(ctx context.Context, m mounted, dir string, i int) error {
	name, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/dm/name", m.Major, m.Minor))
	if err != nil {
		return fmt.Errorf("name of %s: %w", m.Source, err)
	}
	out, err := output(ctx, "lvs", "--noheadings", "-o", "vg_name,lv_name", "/dev/mapper/"+strings.TrimSpace(string(name)))
	if err != nil {
		return err
	}
	vg, lv, err := parseVolume(out)
	if err != nil {
		return err
	}
	s.removeLeftVolumes(ctx, vg, lv)
	rel, err := filepath.Rel(m.Mountpoint, dir)
	if err != nil {
		return err
	}
	snapshot := fmt.Sprintf("%s%d-%d", volumeName, os.Getpid(), i)
	if _, err := output(ctx, "lvcreate", createArgs(vg, lv, snapshot)...); err != nil {
		return err
	}
	s.undo = append(s.undo, func() error { return removeVolume(vg, snapshot) })
	s.places[i].source = filepath.Join(m.Root, rel)
	s.places[i].volume = &volume{device: "/dev/" + vg + "/" + snapshot, kind: m.FSType, options: snapshotMount(m.FSType)}
	return nil
}

// volumeName is how our snapshots begin.
const volumeName = "kamethod-"

// createArgs is lvcreate(8)'s: room for a tenth of the volume to change.
func createArgs(vg, lv, snapshot string) []string {
	return []string{"-s", "-n", snapshot, "-l", "10%ORIGIN", vg + "/" + lv}
}

// snapshotMount is what a file system needs to be mounted although its twin
// is: xfs refuses a UUID twice (xfs(5)), ext3 and ext4 needn't replay a
// journal that was empty at the snapshot (ext4(5)).
func snapshotMount(kind string) string {
	switch kind {
	case "xfs":
		return "nouuid"
	case "ext3", "ext4":
		return "noload"
	}
	return ""
}

// parseVolume reads lvs -o vg_name,lv_name.
func parseVolume(out string) (vg, lv string, err error) {
	f := strings.Fields(out)
	if len(f) != 2 || !volumeWord(f[0]) || !volumeWord(f[1]) {
		return "", "", fmt.Errorf("lvs: %q: want the names of a volume group and a logical volume", out)
	}
	return f[0], f[1], nil
}

// volumeWord says whether it is a name as lvm(8) allows, "VALID NAMES".
func volumeWord(s string) bool {
	const allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_.-"
	return s != "" && s[0] != '-' && s != "." && s != ".." && strings.Trim(s, allowed) == ""
}

// removeLeftVolumes removes what golden-serves that were killed have left of a
// volume. LVM itself removes none that is mounted.
func (s *Snapshot) removeLeftVolumes(ctx context.Context, vg, lv string) {
	out, err := output(ctx, "lvs", "--noheadings", "-o", "lv_name,origin", vg)
	if err != nil {
		s.note("snapshot: what is left over in volume group %s: %v", vg, err)
		return
	}
	for _, name := range leftVolumes(out, lv, func(pid int) bool { return exists(fmt.Sprintf("/proc/%d", pid)) }) {
		if _, err := output(ctx, "lvremove", "-f", vg+"/"+name); err != nil {
			s.note("snapshot: %s/%s is left by a run that was killed: %v", vg, name, err)
			continue
		}
		s.note("snapshot: %s/%s, left by a run that was killed, removed", vg, name)
	}
}

// leftVolumes finds in lvs -o lv_name,origin our snapshots of a volume whose
// process is gone.
func leftVolumes(out, lv string, alive func(pid int) bool) []string {
	var left []string
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) != 2 || f[1] != lv {
			continue
		}
		rest, ours := strings.CutPrefix(f[0], volumeName)
		digits, number, ok := strings.Cut(rest, "-")
		pid, err := strconv.Atoi(digits)
		_, err2 := strconv.Atoi(number)
		if ours && ok && err == nil && err2 == nil && pid > 0 && !alive(pid) {
			left = append(left, f[0])
		}
	}
	return left
}

// removeVolume tries for a while: the kernel lets go of a mount soon, but not
// at once. It is done also where the run was ended.
func removeVolume(vg, name string) error {
	var err error
	for range 10 {
		if _, err = output(context.Background(), "lvremove", "-f", vg+"/"+name); err == nil {
			return nil
		}
		time.Sleep(300 * time.Millisecond)
	}
	return fmt.Errorf("remove snapshot %s/%s: %w", vg, name, err)
}
