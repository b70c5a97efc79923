package rehearsal

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kamethod/kamethod/images/compare"
	"github.com/kamethod/kamethod/images/demo/goldenroot"
	"github.com/kamethod/kamethod/images/vmlab"
)

// Cell is one cell of the matrix: a golden node whose disks are divided in one
// way, and a machine that becomes its clone.
type Cell struct {
	Name     string
	Firmware vmlab.Firmware
	Disks    []vmlab.Disk      // the node's: Size, Bus and Sector; in the order of Golden
	Golden   []string          // golden's disks, by name: "sda"
	Layouts  map[string]string // -p: golden's disk to the text of its desc; "layout.yaml": of all disks
	Serve    []string          // more arguments for golden-serve
	Files    map[string]string // golden's own: etc/fstab, etc/crypttab; by path without leading slash
	Without  []string          // patterns of files that golden hasn't
	Wanted   map[string][]Wanted
	Clone    compare.Attached // what the clone must be, named as on the golden node
	Asked    []Question       // at the clone's shell, besides what each is asked
}

// Wanted is a partition that the clone has to have.
type Wanted struct {
	Number int
	Types  []string // as sfdisk prints them
	MiB    int64    // 0: what is left
}

// Question is a command at the clone's shell, and what the one line that it
// prints must match.
type Question struct{ Ask, Want string }

// Passphrase opens the LUKS containers of the cells.
const Passphrase = "correct horse battery staple"

// rules are the differences that a clone may have because of what it is made
// of.
func (c *Cell) rules() []compare.Rule {
	rules := append(compare.CloneRules(), compare.ExcludedRules(goldenroot.Scratch)...)
	rules = append(rules, compare.StackRules()...)
	for _, p := range c.Clone.Places {
		rules = append(rules, compare.PlaceRules(p)...)
	}
	return rules
}

// questions are what the clone is asked at its shell.
func (c *Cell) questions() []question {
	all := []question{
		{`wc -l < /proc/swaps`, `^2$`}, // a headline and our swap
		{`systemctl is-active ssh`, `^active$`},
		{`systemctl --failed --plain --no-legend | tee /dev/console | wc -l`, `^0$`},
		{`cat /etc/machine-id | wc -c`, `^33$`},
		{`grep -c ` + goldenroot.MachineID + ` /etc/machine-id`, `^0$`},
		{`grep -cw golden /etc/hostname`, `^0$`},
	}
	for _, p := range c.Clone.Places {
		all = append(all, question{`findmnt -no FSTYPE ` + p.At, `^` + p.Type + `$`})
		if p.At == "/home" && strings.Contains(c.Layouts["layout.yaml"], withQuota) {
			all = append(all, question{`tune2fs -l $(findmnt -no SOURCE /home) | grep -c 'quota.*project'`, `^1$`})
		}
	}
	if c.Firmware != vmlab.BIOS {
		all = append(all, question{`test -d /sys/firmware/efi && echo UEFI`, `^UEFI$`})
		all = append(all, question{`efibootmgr -v | grep -ci 'debian.*HD(.*EFI.debian'`, `^1$`}) // the firmware's list names it, once
	}
	if n := len(c.Clone.Arrays); n > 0 {
		all = append(all, question{`grep -c '\[UU\]' /proc/mdstat`, fmt.Sprintf(`^%d$`, n)})
	}
	for _, g := range c.Clone.Groups {
		all = append(all, question{`vgs --noheadings -o vg_missing_pv_count ` + g + ` | tr -d ' '`, `^0$`})
	}
	for _, k := range c.Clone.Crypts {
		all = append(all, question{`cryptsetup status ` + k.Name + ` | grep -c LUKS`, `^1$`})
	}
	for _, q := range c.Asked {
		all = append(all, question{q.Ask, q.Want})
	}
	return all
}

// ServeArgs are golden-serve's for the cell, when its layouts are in files
// named by name.
func (c *Cell) ServeArgs(name func(disk string) string) []string {
	var args []string
	for _, disk := range slices.Sorted(maps.Keys(c.Layouts)) {
		if disk == "layout.yaml" {
			args = append(args, "-p", name(disk))
			continue
		}
		args = append(args, "-p", disk, name(disk))
	}
	if len(c.Clone.Crypts) > 0 {
		args = append(args, "--luks-passphrase", name("passphrase"))
	}
	return append(args, c.Serve...)
}

// String says what a person should know of it.
func (c *Cell) String() string {
	var disks []string
	for _, d := range c.Disks {
		s := fmt.Sprintf("%s %d MiB", d.Bus, d.Size>>20)
		if d.Sector > 512 {
			s += fmt.Sprintf(", sectors of %d", d.Sector)
		}
		disks = append(disks, s)
	}
	var places []string
	for _, p := range c.Clone.Places {
		places = append(places, fmt.Sprintf("%s %s on %s", p.At, p.Type, p.On))
	}
	firmware := "BIOS"
	if c.Firmware != vmlab.BIOS {
		firmware = string(c.Firmware)
	}
	return fmt.Sprintf("%s; %s; %s", firmware, strings.Join(disks, " + "), strings.Join(places, ", "))
}
