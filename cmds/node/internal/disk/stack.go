package disk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// builder makes what the plan's stack says, one thing after the other.
type builder struct {
	plan wire.Plan
	a    Assignment
	opt  Options
	made []wire.StackResult
}

// makeStack makes arrays, containers and volume groups of the partitions that
// are there, each with an identifier of its own, and returns them in the order
// in which they were made.
func makeStack(ctx context.Context, plan wire.Plan, a Assignment, opt Options) ([]wire.StackResult, error) {
	b := &builder{plan: plan, a: a, opt: opt}
	for _, name := range a.order {
		var err error
		switch t := thingOf(a.stack, name); {
		case t.array != nil:
			err = b.array(ctx, *t.array)
		case t.crypt != nil:
			err = b.crypt(ctx, *t.crypt)
		case t.group != nil:
			err = b.group(ctx, *t.group)
		}
		if err != nil {
			return b.made, fmt.Errorf("make %s: %w", name, err)
		}
	}
	return b.made, nil
}

// device is the node's device for golden's name.
func (b *builder) device(name string) (string, error) {
	return deviceOf(b.plan, b.a.Devices, b.made, name)
}

func (b *builder) devices(names []string) ([]string, error) {
	var all []string
	for _, n := range names {
		dev, err := b.device(n)
		if err != nil {
			return nil, err
		}
		all = append(all, dev)
	}
	return all, nil
}

// deviceOf finds what a name of the plan is on this node.
func deviceOf(plan wire.Plan, devs []Device, made []wire.StackResult, name string) (string, error) {
	if i := slices.IndexFunc(made, func(r wire.StackResult) bool { return r.Name == name && r.Device != "" }); i >= 0 {
		return made[i].Device, nil
	}
	if i, n, ok := plan.Place(name); ok && i < len(devs) {
		return devs[i].Partition(n), nil
	}
	return "", fmt.Errorf("%s: it was not made", name)
}

func (b *builder) done(ctx context.Context, name, dev, id string) error {
	b.made = append(b.made, wire.StackResult{Name: name, Device: dev, UUID: id})
	if dev == "" {
		return nil
	}
	if err := waitNode(ctx, dev); err != nil {
		return err
	}
	n, err := sizeOf(dev)
	if err == nil && n == 0 {
		err = fmt.Errorf("%s has no bytes", dev)
	}
	return err
}

// array makes a software RAID. What its members' blocks hold before is of no
// account, so that they have to be made alike (resync); the kernel does it
// while the clone is written and afterwards, and nobody waits. Its home host is
// "any": whoever has the disks may assemble it under this name.
func (b *builder) array(ctx context.Context, r layout.Array) error {
	members, err := b.devices(r.Members)
	if err != nil {
		return err
	}
	u, err := newUUID("")
	if err != nil {
		return err
	}
	flat := strings.ReplaceAll(u, "-", "")
	id := flat[:8] + ":" + flat[8:16] + ":" + flat[16:24] + ":" + flat[24:] // as mdadm prints it
	b.opt.step("making array %s, level %d, of %s", r.Name, r.Level, strings.Join(members, ", "))
	load(ctx, "md_mod", map[int]string{0: "raid0", 1: "raid1", 4: "raid456", 5: "raid456", 6: "raid456", 10: "raid10"}[r.Level])
	dev := "/dev/" + r.Name
	args := []string{"--create", dev, "--run", "--homehost=any", "--uuid=" + id,
		fmt.Sprintf("--level=%d", r.Level), fmt.Sprintf("--raid-devices=%d", len(members))}
	if r.Metadata != "" {
		args = append(args, "--metadata="+r.Metadata)
	}
	if r.Chunk > 0 && r.Level != 1 {
		args = append(args, fmt.Sprintf("--chunk=%dK", r.Chunk>>10))
	}
	if name, ok := strings.CutPrefix(r.Name, "md/"); ok {
		args = append(args, "--name="+name)
	}
	if err := run(ctx, "", "mdadm", append(args, members...)...); err != nil {
		return err
	}
	return b.done(ctx, r.Name, dev, id)
}

// crypt makes a LUKS container with a key of its own, and opens it. The
// passphrase goes through a pipe: arguments are everybody's to read.
func (b *builder) crypt(ctx context.Context, c layout.Crypt) error {
	dev, err := b.device(c.Device)
	if err != nil {
		return err
	}
	pass, err := passphrase(b.plan, c.Name)
	if err != nil {
		return err
	}
	id, err := newUUID("")
	if err != nil {
		return err
	}
	b.opt.step("making LUKS container %s on %s", c.Name, dev)
	load(ctx, "dm_mod", "dm_crypt", "algif_skcipher")
	args := []string{"luksFormat", "--batch-mode", "--key-file=-", "--uuid=" + id}
	switch {
	case c.Version == 1:
		args = append(args, "--type=luks1")
	case slices.Contains(below(b.plan.Stack, bootOn(b.plan)), "mapper/"+c.Name):
		args = append(args, "--type=luks2", "--pbkdf=pbkdf2")
	default:
		args = append(args, "--type=luks2", fmt.Sprintf("--pbkdf-memory=%d", pbkdfMemory(memAvailable())))
	}
	if err := run(ctx, string(pass), "cryptsetup", append(args, dev)...); err != nil {
		return err
	}
	if err := run(ctx, string(pass), "cryptsetup", "open", "--type=luks", "--batch-mode", "--key-file=-", dev, c.Name); err != nil {
		return err
	}
	return b.done(ctx, "mapper/"+c.Name, "/dev/mapper/"+c.Name, id)
}

// bootOn is what the file system with /boot is on, as the plan names it.
func bootOn(plan wire.Plan) string {
	on := ""
	for _, fs := range plan.Filesystems {
		for _, m := range mountPoints(fs) {
			if m.at == "/boot" {
				return onName(plan, fs)
			}
			if m.at == "/" {
				on = onName(plan, fs)
			}
		}
	}
	return on
}

// below is all of the stack that something is made of, and itself. A boot
// loader has to open the containers among it: GRUB knows PBKDF2 alone, until
// 2.12 at least (its manual, "cryptomount").
func below(s layout.Stack, name string) []string {
	all := []string{name}
	for i := 0; i < len(all); i++ {
		group, _, _ := strings.Cut(all[i], "/")
		var of []string
		switch t := thingOf(s, all[i]); {
		case t.array != nil:
			of = t.array.Members
		case t.crypt != nil:
			of = []string{t.crypt.Device}
		case t.group != nil:
			of = t.group.Devices
		case group != all[i]: // a volume, of a group
			of = []string{group}
		}
		for _, n := range of {
			if !slices.Contains(all, n) {
				all = append(all, n)
			}
		}
	}
	return all
}

// pbkdfMemory is how many KiB it shall take to try a passphrase: cryptsetup's
// own 1 GiB, but a quarter of what is free at most. A machine that can open it
// here, where all of stage 2 is in memory, can open it when it boots.
func pbkdfMemory(available int64) int64 {
	return min(max(available/4>>10, 32<<10), 1<<20)
}

// memAvailable is what the kernel can give to programs, in bytes.
func memAvailable() int64 {
	text, _ := os.ReadFile("/proc/meminfo")
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			return n << 10
		}
	}
	return 0
}

// group makes a volume group and its volumes, those with stripes first: the
// others take whatever is left, wherever it is.
func (b *builder) group(ctx context.Context, g layout.Group) error {
	pvs, err := b.devices(g.Devices)
	if err != nil {
		return err
	}
	b.opt.step("making volume group %s of %s", g.Name, strings.Join(pvs, ", "))
	load(ctx, "dm_mod", "dm_mirror")
	config := lvmConfig(pvs)
	lvm := func(args ...string) error {
		return run(ctx, "", "lvm", append([]string{args[0], "--config", config}, args[1:]...)...)
	}
	var sizes []int64
	for _, pv := range pvs {
		if err := lvm("pvcreate", "-ff", "-y", "--dataalignment", "1m", pv); err != nil {
			return err
		}
		n, err := sizeOf(pv)
		if err != nil {
			return err
		}
		sizes = append(sizes, n)
	}
	volumes, err := g.Fit(sizes)
	if err != nil {
		return err
	}
	if err := lvm(append([]string{"vgcreate", "-y", "-s", fmt.Sprintf("%db", g.ExtentSize()), g.Name}, pvs...)...); err != nil {
		return err
	}
	id, err := lvmUUID(ctx, config, "vgs", "vg_uuid", g.Name)
	if err != nil {
		return err
	}
	if err := b.done(ctx, g.Name, "", id); err != nil {
		return err
	}
	order := make([]int, len(g.Volumes))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, k int) int { return max(g.Volumes[k].Stripes, 1) - max(g.Volumes[i].Stripes, 1) })
	for _, i := range order {
		if err := b.volume(ctx, lvm, config, g, i, volumes[i]); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) volume(ctx context.Context, lvm func(...string) error, config string, g layout.Group, i int, bytes int64) error {
	v := g.Volumes[i]
	name := g.Name + "/" + v.Name
	b.opt.step("making volume %s, %d MB", name, bytes>>20)
	// -W: what other things were known by on these extents goes.
	args := []string{"lvcreate", "-y", "-W", "y", "-Z", "y", "-n", v.Name, "-l", strconv.FormatInt(bytes/g.ExtentSize(), 10)}
	if v.Stripes > 1 {
		args = append(args, "-i", strconv.Itoa(v.Stripes))
	}
	if err := lvm(append(args, g.Name)...); err != nil {
		return err
	}
	id, err := lvmUUID(ctx, config, "lvs", "lv_uuid", name)
	if err != nil {
		return err
	}
	return b.done(ctx, name, "/dev/"+name, id)
}

// lvmConfig has LVM look at these devices alone, do without a udev, make the
// nodes itself, and write no backup of what it does, which nobody would keep.
func lvmConfig(pvs []string) string {
	var accept []string
	for _, pv := range pvs {
		accept = append(accept, `"a|^`+strings.NewReplacer(".", "[.]", "+", "[+]").Replace(pv)+`$|"`)
	}
	filter := "[" + strings.Join(append(accept, `"r|.*|"`), ",") + "]"
	return "devices { dir=\"/dev\" scan=\"/dev\" use_devicesfile=0 obtain_device_list_from_udev=0 external_device_info_source=\"none\" allow_mixed_block_sizes=1 filter=" + filter + " global_filter=" + filter + " } " +
		"activation { udev_sync=0 udev_rules=0 verify_udev_operations=0 monitoring=0 } backup { backup=0 archive=0 } global { use_lvmpolld=0 use_lvmlockd=0 }"
}

func lvmUUID(ctx context.Context, config, verb, field, name string) (string, error) {
	out, err := output(ctx, "lvm", verb, "--config", config, "--noheadings", "-o", field, name)
	if err != nil {
		return "", err
	}
	id := strings.TrimSpace(string(out))
	if len(id) != 38 || strings.ContainsAny(id, " \n") { // 32 characters and 6 hyphens
		return "", fmt.Errorf("lvm %s %s: %q is no UUID", verb, name, id)
	}
	return id, nil
}

// load asks for modules. One that is built in, or not there, shows when it is
// needed.
func load(ctx context.Context, modules ...string) {
	for _, m := range modules {
		if m != "" {
			_ = run(ctx, "", "modprobe", m)
		}
	}
}

// waitNode waits until a block device is there: devtmpfs and the programs make
// them at once, a udev takes its time.
func waitNode(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		var st unix.Stat_t
		err := unix.Stat(path, &st)
		if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: not there after 10 s: %w", path, ctx.Err())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// sectorOf is the logical block size of a device.
func sectorOf(path string) (int64, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return 0, err
	}
	var st unix.Stat_t
	if err := unix.Stat(real, &st); err != nil {
		return 0, fmt.Errorf("%s: %w", real, err)
	}
	dir, err := filepath.EvalSymlinks(fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev)))
	if err != nil {
		return 0, fmt.Errorf("sector size of %s: %w", path, err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} { // a partition's queue is its disk's
		if n, err := strconv.ParseInt(attr(d, "queue/logical_block_size"), 10, 64); err == nil {
			return n, nil
		}
	}
	return 0, fmt.Errorf("sector size of %s: not in %s", path, dir)
}
