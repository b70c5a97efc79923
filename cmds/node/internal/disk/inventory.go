package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/layout"
)

// Device is a disk of this node.
type Device struct {
	Name       string   `json:"name"` // "sda", "cciss/c0d0": its path without /dev/
	Path       string   `json:"path"` // "/dev/sda"
	Bytes      int64    `json:"bytes"`
	Sector     int64    `json:"sector"` // logical, bytes
	Model      string   `json:"model,omitempty"`
	Serial     string   `json:"serial,omitempty"`
	WWN        string   `json:"wwn,omitempty"`     // "naa.5000c500…", "eui.…"
	ByPath     []string `json:"by_path,omitempty"` // names that udev makes in /dev/disk/by-path, of today and of former days
	Bus        string   `json:"bus,omitempty"`     // "ata", "scsi", "nvme", "virtio", "mmc", "usb"
	Removable  bool     `json:"removable,omitempty"`
	ReadOnly   bool     `json:"read_only,omitempty"`
	Rotational bool     `json:"rotational,omitempty"`
	InUse      string   `json:"in_use,omitempty"`  // by what; empty: by nothing
	Holders    []string `json:"holders,omitempty"` // what is made of it and not in use itself: "md0", "dm-1"; Prepare can take it apart
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
	swaps, err := swapAreas()
	if err != nil {
		return nil, err
	}
	var devs []Device
	for _, e := range entries {
		if !isDisk(e.Name()) && !slices.Contains(also, strings.ReplaceAll(e.Name(), "!", "/")) {
			continue
		}
		d, err := describe(sys, e.Name(), used, swaps)
		if _, gone := os.Stat(filepath.Join(sys, "block", e.Name())); err != nil && errors.Is(gone, os.ErrNotExist) {
			continue // it was pulled out just now
		}
		if err != nil {
			return nil, fmt.Errorf("disk %s: %w", e.Name(), err)
		}
		devs = append(devs, d)
	}
	slices.SortFunc(devs, func(a, b Device) int { return strings.Compare(a.Name, b.Name) })
	return devs, nil
}

func describe(sys, name string, used, swaps map[string]string) (Device, error) {
	dir := filepath.Join(sys, "block", name)
	// sysfs has a ! where a name has a /, as in cciss!c0d0.
	slashed := strings.ReplaceAll(name, "!", "/")
	d := Device{
		Name:       slashed,
		Path:       "/dev/" + slashed,
		Model:      attr(dir, "device/model"),
		Serial:     attr(dir, "device/serial"),
		Removable:  attr(dir, "removable") == "1",
		ReadOnly:   attr(dir, "ro") == "1",
		Rotational: attr(dir, "queue/rotational") == "1",
	}
	if d.Model == "" {
		d.Model = attr(dir, "device/name") // a card's
	}
	if d.Serial == "" {
		d.Serial = attr(dir, "serial") // virtio-blk has it here
	}
	if d.Serial == "" {
		d.Serial = unitSerial(dir)
	}
	if d.WWN = attr(dir, "wwid"); d.WWN == "" { // of an NVMe name space
		d.WWN = attr(dir, "device/wwid") // of a SCSI or ATA disk
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		d.Bus, d.ByPath = bus(real), byPaths(real, attr(dir, "nsid"))
	}
	blocks, err := strconv.ParseInt(attr(dir, "size"), 10, 64)
	if err != nil {
		return d, fmt.Errorf("size: %w", err)
	}
	d.Bytes = blocks * 512 // whatever the sector: Documentation/ABI/stable/sysfs-block
	if d.Sector, err = strconv.ParseInt(attr(dir, "queue/logical_block_size"), 10, 64); err != nil {
		return d, fmt.Errorf("sector size: %w", err)
	}
	d.InUse, d.Holders = users(sys, dir, used, swaps)
	return d, nil
}

// sysName is what sysfs calls the disk.
func (d Device) sysName() string { return strings.ReplaceAll(d.Name, "/", "!") }

// users is what uses the disk in dir, one of its partitions, or something that
// is made of them; and what is made of them, if that is all.
func users(sys, dir string, used, swaps map[string]string) (inUse string, holders []string) {
	above := holdersOf(sys, dir)
	for _, d := range append(nodesOf(dir), above...) {
		if u, ok := used[attr(d, "dev")]; ok {
			if of := filepath.Base(d); slices.Contains(above, d) {
				u = fmt.Sprintf("part of %s, %s", of, u)
			}
			return u, nil
		}
		if path, ok := swaps[attr(d, "dev")]; ok {
			holders = append(holders, swapOn+path)
		}
	}
	for _, h := range above {
		holders = append(holders, filepath.Base(h))
	}
	slices.Sort(holders)
	return "", slices.Compact(holders)
}

// nodesOf are the folders of a disk and its partitions.
func nodesOf(dir string) []string {
	dirs := []string{dir}
	parts, _ := filepath.Glob(filepath.Join(dir, "*", "partition"))
	for _, p := range parts {
		dirs = append(dirs, filepath.Dir(p))
	}
	return dirs
}

// maxHolders bounds the walk upwards: arrays of arrays of arrays.
const maxHolders = 1024

// holdersOf are the folders of all that is made of the disk in dir, and of
// what is made of that, the nearest first.
func holdersOf(sys, dir string) []string {
	var all []string
	todo := nodesOf(dir)
	for i := 0; i < len(todo) && i < maxHolders; i++ {
		entries, _ := os.ReadDir(filepath.Join(todo[i], "holders"))
		for _, e := range entries {
			// An array may have partitions, and a partition's holders lie in its own folder.
			for _, d := range nodesOf(filepath.Join(sys, "block", e.Name())) {
				if !slices.Contains(all, d) {
					all, todo = append(all, d), append(todo, d)
				}
			}
		}
	}
	return all
}

// inUse maps device numbers ("8:1") to what uses them and mustn't be disturbed.
func inUse() (map[string]string, error) {
	mounts, err := mountinfo.GetMounts(nil)
	if err != nil {
		return nil, fmt.Errorf("list mounts: %w", err)
	}
	used := map[string]string{}
	for _, m := range mounts {
		used[fmt.Sprintf("%d:%d", m.Major, m.Minor)] = "mounted on " + m.Mountpoint
		// A btrfs has a number of its own: its device stands in the line.
		if n := attr("/sys/class/block/"+strings.ReplaceAll(strings.TrimPrefix(m.Source, "/dev/"), "/", "!"), "dev"); n != "" && strings.HasPrefix(m.Source, "/dev/") {
			used[n] = "mounted on " + m.Mountpoint
		}
	}
	return used, nil
}

// swapAreas maps device numbers to the paths of swap areas in use.
func swapAreas() (map[string]string, error) {
	areas := map[string]string{}
	swaps, err := os.ReadFile("/proc/swaps")
	if errors.Is(err, os.ErrNotExist) { // without CONFIG_SWAP
		return areas, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list swap areas: %w", err)
	}
	for line := range strings.Lines(string(swaps)) {
		path := strings.SplitN(line, " ", 2)[0]
		var st unix.Stat_t
		if strings.HasPrefix(path, "/dev/") && unix.Stat(path, &st) == nil {
			areas[fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))] = path
		}
	}
	return areas, nil
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
	case d.Sector != 512 && d.Sector != 4096:
		return fmt.Sprintf("sectors of %d bytes", d.Sector)
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
