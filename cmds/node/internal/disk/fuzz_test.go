package disk

import (
	"encoding/json"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// FuzzPlan: a plan comes over the wire. Whatever it says, working out what
// goes where ends, and what is accepted lies inside its disks.
func FuzzPlan(f *testing.F) {
	for _, plan := range []wire.Plan{vmStack(), {Disks: []wire.DiskPlan{{Name: "sda", Layout: gptOf(layout.Part{Percent: 50, Min: 1 << 20}, layout.Part{Fill: true})}},
		Filesystems: []wire.Filesystem{{Part: 2, Type: "btrfs", MountPoint: "/", NeedBytes: 1 << 30, NeedInodes: 5, Subvolumes: []wire.Subvolume{{Path: "@", Mounted: true, MountPoint: "/"}}}}}} {
		text, err := json.Marshal(plan)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text, int64(8<<30), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, bytes int64, large bool) {
		var plan wire.Plan
		if json.Unmarshal(text, &plan) != nil || len(plan.Disks) > 4 {
			return
		}
		if _, err := checkStack(plan); err != nil {
			return
		}
		sector := int64(512)
		if large {
			sector = 4096
		}
		var fitted []layout.Fitted
		var devs []Device
		raised := raise(plan)
		for _, p := range raised.Disks {
			f, err := p.Layout.Fit(bytes, sector)
			if err != nil {
				return
			}
			fitted, devs = append(fitted, f), append(devs, Device{Name: "sda", Path: "/dev/sda", Bytes: bytes, Sector: sector})
		}
		at, err := places(raised, fitted, devs)
		if err != nil {
			return
		}
		for name, r := range at {
			if r.bytes <= 0 || r.bytes > bytes*int64(max(len(devs), 1)) {
				t.Fatalf("%s has %d bytes on %d disks of %d", name, r.bytes, len(devs), bytes)
			}
		}
		if checkFilesystems(raised, fitted, at) != nil || checkBlocks(raised, at) != nil {
			return
		}
		a := Assignment{Devices: devs, Fitted: fitted, places: at, stack: raised.Stack}
		a.order, _ = checkStack(raised)
		if len(Describe(raised, a)) == 0 {
			t.Fatal("nothing to say of a plan that can be carried out")
		}
		for _, fs := range raised.Filesystems {
			r := at[onName(raised, fs)]
			kinds()[fs.Type].args(fs, "/dev/x", tryUUID, r)
			if capacity(fs, r.bytes) < fs.NeedBytes && fs.Type != "swap" {
				t.Fatalf("%+v: accepted on %d bytes", fs, r.bytes)
			}
		}
	})
}

// FuzzPrograms: what programs print of a disk that comes from anywhere.
func FuzzPrograms(f *testing.F) {
	f.Add("dblocks = 76800\nblocksize = 4096\ninodesize = 512\n")
	f.Add("total_bytes\t\t314572800\nsectorsize\t\t4096\nnum_devices\t\t1\n")
	f.Add("Filesystem UUID: 11111111-2222-4333-8444-555555555555\nBlock size: 4096\nBlock count: 9\nInode count: 8\n")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := numbersOf(text, []string{"dblocks", "blocksize"})
		if err == nil && (len(v) != 2 || v[0] < 0 || v[1] < 0) {
			t.Fatalf("%v of %q", v, text)
		}
		if s, err := parseSuper(text); err == nil && (s.block < 1 || s.blocks < 1) {
			t.Fatalf("%+v of %q", s, text)
		}
	})
}
