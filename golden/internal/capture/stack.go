package capture

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
)

// machine is what the running machine's block devices are asked through: a
// recording stands in for sysfs and the programs where a test's kernel has
// neither device mapper nor md.
type machine struct {
	sys string // "/sys"
	run func(ctx context.Context, name string, args ...string) (string, error)
}

// stacked is what lies under golden's file systems, found from the top down.
type stacked struct {
	layout.Stack
	refs  map[string]string // by the kernel's name, "dm-0": the plan's, "vg0/root"
	disks map[string]bool   // under it all: their tables are taken
	whole map[string]bool   // disks that are used as a whole, without a table
}

func newStacked() stacked {
	return stacked{refs: map[string]string{}, disks: map[string]bool{}, whole: map[string]bool{}}
}

// sysName is a device's name in sysfs, where / can't be in one.
func sysName(name string) string { return strings.ReplaceAll(name, "/", "!") }

// attr is a file of a block device in sysfs, empty if there is none.
func (m machine) attr(name string, path ...string) string {
	text, err := os.ReadFile(filepath.Join(append([]string{m.sys, "class/block", sysName(name)}, path...)...))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

// slaves is what a device is made of, by the kernel's names.
func (m machine) slaves(name string) []string {
	entries, _ := os.ReadDir(filepath.Join(m.sys, "class/block", sysName(name), "slaves"))
	var list []string
	for _, e := range entries {
		list = append(list, strings.ReplaceAll(e.Name(), "!", "/"))
	}
	return list
}

// kernelName is what the kernel calls the device behind a path such as
// /dev/mapper/vg0-root: by its number, for not everywhere is that a link.
func (m machine) kernelName(path string) string {
	var st unix.Stat_t
	if unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
		if name := m.byNumber(int(unix.Major(st.Rdev)), int(unix.Minor(st.Rdev))); name != "" {
			return name
		}
	}
	return strings.TrimPrefix(path, "/dev/")
}

// byNumber is the kernel's name of a block device.
func (m machine) byNumber(major, minor int) string {
	to, err := os.Readlink(fmt.Sprintf("%s/dev/block/%d:%d", m.sys, major, minor))
	if err != nil {
		return ""
	}
	return strings.ReplaceAll(filepath.Base(to), "!", "/")
}

// device finds out what a block device is called in the plan, and adds all
// that it is made of to the stack.
func (d *describer) device(ctx context.Context, name string) (string, error) {
	if ref, ok := d.stack.refs[name]; ok {
		if ref == "" {
			return "", fmt.Errorf("%s: is made of itself", name)
		}
		return ref, nil
	}
	d.stack.refs[name] = ""
	ref, err := d.findDevice(ctx, name)
	if err != nil {
		return "", err
	}
	d.stack.refs[name] = ref
	return ref, nil
}

func (d *describer) findDevice(ctx context.Context, name string) (string, error) {
	uuid := d.m.attr(name, "dm/uuid")
	switch {
	case strings.HasPrefix(uuid, "LVM-"):
		return d.volume(ctx, d.m.attr(name, "dm/name"))
	case strings.HasPrefix(uuid, "CRYPT-LUKS"):
		return d.crypt(ctx, name)
	case strings.HasPrefix(uuid, "CRYPT-"):
		return "", fmt.Errorf("mapper/%s: encrypted without a LUKS header: a clone can't be given it", d.m.attr(name, "dm/name"))
	case d.m.attr(name, "dm/name") != "":
		return "", fmt.Errorf("mapper/%s: neither LVM nor LUKS (%s): multipath and the like can't be cloned: give a layout with -p LAYOUT.yaml and a folder with --root", d.m.attr(name, "dm/name"), uuid)
	case d.m.attr(name, "md/level") != "":
		return d.array(ctx, name)
	}
	disk, number := sysDir(filepath.Join(d.m.sys, "class/block", sysName(name)))
	if disk == "" {
		return "", fmt.Errorf("%s: no block device", name)
	}
	if number > 0 && d.m.attr(disk, "md/level") != "" {
		return "", fmt.Errorf("%s: a partition of an array: clones have arrays of partitions only", name)
	}
	d.stack.disks[disk] = true
	if number == 0 {
		d.stack.whole[disk] = true
	}
	return layout.PartitionName(disk, number), nil
}

// volume adds the group of a logical volume, all of it. The name is device
// mapper's, "vg0-root".
func (d *describer) volume(ctx context.Context, name string) (string, error) {
	vg, lv := splitMapper(name)
	if lv == "" {
		return "", fmt.Errorf("mapper/%s: no logical volume's name", name)
	}
	if slices.ContainsFunc(d.stack.Groups, func(g layout.Group) bool { return g.Name == vg }) {
		return vg + "/" + lv, nil
	}
	g, notes, err := readGroup(ctx, d.m, vg)
	if err != nil {
		return "", fmt.Errorf("%s/%s: %w", vg, lv, err)
	}
	for _, n := range notes {
		d.note("%s", n)
	}
	for i, dev := range g.Devices {
		if g.Devices[i], err = d.device(ctx, d.m.kernelName(dev)); err != nil {
			return "", fmt.Errorf("volume group %s: %w", vg, err)
		}
	}
	d.stack.Groups = append(d.stack.Groups, g)
	return vg + "/" + lv, nil
}

// splitMapper undoes device mapper's name of a logical volume, where a hyphen
// stands between the two names, and two for one inside a name (lvm2,
// lib/misc/lvm-string.c: dm_build_dm_name).
func splitMapper(name string) (vg, lv string) {
	m := regexp.MustCompile(`^((?:[^-]|--)+)-((?:[^-]|--)+)$`).FindStringSubmatch(name)
	if m == nil {
		return "", ""
	}
	return strings.ReplaceAll(m[1], "--", "-"), strings.ReplaceAll(m[2], "--", "-")
}

// crypt adds a LUKS container.
func (d *describer) crypt(ctx context.Context, name string) (string, error) {
	c := layout.Crypt{Name: d.m.attr(name, "dm/name")}
	under := d.m.slaves(name)
	if len(under) != 1 {
		return "", fmt.Errorf("mapper/%s: is made of %d devices, want one", c.Name, len(under))
	}
	var err error
	if c.Device, err = d.device(ctx, under[0]); err != nil {
		return "", fmt.Errorf("mapper/%s: %w", c.Name, err)
	}
	out, err := d.m.run(ctx, "cryptsetup", "luksDump", "/dev/"+under[0])
	if err != nil {
		return "", fmt.Errorf("mapper/%s: %w", c.Name, err)
	}
	if c.Version, c.OldUUID, err = parseLUKS(out); err != nil {
		return "", fmt.Errorf("mapper/%s: %w", c.Name, err)
	}
	d.stack.Crypts = append(d.stack.Crypts, c)
	return "mapper/" + c.Name, nil
}

// parseLUKS reads cryptsetup luksDump.
func parseLUKS(out string) (version int, uuid string, err error) {
	m := fields(out, ":")
	version, err = number(m, "Version")
	if err != nil || version < 1 || version > 2 || !regexp.MustCompile(`^[0-9A-Fa-f-]{36}$`).MatchString(m["UUID"]) {
		return 0, "", fmt.Errorf("cryptsetup luksDump: version %q, UUID %q", m["Version"], m["UUID"])
	}
	return version, m["UUID"], nil
}

// array adds a software RAID.
func (d *describer) array(ctx context.Context, name string) (string, error) {
	a, members, err := readArray(ctx, d.m, name)
	if err != nil {
		return "", err
	}
	for _, dev := range members {
		ref, err := d.device(ctx, dev)
		if err != nil {
			return "", fmt.Errorf("array %s: %w", a.Name, err)
		}
		a.Members = append(a.Members, ref)
	}
	d.stack.Arrays = append(d.stack.Arrays, a)
	return a.Name, nil
}

// readArray reads what sysfs and mdadm say of an array; the members are the
// kernel's names, in their order.
func readArray(ctx context.Context, m machine, name string) (layout.Array, []string, error) {
	a := layout.Array{Name: name, Metadata: m.attr(name, "md/metadata_version")}
	fail := func(format string, args ...any) (layout.Array, []string, error) {
		return a, nil, fmt.Errorf("array %s: %w", name, fmt.Errorf(format, args...))
	}
	if strings.HasPrefix(a.Metadata, "external:") {
		return fail("its metadata is %s: the firmware's RAID can't be cloned", strings.TrimPrefix(a.Metadata, "external:"))
	}
	level := m.attr(name, "md/level")
	var err error
	if a.Level, err = strconv.Atoi(strings.TrimPrefix(level, "raid")); err != nil || !slices.Contains([]int{0, 1, 4, 5, 6, 10}, a.Level) {
		return fail("level %q: want raid0, 1, 4, 5, 6 or 10", level)
	}
	if n, err := strconv.ParseInt(m.attr(name, "md/chunk_size"), 10, 64); err == nil && n >= 0 {
		a.Chunk = n
	}
	want, err := strconv.Atoi(m.attr(name, "md/raid_disks"))
	if err != nil || want < 1 || want > 4096 {
		return fail("raid_disks %q", m.attr(name, "md/raid_disks"))
	}
	members := make([]string, want)
	for _, dev := range m.slaves(name) {
		slot, err := strconv.Atoi(m.attr(name, "md/dev-"+sysName(dev), "slot"))
		if err == nil && slot >= 0 && slot < want { // "none": a spare
			members[slot] = dev
		}
	}
	if i := slices.Index(members, ""); i >= 0 {
		return fail("member %d of %d is missing: repair it, or give a layout with -p LAYOUT.yaml", i, want)
	}
	out, err := m.run(ctx, "mdadm", "--detail", "--export", "/dev/"+name)
	if err != nil {
		return fail("%w", err)
	}
	a.OldUUID, a.Name = parseArray(out, name)
	return a, members, nil
}

// parseArray reads mdadm --detail --export: the UUID, and the name that fstab
// has for an array which the kernel calls md127 and downwards, since it was
// assembled by its own name (mdadm(8), --name).
func parseArray(out, kernel string) (uuid, name string) {
	m := fields(out, "=")
	name = kernel
	own := m["MD_DEVNAME"]
	if n, err := strconv.Atoi(strings.TrimPrefix(kernel, "md")); err == nil && n > 63 && regexp.MustCompile(`^[A-Za-z0-9_.+:-]+$`).MatchString(own) {
		name = "md/" + own
		if _, err := strconv.Atoi(own); err == nil {
			name = "md" + own
		}
	}
	if regexp.MustCompile(`^[0-9a-f:]{35}$`).MatchString(m["MD_UUID"]) {
		uuid = m["MD_UUID"]
	}
	return uuid, name
}
