package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/kamethod/kamethod/golden"
	"github.com/kamethod/kamethod/golden/layout"
)

// diskFlags say what the clones' disks are like, and what starts from them.
type diskFlags struct {
	layouts, skip, matches, passphrases []string
	table, loader                       string
}

func (o *diskFlags) add(f *pflag.FlagSet) {
	f.StringArrayVarP(&o.layouts, "partition", "p", nil, "DISK DESC: partition the disk by this desc file (also DISK=DESC), repeated; or LAYOUT.yaml: all disks, with LVM, RAID, LUKS and file systems")
	f.StringArrayVarP(&o.skip, "skip-disk", "X", nil, "disk that is left out; repeated, or 'sdb|sdc'")
	f.StringVar(&o.table, "table", "", "gpt or mbr: partition table of the clones, whatever this machine has")
	f.StringArrayVar(&o.matches, "match", nil, "which disk of a node becomes one of this machine's: 'sda:size>=100G,model=X*', with name, model, serial, wwn, path, bus, size, rotational; repeated")
	f.StringArrayVar(&o.passphrases, "luks-passphrase", nil, "FILE with the passphrase of the clones' encrypted containers, in its first line, or NAME=FILE for one of them; repeated")
	f.StringVarP(&o.loader, "loader", "r", "auto", "boot loader, and modules for the initrd: 'grub --with=ata_piix'; auto: what this machine has; "+strings.Join(golden.Loaders()[1:], ", "))
}

// apply puts into an original what the flags say.
func (o *diskFlags) apply(g *golden.Original) error {
	g.SkipDisks, g.Matches, g.Passphrases = split(o.skip), o.matches, o.passphrases
	g.Descs = map[string]string{}
	for _, p := range o.layouts {
		if err := addLayout(g, p); err != nil {
			return err
		}
	}
	switch o.table {
	case "":
	case "gpt":
		g.Table = layout.GPT
	case "mbr", "dos":
		g.Table = layout.MBR
	default:
		return fmt.Errorf("--table %s: want gpt or mbr", o.table)
	}
	return o.applyLoader(g)
}

func addLayout(g *golden.Original, p string) error {
	if golden.IsLayoutFile(p) && !strings.Contains(filepath.Base(p), "=") && !isDiskFile(p) {
		if g.Layout != "" {
			return fmt.Errorf("-p %s: a layout file has all disks, and %s is one already", p, g.Layout)
		}
		g.Layout = p
		return nil
	}
	disk, file, ok := strings.Cut(p, "=")
	if disk = strings.TrimPrefix(disk, "/dev/"); !ok || disk == "" || file == "" {
		return fmt.Errorf("-p %s: want a disk and its desc file: -p sda /tmp/desc, or a layout file: -p layout.yaml", p)
	}
	if g.Descs[disk] != "" {
		return fmt.Errorf("-p %s: disk %s has a desc already: %s", p, disk, g.Descs[disk])
	}
	g.Descs[disk] = file
	return nil
}

// isDiskFile says whether it is DISK=FILE and no path that has a = in it.
func isDiskFile(p string) bool {
	disk, _, ok := strings.Cut(p, "=")
	return ok && !strings.Contains(strings.TrimPrefix(disk, "/dev/"), "/")
}

// applyLoader takes -r as the manual has it: 'grub --with=ata_piix'.
func (o *diskFlags) applyLoader(g *golden.Original) error {
	words := strings.Fields(o.loader)
	if len(words) > 0 && strings.HasPrefix(words[0], "--with=") {
		words = append([]string{golden.Loaders()[0]}, words...)
	}
	if len(words) == 0 || !slices.Contains(golden.Loaders(), words[0]) {
		return fmt.Errorf("-r %q: want one of %s, then --with=MODULE for each module", o.loader, strings.Join(golden.Loaders(), ", "))
	}
	g.Loader.Kind = words[0]
	for _, w := range words[1:] {
		m, ok := strings.CutPrefix(w, "--with=")
		if !ok || m == "" {
			return fmt.Errorf("-r %q: %q is no --with=MODULE", o.loader, w)
		}
		g.Loader.With = append(g.Loader.With, m)
	}
	return nil
}
