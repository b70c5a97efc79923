package capture

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
)

// CheckDisk refuses what is no whole disk of the running machine.
func CheckDisk(name string) error { return machine{sys: "/sys"}.checkDisk(name) }

func (m machine) checkDisk(name string) error {
	dir := filepath.Join(m.sys, "class/block", sysName(name))
	switch {
	case !exists(dir):
		return fmt.Errorf("%s: the kernel has no such disk", name)
	case exists(filepath.Join(dir, "partition")):
		return fmt.Errorf("%s is a partition whose name doesn't tell its disk", name)
	case exists(filepath.Join(dir, "dm")), exists(filepath.Join(dir, "md")):
		return fmt.Errorf("%s is no disk", name)
	}
	return nil
}

// missing says whether the plan's disks and stack lack what a part of the
// stack is to be made of. A desc's linux partition under the number is not it:
// who wrote that wants files there.
func (d *describer) missing(ref string) bool {
	if slices.Contains(Made(d.stack.Stack), ref) {
		return false
	}
	disk, number := layout.SplitPartition(ref)
	if number == 0 {
		disk = ref
	}
	i := d.diskIndex(disk)
	if d.laid.disks[disk] || d.laid.whole {
		return true // the file has the say
	}
	if i < 0 {
		return !d.stack.disks[disk] // golden's own table will be taken
	}
	if number == 0 {
		return d.disks[i].Layout.Table != layout.None
	}
	for _, p := range d.disks[i].Layout.Parts {
		if p.Number == number {
			return useOf(p) != others
		}
	}
	return true
}

// dropStack leaves out of the stack what the descs have no place for, so that
// a machine with volumes can become clones with plain partitions.
func (d *describer) dropStack() {
	lacks := func(what string, of []string) bool {
		i := slices.IndexFunc(of, d.missing)
		if i >= 0 {
			d.note("%s is not made: the layout has no place for what it is made of here, %s", what, of[i])
		}
		return i >= 0
	}
	// In the order in which they are made: what was made of one that is left
	// out is left out too.
	s := &d.stack.Stack
	s.Arrays = slices.DeleteFunc(s.Arrays, func(a layout.Array) bool { return lacks("array "+a.Name, a.Members) })
	s.Crypts = slices.DeleteFunc(s.Crypts, func(c layout.Crypt) bool { return lacks("mapper/"+c.Name, []string{c.Device}) })
	s.Groups = slices.DeleteFunc(s.Groups, func(g layout.Group) bool { return lacks("volume group "+g.Name, g.Devices) })
}

// pruneStack leaves out of the stack what none of the wants lies on: it was
// looked at for one that is left out.
func (d *describer) pruneStack(wants []want) {
	used := map[string]bool{}
	var mark func(name string)
	mark = func(name string) {
		if used[name] {
			return
		}
		used[name] = true
		for _, ref := range d.madeOf(name) {
			mark(ref)
		}
	}
	for _, w := range wants {
		mark(w.On)
	}
	s := &d.stack.Stack
	s.Arrays = slices.DeleteFunc(s.Arrays, func(a layout.Array) bool { return !used[a.Name] })
	s.Crypts = slices.DeleteFunc(s.Crypts, func(c layout.Crypt) bool { return !used["mapper/"+c.Name] })
	s.Groups = slices.DeleteFunc(s.Groups, func(g layout.Group) bool {
		return !slices.ContainsFunc(g.Volumes, func(v layout.Volume) bool { return used[g.Name+"/"+v.Name] })
	})
}

// under is the disks that wants and the stack lie on.
func (d *describer) under(wants []want) map[string]bool {
	disks := map[string]bool{}
	for _, w := range wants {
		if w.disk != "" {
			disks[w.disk] = true
		}
	}
	there := Made(d.stack.Stack)
	for _, ref := range members(d.stack.Stack) {
		if slices.Contains(there, ref) {
			continue
		}
		disk, number := layout.SplitPartition(ref)
		if number == 0 {
			disk = ref
		}
		disks[disk] = true
	}
	return disks
}

// stackName is what the plan calls a device that an fstab or a person names:
// "/dev/mapper/vg0-root" and "/dev/vg0/root" are vg0/root, "/dev/md/0" is md0.
func (d *describer) stackName(spec string) string {
	name := strings.TrimPrefix(spec, "/dev/")
	if dm, ok := strings.CutPrefix(name, "mapper/"); ok {
		if d.hasPlace(name) {
			return name
		}
		if vg, lv := splitMapper(dm); lv != "" {
			return vg + "/" + lv
		}
		return name
	}
	if n, ok := strings.CutPrefix(name, "md/"); ok && n != "" && strings.Trim(n, "0123456789") == "" {
		return "md" + n
	}
	return name
}

// stacked says whether a name is one that is made of partitions, by its form.
func isStacked(name string) bool {
	disk, n := layout.SplitPartition(name)
	if n > 0 || strings.HasPrefix(name, "cciss/") || strings.HasPrefix(name, "ida/") || strings.HasPrefix(name, "disk/") {
		return strings.HasPrefix(disk, "md")
	}
	return strings.HasPrefix(name, "md") || strings.HasPrefix(name, "dm-") || strings.Count(name, "/") == 1
}
