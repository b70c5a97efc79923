package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// printPlan says what the clones will be, before anything is started.
func printPlan(w io.Writer, d *golden.Described) {
	fmt.Fprintln(w, "The clones will have:")
	for _, disk := range d.Plan.Disks {
		printDisk(w, disk)
	}
	printStack(w, d.Plan.Stack)
	for _, fs := range d.Plan.Filesystems {
		printFilesystem(w, d.Plan, fs)
	}
	for _, b := range d.Plan.Blocks {
		fmt.Fprintf(w, "  %-5s blocks       on %s, %s, %s\n", cmp.Or(b.Type, "?"), b.On, size(b.Bytes), b.How)
	}
	if l := d.Plan.Loader; l.Kind != "" {
		fmt.Fprintf(w, "  boot loader %s%s\n", l.Kind, listed(", modules for the initrd: ", l.With))
	}
	for _, n := range d.Notes {
		fmt.Fprintln(w, "  note:", n)
	}
}

// listed is a list after its title; nothing where it is empty.
func listed(title string, list []string) string {
	if len(list) == 0 {
		return ""
	}
	return title + strings.Join(list, ", ")
}

func printDisk(w io.Writer, disk wire.DiskPlan) {
	boot := ""
	if len(disk.BootCode) > 0 {
		boot = ", with a boot record"
	}
	fmt.Fprintf(w, "  disk %s, %s%s%s\n", disk.Name, tableName(disk.Layout.Table), boot, hints(disk.Match))
	for _, p := range disk.Layout.Parts {
		kind := ""
		if p.Kind == layout.Logical {
			kind = "logical "
		}
		size := sizeOf(layout.Volume{Size: p.Size, Percent: p.Percent, Min: p.Min, Fill: p.Fill})
		if p.Kind == layout.Extended {
			size = "around the logical ones"
		}
		fmt.Fprintf(w, "    %s %s%s %s\n", layout.PartitionName(disk.Name, p.Number), kind, p.TypeWord(disk.Layout.Table), size)
	}
}

func tableName(t layout.Table) string {
	switch t {
	case layout.None:
		return "used as a whole"
	case layout.MBR:
		return "mbr"
	}
	return string(t)
}

// hints is which disk of a node it will be; nothing where that is left to the
// node.
func hints(m layout.Match) string {
	var words []string
	for _, h := range []struct{ word, value string }{
		{"name", m.Name}, {"model", m.Model}, {"serial", m.Serial}, {"wwn", m.WWN}, {"path", m.Path}, {"bus", m.Bus},
	} {
		if h.value != "" {
			words = append(words, h.word+" "+h.value)
		}
	}
	if m.MinBytes > 0 {
		words = append(words, "at least "+size(m.MinBytes))
	}
	if m.MaxBytes > 0 {
		words = append(words, "at most "+size(m.MaxBytes))
	}
	if m.Rotational != nil {
		words = append(words, map[bool]string{true: "rotating", false: "not rotating"}[*m.Rotational])
	}
	return listed("; on a disk with ", words)
}

func printStack(w io.Writer, s layout.Stack) {
	for _, a := range s.Arrays {
		fmt.Fprintf(w, "  array %s, RAID %d of %s\n", a.Name, a.Level, strings.Join(a.Members, ", "))
	}
	for _, c := range s.Crypts {
		fmt.Fprintf(w, "  container mapper/%s, LUKS on %s, with a new key\n", c.Name, c.Device)
	}
	for _, g := range s.Groups {
		fmt.Fprintf(w, "  volume group %s on %s\n", g.Name, strings.Join(g.Devices, ", "))
		for _, v := range g.Volumes {
			fmt.Fprintf(w, "    %s %s%s\n", v.Name, sizeOf(v), map[bool]string{true: fmt.Sprintf(", striped over %d", v.Stripes)}[v.Stripes > 1])
		}
	}
}

// sizeOf is a size in words. Partitions have what volumes have.
func sizeOf(v layout.Volume) string {
	text := "fill"
	switch {
	case v.Percent > 0:
		text = fmt.Sprintf("%g%%", v.Percent)
	case v.Size > 0:
		text = size(v.Size)
		if v.Fill {
			text += " and what is left"
		}
	}
	if v.Min > 0 && v.Min < v.Size {
		text += ", less on a smaller disk"
	}
	return text
}

func printFilesystem(w io.Writer, p wire.Plan, fs wire.Filesystem) {
	on := fs.On
	switch {
	case on != "":
	case fs.Part == 0:
		on = "disk " + p.Disks[fs.Disk].Name
	default:
		on = fmt.Sprintf("%s partition %d", p.Disks[fs.Disk].Name, fs.Part)
	}
	fmt.Fprintf(w, "  %-5s %-12s on %s", fs.Type, fs.MountPoint, on)
	if fs.NeedBytes > 0 {
		fmt.Fprintf(w, ", needs %s for %d files", size(fs.NeedBytes), fs.NeedInodes)
	}
	fmt.Fprintln(w)
	for _, s := range fs.Subvolumes {
		how := map[bool]string{true: "mounted on ", false: "seen in "}[s.Mounted] + s.MountPoint
		if s.MountPoint == "" {
			how = "holds others"
		}
		fmt.Fprintf(w, "    subvolume %s, %s%s\n", s.Path, how, map[bool]string{true: ", the default"}[s.Default])
	}
}
