package layout

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Bounds of a stack, far above what a machine has.
const (
	maxThings  = 64  // arrays, containers, groups: of each
	maxMembers = 384 // md's, with metadata 1.x (md(4))
	maxVolumes = 256 // of a group
)

// validParts checks each thing for itself.
func (s Stack) validParts() error {
	if len(s.Arrays) > maxThings || len(s.Crypts) > maxThings || len(s.Groups) > maxThings {
		return fmt.Errorf("stack of %d arrays, %d containers, %d volume groups: want at most %d of each", len(s.Arrays), len(s.Crypts), len(s.Groups), maxThings)
	}
	for _, a := range s.Arrays {
		if err := a.Valid(); err != nil {
			return fmt.Errorf("array %q: %w", a.Name, err)
		}
	}
	for _, c := range s.Crypts {
		if err := c.Valid(); err != nil {
			return fmt.Errorf("container %q: %w", c.Name, err)
		}
	}
	for _, g := range s.Groups {
		if err := g.Valid(); err != nil {
			return fmt.Errorf("volume group %q: %w", g.Name, err)
		}
	}
	return nil
}

// Valid says what is wrong with the array by itself.
func (a Array) Valid() error {
	least, ok := map[int]int{0: 2, 1: 2, 4: 2, 5: 2, 6: 4, 10: 2}[a.Level] // mdadm's Create.c
	switch {
	case !arrayName(a.Name):
		return errors.New("want a name such as md0 or md/home")
	case !ok:
		return fmt.Errorf("level %d: want 0, 1, 4, 5, 6 or 10", a.Level)
	case len(a.Members) < least || len(a.Members) > maxMembers:
		return fmt.Errorf("%d members: level %d takes %d to %d", len(a.Members), a.Level, least, maxMembers)
	case !slices.Contains([]string{"", "0.90", "1.0", "1.1", "1.2"}, a.Metadata):
		return fmt.Errorf("metadata %q: want 0.90, 1.0, 1.1 or 1.2", a.Metadata)
	case a.Metadata == "0.90" && (len(a.Members) > 28 || strings.HasPrefix(a.Name, "md/")): // md(4)
		return errors.New("metadata 0.90 holds no name, and at most 28 members")
	case a.Metadata == "0.90" && a.Level == 0:
		return errors.New("metadata 0.90 can't say how level 0 is laid out, and mdadm refuses it: want another one")
	case a.Chunk != 0 && (a.Chunk < 4<<10 || a.Chunk > 1<<30 || a.Chunk&(a.Chunk-1) != 0):
		return fmt.Errorf("chunk of %d bytes: want a power of 2 from 4096", a.Chunk)
	}
	return nil
}

// Valid says what is wrong with the container by itself.
func (c Crypt) Valid() error {
	switch {
	case !cryptName(c.Name):
		return errors.New("want a name of letters, digits and any of _ + . : = @ # -")
	case c.Version < 0 || c.Version > 2:
		return fmt.Errorf("LUKS version %d: want 1 or 2", c.Version)
	}
	return nil
}

// Valid says what is wrong with the group by itself, and with its volumes.
func (g Group) Valid() error {
	switch {
	case !volumeName(g.Name):
		return errors.New("want a name of letters, digits and any of + _ . -")
	case slices.Contains([]string{"mapper", "md", "disk", "block", "pts", "shm", "input", "snd", "dri", "fd"}, g.Name):
		return errors.New("the kernel has a folder of that name in /dev")
	case len(g.Devices) == 0 || len(g.Devices) > maxMembers:
		return fmt.Errorf("made of %d devices: want 1 to %d", len(g.Devices), maxMembers)
	case len(g.Volumes) > maxVolumes:
		return fmt.Errorf("%d volumes: want at most %d", len(g.Volumes), maxVolumes)
	case g.Extent != 0 && !validExtent(g.Extent):
		return fmt.Errorf("extents of %d bytes: want a power of 2 from 4096, or a multiple of 128 KiB", g.Extent)
	}
	for _, v := range g.Volumes {
		if err := v.Valid(g); err != nil {
			return fmt.Errorf("volume %q: %w", v.Name, err)
		}
	}
	return nil
}

// validExtent says whether vgcreate(8) takes it, whatever the sectors.
func validExtent(n int64) bool {
	return n >= 4<<10 && n <= 1<<30 && (n&(n-1) == 0 || n%(128<<10) == 0)
}

// Valid says what is wrong with a volume of such a group.
func (v Volume) Valid(g Group) error {
	switch {
	case !volumeName(v.Name) || len(MapperName(g.Name, v.Name)) > 127:
		return errors.New("want a name of letters, digits and any of + _ . -")
	case lvmOwn(v.Name):
		return errors.New("LVM keeps that name to itself")
	case v.Stripes < 0 || v.Stripes > len(g.Devices):
		return fmt.Errorf("%d stripes: the group is made of %d devices", v.Stripes, len(g.Devices))
	case v.Size == 0 && v.Percent == 0 && !v.Fill:
		return errors.New("size 0 bytes")
	}
	return validSizes(v.part())
}

// part is the volume's sizes.
func (v Volume) part() Part {
	return Part{Size: v.Size, Percent: v.Percent, Min: v.Min, Max: v.Max, Fill: v.Fill}
}

// madeName says whether a name can be an argument of a program and a file below
// /dev: letters, digits and the marks, the first no hyphen, and not only dots.
func madeName(s, marks string, longest int) bool {
	return s != "" && len(s) <= longest && s[0] != '-' && strings.Trim(s, ".") != "" &&
		strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"+marks) == ""
}

// volumeName is for groups and volumes (lvm(8), VALID NAMES). The two names
// together, with all hyphens doubled, have to be one of libdevmapper's 127.
func volumeName(s string) bool { return madeName(s, "+_.-", 120) }

// cryptName is for containers: what libdevmapper takes as it is.
func cryptName(s string) bool { return madeName(s, "_+.:=@#-", 120) && s != "control" }

// arrayName takes md0 and md/home: 32 bytes are in the superblock (md(4)).
func arrayName(s string) bool {
	if name, ok := strings.CutPrefix(s, "md/"); ok {
		return madeName(name, "_.:-", 32)
	}
	n, ok := strings.CutPrefix(s, "md")
	return ok && n != "" && len(n) <= 3 && strings.Trim(n, "0123456789") == "" && (n == "0" || n[0] != '0')
}

// lvmOwn says whether LVM keeps a volume's name to itself (lvm(8)).
func lvmOwn(s string) bool {
	own := []string{"_cdata", "_cmeta", "_corig", "_iorig", "_mimage", "_mlog", "_pmspare",
		"_rimage", "_rmeta", "_tdata", "_tmeta", "_vdata", "_vorigin", "_wcorig"}
	return s == "snapshot" || s == "pvmove" || slices.ContainsFunc(own, func(part string) bool { return strings.Contains(s, part) })
}
