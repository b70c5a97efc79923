package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// report is what the programs of LVM print with --reportformat json: rows of
// fields, all of them text. Those from before 2016 (2.02.158) have a separator
// only, which works with all: no name has a | in it (lvm(8), "VALID NAMES").
func report(ctx context.Context, m machine, program, fields string, names ...string) ([]map[string]string, error) {
	args := []string{"--units", "b", "--nosuffix", "-o", fields}
	out, err := m.run(ctx, program, append(append([]string{"--reportformat", "json"}, args...), names...)...)
	if err == nil {
		return parseReport(out)
	}
	text, err2 := m.run(ctx, program, append(append([]string{"--noheadings", "--separator", "|"}, args...), names...)...)
	if err2 != nil {
		return nil, err
	}
	return parseColumns(text, strings.Split(fields, ","))
}

func parseReport(out string) ([]map[string]string, error) {
	var r struct {
		Report []map[string][]map[string]string
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		return nil, fmt.Errorf("report of LVM: %w", err)
	}
	var rows []map[string]string
	for _, part := range r.Report {
		for _, list := range part {
			rows = append(rows, list...)
		}
	}
	return rows, nil
}

func parseColumns(out string, names []string) ([]map[string]string, error) {
	var rows []map[string]string
	for line := range strings.Lines(out) {
		words := strings.Split(strings.TrimSpace(line), "|")
		if len(words) != len(names) {
			return nil, fmt.Errorf("report of LVM: %q: want %d fields", line, len(names))
		}
		row := map[string]string{}
		for i, n := range names {
			row[n] = words[i]
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// readGroup is a volume group with all its volumes, and what a person should
// know of it. Devices are paths. Where nothing of the group is free, its largest
// volume is one that fills it on the clones as well.
func readGroup(ctx context.Context, m machine, name string) (layout.Group, []string, error) {
	lvs, err := report(ctx, m, "lvs", "vg_name,vg_uuid,vg_extent_size,vg_free,lv_name,lv_uuid,lv_size,segtype,stripes,lv_attr", name)
	if err != nil {
		return layout.Group{}, nil, err
	}
	pvs, err := report(ctx, m, "pvs", "vg_name,pv_name")
	if err != nil {
		return layout.Group{}, nil, err
	}
	return makeGroup(name, lvs, pvs)
}

func makeGroup(name string, lvs, pvs []map[string]string) (g layout.Group, notes []string, err error) {
	g.Name = name
	full := false
	for _, row := range pvs {
		if row["vg_name"] != name {
			continue
		}
		if !strings.HasPrefix(row["pv_name"], "/dev/") { // "[unknown]"
			return g, nil, fmt.Errorf("volume group %s lacks a physical volume (%s)", name, row["pv_name"])
		}
		g.Devices = append(g.Devices, row["pv_name"])
	}
	if len(g.Devices) == 0 {
		return g, nil, fmt.Errorf("volume group %s: pvs names no physical volume of it", name)
	}
	for _, row := range lvs {
		if row["vg_name"] != name {
			continue
		}
		if g.OldUUID = row["vg_uuid"]; g.Extent == 0 {
			if g.Extent, err = bytesOf(row, "vg_extent_size"); err != nil {
				return g, nil, err
			}
		}
		if slices.ContainsFunc(g.Volumes, func(v layout.Volume) bool { return v.Name == row["lv_name"] }) {
			continue // another segment of it
		}
		v, note, err := makeVolume(name, row)
		if err != nil {
			return g, nil, err
		}
		if note != "" {
			notes = append(notes, note)
		}
		if v.Name != "" {
			g.Volumes = append(g.Volumes, v)
		}
		full = row["vg_free"] == "0"
	}
	if full && len(g.Volumes) > 0 {
		largest := 0
		for i, v := range g.Volumes {
			if v.Size > g.Volumes[largest].Size {
				largest = i
			}
		}
		g.Volumes[largest].Fill = true
	}
	return g, notes, nil
}

// shrinkVolumes lets the volumes of golden's own groups give way on smaller
// disks: those that hold files, down to what these need, which the node knows.
func (d *describer) shrinkVolumes(filesystems []wire.Filesystem) {
	for _, g := range d.stack.Groups {
		if slices.ContainsFunc(d.laid.stack.Groups, func(l layout.Group) bool { return l.Name == g.Name }) {
			continue
		}
		for i := range g.Volumes {
			on := g.Name + "/" + g.Volumes[i].Name
			holds := slices.ContainsFunc(filesystems, func(f wire.Filesystem) bool { return f.On == on && f.Type != "swap" })
			if holds || slices.ContainsFunc(d.stack.Crypts, func(c layout.Crypt) bool { return c.Device == on }) {
				g.Volumes[i].Min = max(g.Extent, 1)
			}
		}
	}
}

// makeVolume is a volume as a clone can have it, linear or striped; none for a
// snapshot and what thin volumes live in.
func makeVolume(group string, row map[string]string) (v layout.Volume, note string, err error) {
	name := row["lv_name"]
	switch attr := row["lv_attr"]; {
	case !volumeWord(name):
		return v, "", fmt.Errorf("volume group %s: volume %q", group, name)
	case strings.HasPrefix(attr, "s") || strings.HasPrefix(attr, "S"):
		return v, fmt.Sprintf("%s/%s: a snapshot, left out", group, name), nil
	case strings.HasPrefix(attr, "t"):
		return v, fmt.Sprintf("%s/%s: a thin pool, left out: its volumes become linear ones", group, name), nil
	}
	v = layout.Volume{Name: name, OldUUID: row["lv_uuid"]}
	if v.Size, err = bytesOf(row, "lv_size"); err != nil {
		return v, "", fmt.Errorf("%s/%s: %w", group, name, err)
	}
	switch row["segtype"] {
	case "linear":
	case "striped":
		if n, err := strconv.Atoi(row["stripes"]); err == nil && n > 1 && n <= 128 { // lvmraid(7), stripes
			v.Stripes = n
		}
	default:
		note = fmt.Sprintf("%s/%s: %s here, linear on the clones", group, name, row["segtype"])
	}
	return v, note, nil
}

func bytesOf(row map[string]string, key string) (int64, error) {
	n, err := strconv.ParseInt(row[key], 10, 64)
	if err != nil || n <= 0 || n > 1<<60 {
		return 0, fmt.Errorf("%s: %q", key, row[key])
	}
	return n, nil
}
