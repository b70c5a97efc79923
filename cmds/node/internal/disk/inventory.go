package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/kamethod/kamethod/golden/layout"
)

// Device is a disk of this node.
type Device struct {
	Name       string `json:"name"` // "sda", as the kernel calls it
	Path       string `json:"path"` // "/dev/sda"
	Bytes      int64  `json:"bytes"`
	Sector     int64  `json:"sector"` // logical, bytes
	Model      string `json:"model,omitempty"`
	Serial     string `json:"serial,omitempty"`
	Removable  bool   `json:"removable,omitempty"`
	ReadOnly   bool   `json:"read_only,omitempty"`
	Rotational bool   `json:"rotational,omitempty"`
	InUse      string `json:"in_use,omitempty"` // by what; empty: by nothing
}

// isDisk leaves out the block devices that are no disk to clone to: memory,
// loops, what is made of other disks, media, and the boot areas of an eMMC,
// which are small disks of their own.
func isDisk(name string) bool {
	for _, prefix := range []string{"loop", "ram", "zram", "dm-", "md", "sr", "fd", "nbd", "mtdblock", "zd", "drbd"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok && rest != "" && rest[0] >= '0' && rest[0] <= '9' {
			return false
		}
	}
	return !strings.HasPrefix(name, "mmcblk") || !strings.Contains(name, "boot") && !strings.Contains(name, "rpmb")
}

// Inventory lists the disks of this node, by name. sys is where sysfs is
// mounted, "/sys".
func Inventory(sys string) ([]Device, error) { return inventory(sys, nil) }

// inventory lists the disks, and of the devices named in also those that
// usually aren't one: a person or a test may name a loop device.
func inventory(sys string, also []string) ([]Device, error) {
	entries, err := os.ReadDir(filepath.Join(sys, "block"))
	if err != nil {
		return nil, fmt.Errorf("list disks: %w", err)
	}
	used, err := inUse()
	if err != nil {
		return nil, err
	}
	var devs []Device
	for _, e := range entries {
		if !isDisk(e.Name()) && !slices.Contains(also, e.Name()) {
			continue
		}
		d, err := describe(sys, e.Name(), used)
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", e.Name(), err)
		}
		devs = append(devs, d)
	}
	slices.SortFunc(devs, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return devs, nil
}

func describe(sys, name string, used map[string]string) (Device, error) {
	dir := filepath.Join(sys, "block", name)
	d := Device{
		Name: name,
		// sysfs has a ! where a name has a /, as in cciss!c0d0.
		Path:       "/dev/" + strings.ReplaceAll(name, "!", "/"),
		Model:      attr(dir, "device/model"),
		Serial:     attr(dir, "device/serial"),
		Removable:  attr(dir, "removable") == "1",
		ReadOnly:   attr(dir, "ro") == "1",
		Rotational: attr(dir, "queue/rotational") == "1",
	}
	if d.Serial == "" {
		d.Serial = attr(dir, "serial") // virtio-blk has it here
	}
	blocks, err := strconv.ParseInt(attr(dir, "size"), 10, 64)
	if err != nil {
		return d, fmt.Errorf("size: %w", err)
	}
	d.Bytes = blocks * 512 // whatever the sector: Documentation/ABI/stable/sysfs-block
	if d.Sector, err = strconv.ParseInt(attr(dir, "queue/logical_block_size"), 10, 64); err != nil {
		return d, fmt.Errorf("sector size: %w", err)
	}
	d.InUse = user(dir, used)
	return d, nil
}

// user is what uses the disk in dir or one of its partitions.
func user(dir string, used map[string]string) string {
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	dirs := []string{dir}
	for _, p := range parts {
		dirs = append(dirs, filepath.Dir(p))
	}
	for _, d := range dirs {
		if u, ok := used[attr(d, "dev")]; ok {
			return u
		}
		if holders, _ := os.ReadDir(filepath.Join(d, "holders")); len(holders) > 0 {
			return "part of " + holders[0].Name()
		}
	}
	return ""
}

// inUse maps device numbers ("8:1") to what uses them.
func inUse() (map[string]string, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	used := map[string]string{}
	for _, m := range mounts {
		used[fmt.Sprintf("%d:%d", m.Major, m.Minor)] = "mounted on " + m.Mountpoint
	}
	swaps, _ := os.ReadFile("/proc/swaps") // absent without CONFIG_SWAP
	for _, line := range strings.Split(string(swaps), "\n") {
		if name, ok := strings.CutPrefix(strings.SplitN(line, " ", 2)[0], "/dev/"); ok {
			if n := attr("/sys/class/block/"+strings.ReplaceAll(name, "/", "!"), "dev"); n != "" {
				used[n] = "swap"
			}
		}
	}
	return used, nil
}

// attr is a sysfs file's text, empty where there is none.
func attr(dir, name string) string {
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Partition is the path of the disk's partition n.
func (d Device) Partition(n int) string { return layout.PartitionName(d.Path, n) }

// unfit is why the disk can't be cloned to, empty if it can.
func (d Device) unfit() string {
	switch {
	case d.Bytes == 0:
		return "no medium"
	case d.Removable:
		return "removable"
	case d.ReadOnly:
		return "read-only"
	case d.InUse != "":
		return "in use: " + d.InUse
	}
	return ""
}

func (d Device) String() string {
	s := fmt.Sprintf("%s (%d MB", d.Path, d.Bytes>>20)
	for _, more := range []string{d.Model, d.Serial} {
		if more != "" {
			s += ", " + more
		}
	}
	return s + ")"
}
