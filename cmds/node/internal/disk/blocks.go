package disk

import (
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// maxBlocks bounds how many partitions a plan copies as blocks: a GPT has 128.
const maxBlocks = 128

// checkBlocks refuses blocks that have no place, or too small a one, or one
// that something else is to be on.
func checkBlocks(plan wire.Plan, at map[string]room) error {
	if len(plan.Blocks) > maxBlocks {
		return fmt.Errorf("%d partitions as blocks, at most %d", len(plan.Blocks), maxBlocks)
	}
	disks := map[string]layout.Disk{}
	for _, d := range plan.Disks {
		disks[d.Name] = d.Layout
	}
	used, err := plan.Stack.Uses(disks)
	if err != nil {
		return err
	}
	for _, fs := range plan.Filesystems {
		used[onName(plan, fs)] = "file system " + title(fs)
	}
	for _, b := range plan.Blocks {
		if b.Bytes <= 0 {
			return fmt.Errorf("blocks of %s: %d bytes", b.On, b.Bytes)
		}
		if by := used[b.On]; by != "" {
			return fmt.Errorf("blocks of %s: something else is to be on it as well: %s", b.On, by)
		}
		used[b.On] = "blocks"
		r, ok := at[b.On]
		switch {
		case !ok && slices.ContainsFunc(plan.Disks, func(d wire.DiskPlan) bool { return d.Name == b.On }):
			return fmt.Errorf("blocks of %s: the disk as a whole, but it gets partitions", b.On)
		case !ok:
			return fmt.Errorf("blocks of %s: nothing of the plan is called so that could hold them", b.On)
		case r.bytes < b.Bytes:
			return fmt.Errorf("blocks of %s: it gets %d bytes here, golden's has %d: it can't be made smaller", b.On, r.bytes, b.Bytes)
		}
	}
	return nil
}

// onName is what a file system is on, as the plan names it.
func onName(plan wire.Plan, fs wire.Filesystem) string {
	if fs.On != "" || fs.Disk < 0 || fs.Disk >= len(plan.Disks) {
		return fs.On
	}
	return layout.PartitionName(plan.Disks[fs.Disk].Name, fs.Part)
}

// diskOf finds the disk and the partition of the plan that a name is of.
func diskOf(plan wire.Plan, name string) (disk, part int, ok bool) {
	for i, d := range plan.Disks {
		if d.Name == name {
			return i, 0, true
		}
		for _, p := range d.Layout.Parts {
			if layout.PartitionName(d.Name, p.Number) == name {
				return i, p.Number, true
			}
		}
	}
	return 0, 0, false
}

// placeBlocks is the device of each of the plan's blocks, when tables and
// stack are made.
func placeBlocks(plan wire.Plan, devs []Device, stack []wire.StackResult) ([]string, error) {
	var all []string
	for _, b := range plan.Blocks {
		path := ""
		if i := slices.IndexFunc(stack, func(r wire.StackResult) bool { return r.Name == b.On }); i >= 0 {
			path = stack[i].Device
		} else if i, n, ok := diskOf(plan, b.On); ok && i < len(devs) {
			path = devs[i].Partition(n)
		}
		if path == "" {
			return nil, fmt.Errorf("blocks of %s: it was not made", b.On)
		}
		size, err := sizeOf(path)
		if err != nil {
			return nil, fmt.Errorf("blocks of %s: %w", b.On, err)
		}
		if size < b.Bytes {
			return nil, fmt.Errorf("blocks of %s: %s has %d bytes, golden's has %d: it can't be made smaller", b.On, path, size, b.Bytes)
		}
		all = append(all, path)
	}
	return all, nil
}

func sizeOf(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return f.Seek(0, io.SeekEnd)
}

// signatureAt is where an MBR keeps the disk's signature, 4 bytes, and two
// more that are zeros or mark it as write protected (Microsoft's MBR since
// Windows NT). They are the clone's own: two disks of one signature are not
// both put to use by Windows, and a PARTUUID is made of it.
const signatureAt = 440

// writeBootCode writes what comes before the table and the signature.
func writeBootCode(path string, code []byte) error {
	if len(code) == 0 {
		return nil
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("boot code of %s: %w", path, err)
	}
	defer f.Close()
	if _, err := f.WriteAt(code[:min(len(code), signatureAt)], 0); err != nil {
		return fmt.Errorf("boot code of %s: %w", path, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("boot code of %s: %w", path, err)
	}
	return f.Close()
}

func checkBootCode(plan wire.Plan) error {
	for _, d := range plan.Disks {
		if n := len(d.BootCode); n != 0 && n != wire.BootCodeSize {
			return fmt.Errorf("boot code for %s: %d bytes, want %d", d.Name, n, wire.BootCodeSize)
		}
		if len(d.BootCode) > 0 && d.Layout.Table == layout.None {
			return fmt.Errorf("boot code for %s: the disk gets no table, all of it is something else's", d.Name)
		}
	}
	return nil
}
