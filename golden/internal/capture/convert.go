package capture

import (
	"fmt"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// convert gives all disks the table that is wanted (--table), and whatever lies
// on a partition its new number. Disks without a table stay so.
func (d *describer) convert(filesystems []wire.Filesystem) error {
	if d.opt.Table == "" {
		return nil
	}
	renamed := map[string]string{} // partitions
	for i := range d.disks {
		disk := &d.disks[i]
		if disk.Layout.Table == layout.None || disk.Layout.Table == d.opt.Table {
			continue
		}
		l, numbers, err := disk.Layout.To(d.opt.Table)
		if err != nil {
			return fmt.Errorf("--table: disk %s: %w", disk.Name, err)
		}
		for _, p := range disk.Layout.Parts {
			if n := numbers[p.Number]; n > 0 {
				renamed[layout.PartitionName(disk.Name, p.Number)] = layout.PartitionName(disk.Name, n)
				if n != p.Number {
					d.note("disk %s: partition %d becomes %d", disk.Name, p.Number, n)
				}
			}
		}
		disk.Layout = l
		d.note("disk %s: gets a table of kind %s (--table)", disk.Name, d.opt.Table)
		for j := range filesystems {
			renumber(&filesystems[j], i, disk.Name, numbers)
		}
	}
	d.rename(renamed)
	for _, b := range d.opt.Blocks {
		if now := renamed[d.stackName(b)]; now != "" && now != d.stackName(b) {
			return fmt.Errorf("--table and -D %s: the partition becomes %s: give a layout for the clones, with -p, in place of --table", b, now)
		}
	}
	return nil
}

// renumber keeps what golden's own files call the partition.
func renumber(f *wire.Filesystem, disk int, name string, numbers map[int]int) {
	n := numbers[f.Part]
	if f.On != "" || f.Disk != disk || n == 0 || n == f.Part {
		return
	}
	if f.OldDevice == "" {
		f.OldDevice = device(name, f.Part)
	}
	f.Part = n
}

// rename gives what the stack is made of its new names.
func (d *describer) rename(names map[string]string) {
	change := func(list []string) {
		for i, ref := range list {
			if now := names[ref]; now != "" {
				list[i] = now
			}
		}
	}
	for _, a := range d.stack.Arrays {
		change(a.Members)
	}
	for i, c := range d.stack.Crypts {
		if now := names[c.Device]; now != "" {
			d.stack.Crypts[i].Device = now
		}
	}
	for _, g := range d.stack.Groups {
		change(g.Devices)
	}
}
