package fixup

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/mangle"
	"github.com/kamethod/kamethod/golden/wire"
)

// volume is one file system or swap area: what it was and what it is now.
type volume struct {
	old      wire.Filesystem
	now      wire.FilesystemResult
	disk     string   // the node's disk that holds it, the plan's first of them: "/dev/vda"
	disks    []string // all of them
	via      []place  // the arrays, containers and volumes between it and them
	devices  []string // what golden calls it; the clone may not
	names    []string // what golden and the clone call it
	partName string   // GPT partition name
	fresh    bool     // swap under a new key at every start: no UUID on it outlives one
}

type volumes []volume

// volumes joins the plan's file systems and what the node made of them.
func (s stack) volumes(p wire.Plan, d wire.DiskResult) (volumes, error) {
	if len(d.Filesystems) != len(p.Filesystems) {
		return nil, fmt.Errorf("the plan has %d file systems and the node made %d", len(p.Filesystems), len(d.Filesystems))
	}
	id := regexp.MustCompile(`^[0-9A-Za-z-]{4,64}$`)
	vs := make(volumes, 0, len(p.Filesystems))
	for i, f := range p.Filesystems {
		now := d.Filesystems[i]
		if !id.MatchString(now.UUID) {
			return nil, fmt.Errorf("file system %d on %s: %q is no UUID", i, now.Device, now.UUID)
		}
		v := volume{old: f, now: now}
		if err := s.locate(&v, p); err != nil {
			return nil, fmt.Errorf("file system %d: %w", i, err)
		}
		if f.OldDevice != "" && !slices.Contains(v.names, f.OldDevice) {
			v.devices = append(v.devices, f.OldDevice)
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// locate finds the names of a file system's device and the disks below it.
func (s stack) locate(v *volume, p wire.Plan) error {
	f := v.old
	if f.On == "" {
		if f.Disk < 0 || f.Disk >= len(p.Disks) {
			return fmt.Errorf("the plan has no disk %d", f.Disk)
		}
		v.disk = s.nodes[f.Disk]
		v.disks = []string{v.disk}
		// The clone's number need not be golden's: its table may be of another kind.
		if disk, n := layout.SplitPartition(strings.TrimPrefix(f.OldDevice, "/dev/")); n == 0 || disk != p.Disks[f.Disk].Name {
			v.devices = []string{layout.PartitionName("/dev/"+p.Disks[f.Disk].Name, f.Part)}
		}
		for _, part := range p.Disks[f.Disk].Layout.Parts {
			if part.Number == f.Part {
				v.partName = part.Name
			}
		}
		return nil
	}
	var disks []int
	disks, v.via = s.under(f.On)
	if len(disks) == 0 {
		return fmt.Errorf("%q is on no disk of the plan", f.On)
	}
	for _, i := range disks {
		v.disks = append(v.disks, s.nodes[i])
	}
	v.disk = v.disks[0]
	if pl, ok := s.places[f.On]; ok {
		v.names = pl.names
	} else {
		v.devices = []string{"/dev/" + f.On}
	}
	return nil
}

func (v volume) swap() bool { return v.old.Type == "swap" }

// spec is how the clone's files are to name the volume.
func (v volume) spec() string { return "UUID=" + v.now.UUID }

// device is the node's name of it.
func (v volume) device() string { return v.now.Device }

// find looks a volume up by anything that the golden node, or an earlier run
// here, may have called it: a device, UUID=, PARTUUID=, LABEL=, PARTLABEL= or
// a link under /dev/disk.
func (vs volumes) find(spec string) (volume, bool) {
	tag, val := splitSpec(spec)
	var hit []volume
	for _, v := range vs {
		if v.is(tag, val) {
			hit = append(hit, v)
		}
	}
	if len(hit) != 1 { // two of one label: nobody knows which is meant
		return volume{}, false
	}
	return hit[0], true
}

func (v volume) is(tag, val string) bool {
	if val == "" {
		return false
	}
	switch tag {
	case "UUID":
		return strings.EqualFold(val, v.old.OldUUID) || strings.EqualFold(val, v.now.UUID)
	case "PARTUUID":
		return strings.EqualFold(val, v.old.OldPartID) || strings.EqualFold(val, v.now.PartID)
	case "LABEL":
		return val == v.old.Label
	case "PARTLABEL":
		return val == v.partName
	case "":
		return slices.Contains(v.devices, val) || slices.Contains(v.names, val)
	}
	return false
}

// learn takes golden's own names of its devices from its fstab: what is called
// by a link that udev makes from a disk's serial number or place is known by
// where it is mounted.
func (vs volumes) learn(fstab string) {
	lines := strings.SplitAfter(fstab, "\n")
	spare, hasSpare := spareSwap(lines, vs)
	for _, s := range lines {
		l, ok := parseFstabLine(s)
		if !ok || !strings.HasPrefix(l.spec, "/dev/") || !isGoldenDisk(l.spec) {
			continue
		}
		if _, known := vs.find(l.spec); known || vs.stays(l.spec) {
			continue
		}
		v, found := vs.at(l.mount)
		if l.swap() {
			v, found = spare, hasSpare
		}
		for i := range vs {
			if found && vs[i].now.UUID == v.now.UUID {
				_, name := splitSpec(l.spec)
				vs[i].devices = append(vs[i].devices, name)
			}
		}
	}
}

// learnCrypttab marks the swap areas that get a new random key at every start:
// what fstab swaps to is the device under the key, by golden's name and the
// clone's.
func (vs volumes) learnCrypttab(text string) {
	for s := range strings.SplitSeq(text, "\n") {
		f := crypttabFields(s)
		if !randomKey(f) {
			continue
		}
		v, found := vs.keyed(f)
		for i := range vs {
			if found && v.swap() && vs[i].now.UUID == v.now.UUID {
				vs[i].fresh = true
				vs[i].names = append(slices.Clip(vs[i].names), "/dev/mapper/"+f[0])
			}
		}
	}
}

// keyed is what a line of crypttab with a random key is about: by its name, or
// the only swap area if that is one's that only golden has.
func (vs volumes) keyed(line []string) (volume, bool) {
	if v, ok := vs.find(line[1]); ok {
		return v, true
	}
	var all volumes
	for _, v := range vs {
		if v.swap() {
			all = append(all, v)
		}
	}
	swap := len(line) > 3 && slices.Contains(strings.Split(line[3], ","), "swap")
	if !swap || len(all) != 1 || !isGoldenDisk(line[1]) {
		return volume{}, false
	}
	return all[0], true
}

// splitSpec takes fstab's first field apart; a device has no tag.
func splitSpec(spec string) (tag, val string) {
	if rest, ok := strings.CutPrefix(spec, "/dev/disk/by-"); ok {
		kind, name, _ := strings.Cut(rest, "/")
		switch kind {
		case "uuid", "partuuid", "label", "partlabel":
			return strings.ToUpper(kind), udevName(name) // udev's encoding
		}
		return "", spec
	}
	t, v, ok := strings.Cut(spec, "=")
	if !ok || strings.Contains(t, "/") {
		return "", mangle.Undo(spec)
	}
	return strings.ToUpper(t), strings.Trim(mangle.Undo(v), `"'`)
}

// udevName undoes udev's \x20 for what a name of a link can't have.
func udevName(s string) string {
	const mark = `\x`
	var b strings.Builder
	for {
		i := strings.Index(s, mark)
		if i < 0 || len(s) < i+len(mark)+2 {
			b.WriteString(s)
			return b.String()
		}
		end := i + len(mark) + 2
		if n, err := strconv.ParseUint(s[i+len(mark):end], 16, 8); err == nil {
			b.WriteString(s[:i])
			b.WriteByte(byte(n))
		} else {
			end = i + len(mark)
			b.WriteString(s[:end])
		}
		s = s[end:]
	}
}

// at is the volume mounted there, as a whole or by one of its subvolumes.
func (vs volumes) at(mountPoint string) (volume, bool) {
	for _, v := range vs {
		if v.swap() {
			continue
		}
		if v.old.MountPoint == mountPoint {
			return v, true
		}
		if _, ok := v.subvolume(mountPoint); ok {
			return v, true
		}
	}
	return volume{}, false
}

// subvolume is the one mounted there.
func (v volume) subvolume(mountPoint string) (wire.Subvolume, bool) {
	for _, s := range v.old.Subvolumes {
		if s.Mounted && s.MountPoint == mountPoint {
			return s, true
		}
	}
	return wire.Subvolume{}, false
}

// holds is the volume that has a path's files: that of the longest mount point
// above it.
func (vs volumes) holds(name string) (volume, bool) {
	for {
		if v, ok := vs.at(name); ok {
			return v, true
		}
		if name == "/" || name == "." || name == "" {
			return volume{}, false
		}
		name = path.Dir(name)
	}
}

// stays says whether a name of a device is right on the clone as it is: that
// of an array, a container or a logical volume, which the clone has too.
func (vs volumes) stays(spec string) bool {
	for _, v := range vs {
		if slices.Contains(v.names, spec) {
			return true
		}
	}
	return false
}

// ids are all UUIDs that the clone's files are not to have any more.
func (vs volumes) ids() []id {
	var ids []id
	for _, v := range vs {
		ids = append(ids, id{"UUID", v.old.OldUUID, v.now.UUID}, id{"partition", v.old.OldPartID, v.now.PartID})
	}
	return ids
}

// swaps are the swap areas that keep what is written to them.
func (vs volumes) swaps() volumes {
	var s volumes
	for _, v := range vs {
		if v.swap() && !v.fresh {
			s = append(s, v)
		}
	}
	return s
}
