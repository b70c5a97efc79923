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

// placeBlocks is the device of each of the plan's blocks, when tables and
// stack are made.
func placeBlocks(plan wire.Plan, devs []Device, stack []wire.StackResult) ([]string, error) {
	var all []string
	for _, b := range plan.Blocks {
		path := ""
		if i := slices.IndexFunc(stack, func(r wire.StackResult) bool { return r.Name == b.On }); i >= 0 {
			path = stack[i].Device
		} else if i, n, ok := plan.Place(b.On); ok && i < len(devs) {
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
