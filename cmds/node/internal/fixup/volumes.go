package fixup

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/golden/wire"
)

// volume is one file system or swap area: what it was and what it is now.
type volume struct {
	old      wire.Filesystem
	now      wire.FilesystemResult
	disk     string // the node's disk that holds it: "/dev/vda"
	devices  []string
	partName string // GPT partition name
}

type volumes []volume

// newVolumes joins the plan and what the node made of it.
func newVolumes(p wire.Plan, d wire.DiskResult) (volumes, error) {
	if len(d.Disks) != len(p.Disks) {
		return nil, fmt.Errorf("the plan has %d disks and the node made %d", len(p.Disks), len(d.Disks))
	}
	if len(d.Filesystems) != len(p.Filesystems) {
		return nil, fmt.Errorf("the plan has %d file systems and the node made %d", len(p.Filesystems), len(d.Filesystems))
	}
	id := regexp.MustCompile(`^[0-9A-Za-z-]{4,64}$`)
	vs := make(volumes, 0, len(p.Filesystems))
	for i, f := range p.Filesystems {
		if f.Disk < 0 || f.Disk >= len(p.Disks) {
			return nil, fmt.Errorf("file system %d: the plan has no disk %d", i, f.Disk)
		}
		now := d.Filesystems[i]
		if !id.MatchString(now.UUID) {
			return nil, fmt.Errorf("file system %d on %s: %q is no UUID", i, now.Device, now.UUID)
		}
		v := volume{old: f, now: now, disk: d.Disks[f.Disk]}
		v.devices = []string{partDevice(p.Disks[f.Disk].Name, f.Part)}
		if f.OldDevice != "" {
			v.devices = append(v.devices, f.OldDevice)
		}
		for _, part := range p.Disks[f.Disk].Layout.Parts {
			if part.Number == f.Part {
				v.partName = part.Name
			}
		}
		vs = append(vs, v)
	}
	return vs, nil
}

// partDevice is the kernel's name of a partition: a disk whose name ends in a
// digit has a p before the number (block/partitions/core.c).
func partDevice(disk string, part int) string {
	if !strings.HasPrefix(disk, "/dev/") {
		disk = "/dev/" + disk
	}
	if c := disk[len(disk)-1]; c >= '0' && c <= '9' {
		disk += "p"
	}
	return disk + strconv.Itoa(part)
}

func (v volume) swap() bool { return v.old.Type == "swap" }

// spec is how the clone's files are to name the volume.
func (v volume) spec() string { return "UUID=" + v.now.UUID }

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
		for _, d := range v.devices {
			if val == d {
				return true
			}
		}
	}
	return false
}

// splitSpec takes fstab's first field apart; a device has no tag.
func splitSpec(spec string) (tag, val string) {
	if rest, ok := strings.CutPrefix(spec, "/dev/disk/by-"); ok {
		kind, name, _ := strings.Cut(rest, "/")
		switch kind {
		case "uuid", "partuuid", "label", "partlabel":
			return strings.ToUpper(kind), unescape(name, `\x`, 16, 2) // udev's encoding
		}
		return "", spec
	}
	t, v, ok := strings.Cut(spec, "=")
	if !ok || strings.Contains(t, "/") {
		return "", unescape(spec, `\`, 8, 3)
	}
	return strings.ToUpper(t), strings.Trim(unescape(v, `\`, 8, 3), `"'`)
}

// unescape undoes \040 (fstab, octal, 3 digits) or \x20 (udev, hex, 2 digits).
func unescape(s, mark string, base, digits int) string {
	var b strings.Builder
	for {
		i := strings.Index(s, mark)
		if i < 0 || len(s) < i+len(mark)+digits {
			b.WriteString(s)
			return b.String()
		}
		num := s[i+len(mark) : i+len(mark)+digits]
		n, err := strconv.ParseUint(num, base, 8)
		if err != nil {
			b.WriteString(s[:i+len(mark)])
			s = s[i+len(mark):]
			continue
		}
		b.WriteString(s[:i])
		b.WriteByte(byte(n))
		s = s[i+len(mark)+digits:]
	}
}

// at is the volume mounted there.
func (vs volumes) at(mountPoint string) (volume, bool) {
	for _, v := range vs {
		if !v.swap() && v.old.MountPoint == mountPoint {
			return v, true
		}
	}
	return volume{}, false
}

// swaps are the swap areas.
func (vs volumes) swaps() volumes {
	var s volumes
	for _, v := range vs {
		if v.swap() {
			s = append(s, v)
		}
	}
	return s
}
