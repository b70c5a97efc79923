package cook

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/cmds/node/internal/disk"
	"github.com/kamethod/kamethod/golden/archive"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// place is where one copy goes on this node.
type place struct {
	wire.Copy
	path   string // the device, the file or the folder
	device bool
	disk   string // the device's disk: "/dev/vda"
	whole  bool   // the device is a disk
	below  bool   // a mount of the plan: it is there when that is
}

// places finds where every copy goes, and what is mounted, before anything is
// written: devices that are there, large enough and nobody else's, files for
// which there is room.
func places(plan wire.Plan, root string, say func(string)) ([]place, []wire.Mount, error) {
	devs, err := disk.Inventory("/sys")
	if err != nil {
		return nil, nil, err
	}
	mounts, err := mountsHere(plan, devs)
	if err != nil {
		return nil, nil, err
	}
	var all []place
	at := map[string]string{}
	for _, c := range plan.Copies {
		if err := (archive.Form{Archive: c.Archive, Packing: c.Packing}).Check(); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", c.To, err)
		}
		if !path.IsAbs(c.To) || path.Clean(c.To) != c.To || c.Bytes < 0 {
			return nil, nil, fmt.Errorf("%q: want a whole path", c.To)
		}
		p := place{Copy: c, path: c.To}
		if strings.HasPrefix(c.To, "/dev/") {
			err = p.findDevice(devs, say)
		} else {
			err = p.findFile(plan, root)
		}
		if err != nil {
			return nil, nil, err
		}
		if other := at[p.path]; other != "" && (p.device || p.Archive == "") {
			return nil, nil, fmt.Errorf("%s and %s are both %s here", other, c.To, p.path)
		}
		at[p.path] = c.To
		all = append(all, p)
	}
	return all, mounts, room(all)
}

// findDevice takes a device of that name. A disk of another name is taken
// where the node has one only, as a clone does.
func (p *place) findDevice(devs []disk.Device, say func(string)) error {
	if p.path = here(p.To, devs); p.path != p.To {
		say(fmt.Sprintf("%s is called %s here, on this machine's only disk", p.To, p.path))
	}
	st, err := os.Stat(p.path)
	if errors.Is(err, os.ErrNotExist) {
		if on, _ := diskOf(p.path); !known(on, devs) {
			return fmt.Errorf("%s: this machine has no disk %s, it has %s", p.To, on, list(devs))
		}
		return fmt.Errorf("%s: this machine has no %s, it has %s: make that partition first, or copy to the whole disk", p.To, p.path, list(devs))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", p.To, err)
	}
	if st.Mode().Type() != os.ModeDevice {
		return fmt.Errorf("%s: is no disk or partition", p.path)
	}
	p.device = true
	on, part := diskOf(p.path)
	for _, d := range devs {
		if d.Name == on {
			p.disk, p.whole = d.Path, part == 0
		}
	}
	return p.take()
}

// here is what a disk or partition is called on this machine: as golden calls
// it, but on the only disk where golden's is the first of its kind and there is
// none of that name.
func here(dev string, devs []disk.Device) string {
	if _, err := os.Stat(dev); err == nil {
		return dev
	}
	return instead(dev, devs)
}

// firsts are the first disks of their kinds. Only these are the only disk under
// another name: who asks for a second disk doesn't mean the first.
const firsts = "sda hda vda xvda nvme0n1 mmcblk0"

func instead(dev string, devs []disk.Device) string {
	on, part := diskOf(dev)
	fixed := slices.DeleteFunc(slices.Clone(devs), func(d disk.Device) bool { return d.Removable || d.ReadOnly || d.Bus == "usb" })
	if len(fixed) != 1 || known(on, devs) || !slices.Contains(strings.Fields(firsts), on) {
		return dev
	}
	if part > 0 {
		return "/dev/" + layout.PartitionName(fixed[0].Name, part)
	}
	return fixed[0].Path
}

// diskOf takes the name of a device apart, into that of the disk and the
// number of the partition.
func diskOf(dev string) (string, int) {
	name := strings.TrimPrefix(dev, "/dev/")
	if on, part := layout.SplitPartition(name); part > 0 {
		return on, part
	}
	return name, 0
}

func known(name string, devs []disk.Device) bool {
	return slices.ContainsFunc(devs, func(d disk.Device) bool { return d.Name == name })
}

// mountsHere are the plan's mounts with the devices of this machine. Their
// partitions may come with what is written, their disks not.
func mountsHere(plan wire.Plan, devs []disk.Device) ([]wire.Mount, error) {
	all := slices.Clone(plan.Mounts)
	for i, m := range all {
		all[i].Device = here(m.Device, devs)
		_, err := os.Stat(all[i].Device)
		if on, part := diskOf(all[i].Device); errors.Is(err, os.ErrNotExist) && part > 0 && !known(on, devs) {
			return nil, fmt.Errorf("mount %s for %s: this machine has no disk %s, it has %s", m.Device, m.At, on, list(devs))
		}
	}
	return all, nil
}

func list(devs []disk.Device) string {
	var all []string
	for _, d := range devs {
		all = append(all, d.Path)
		parts, _ := filepath.Glob(filepath.Join("/sys/block", strings.ReplaceAll(d.Name, "/", "!"), "*", "partition"))
		for _, p := range parts {
			all = append(all, "/dev/"+filepath.Base(filepath.Dir(p)))
		}
	}
	if len(all) == 0 {
		return "no disk"
	}
	return strings.Join(all, " ")
}

// take sees that the device is nobody else's, and large enough. What lies on
// a disk that is written as a whole is taken apart first; nothing is lost by
// that.
func (p *place) take() error {
	f, err := os.OpenFile(p.path, os.O_RDWR|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) && p.whole {
		if err := disk.Release(p.path); err != nil {
			return fmt.Errorf("%s is in use: %w", p.path, err)
		}
		f, err = os.OpenFile(p.path, os.O_RDWR|unix.O_EXCL, 0)
	}
	if err != nil {
		return fmt.Errorf("%s can't be written: %w", p.path, err)
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return fmt.Errorf("%s: %w", p.path, err)
	}
	if size < p.Bytes {
		return fmt.Errorf("%s has %d bytes, %s has %d: too small; nothing was written", p.path, size, p.From, p.Bytes)
	}
	return nil
}

// findFile takes a file or a folder: below a mount of the plan, else in
// memory, which is all that stage 2 has.
func (p *place) findFile(plan wire.Plan, root string) error {
	for _, m := range plan.Mounts {
		if m.At == "/" || p.To == m.At || strings.HasPrefix(p.To, m.At+"/") {
			p.path, p.below = filepath.Join(root, p.To), true
			return nil
		}
	}
	for _, dir := range []string{"/proc", "/sys", "/dev", "/run"} {
		if p.To == dir || strings.HasPrefix(p.To, dir+"/") {
			return fmt.Errorf("%s: is the kernel's own, or stage 2's", p.To)
		}
	}
	if p.To == "/" {
		return errors.New("/: is stage 2 itself here: mount the node's own root there (--mount sda1=/)")
	}
	st, err := os.Stat(p.To)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", p.To, err)
	case p.Archive != "" && !st.IsDir():
		return fmt.Errorf("%s: is no folder, and %s is unpacked into one", p.To, p.From)
	case p.Archive == "" && !st.Mode().IsRegular():
		return fmt.Errorf("%s: is no file", p.To)
	}
	return nil
}

// room sees whether what goes into memory fits, by file system.
func room(all []place) error {
	need := map[unix.Fsid]int64{}
	for _, p := range all {
		if p.device || p.below {
			continue
		}
		var st unix.Statfs_t
		dir := p.path
		for {
			err := unix.Statfs(dir, &st)
			if err == nil {
				break
			}
			if dir == "/" || !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTDIR) {
				return fmt.Errorf("room for %s: %s: %w", p.To, dir, err)
			}
			dir = filepath.Dir(dir)
		}
		need[st.Fsid] += p.Bytes
		if free := int64(st.Bavail) * st.Bsize; need[st.Fsid] > free {
			return fmt.Errorf("%s has %d bytes with all that goes to the same place, and this machine has room for %d there, in its memory; nothing was written", p.From, need[st.Fsid], free)
		}
	}
	return nil
}
