package disk

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// machine is a node with disks of every kind.
func machine() []Device {
	return []Device{
		{Name: "nvme0n1", Path: "/dev/nvme0n1", Bytes: 500 << 30, Sector: 4096, Model: "Fast/1 SSD", Serial: "N1", WWN: "eui.0025385b21404ca4", Bus: "nvme", ByPath: []string{"pci-0000:01:00.0-nvme-1"}},
		{Name: "sda", Path: "/dev/sda", Bytes: 4000 << 30, Sector: 512, Model: "Big Disk", Serial: "A1", WWN: "naa.5000c500a", Bus: "ata", Rotational: true, ByPath: []string{"pci-0000:00:1f.2-ata-1", "pci-0000:00:1f.2-ata-1.0"}},
		{Name: "sdb", Path: "/dev/sdb", Bytes: 4000 << 30, Sector: 512, Model: "Big Disk", Serial: "A2", WWN: "naa.5000c500b", Bus: "ata", Rotational: true, ByPath: []string{"pci-0000:00:1f.2-ata-2", "pci-0000:00:1f.2-ata-2.0"}},
		{Name: "sdc", Path: "/dev/sdc", Bytes: 8 << 30, Sector: 512, Model: "Stick", Bus: "usb", ByPath: []string{"pci-0000:00:14.0-usb-0:2:1.0-scsi-0:0:0:0"}},
	}
}

func TestHints(t *testing.T) {
	yes, no := true, false
	for _, c := range []struct {
		hints []layout.Match
		want  string // names, or what the error has
	}{
		{[]layout.Match{{Serial: "A2"}}, "sdb"},
		{[]layout.Match{{Model: "Big*", Path: "pci-0000:00:1f.2-ata-1"}}, "sda"},
		{[]layout.Match{{Path: "*-ata-2.0"}}, "sdb"},
		{[]layout.Match{{Model: "Fast/?*"}}, "nvme0n1"},
		{[]layout.Match{{WWN: "naa.5000c500b"}, {Rotational: &no, Bus: "nvme"}}, "sdb nvme0n1"},
		{[]layout.Match{{MinBytes: 1 << 30, MaxBytes: 10 << 30}}, "sdc"},
		{[]layout.Match{{Name: "nvme*"}, {}}, "nvme0n1 sda"}, // the second by its name
		{[]layout.Match{{Rotational: &yes}}, "ambiguous: sda (rotates) could be any of /dev/sda"},
		{[]layout.Match{{Bus: "scsi"}}, `no disk for sda (bus scsi): /dev/nvme0n1 (512000 MB, Fast/1 SSD, N1) left: its bus is "nvme", want "scsi"; `},
		{[]layout.Match{{Serial: "A1"}, {Path: "*ata-1"}}, "is meant for sda and for sdb"},
		{[]layout.Match{{Model: "Big*", Serial: "N1"}}, `its serial is "A1", want "N1"`},
		{[]layout.Match{{Model: "["}}, "syntax error"},
		{[]layout.Match{{MinBytes: 5, MaxBytes: 4}}, "at least 5, at most 4"},
	} {
		var plan wire.Plan
		for i, m := range c.hints {
			name := []string{"sda", "sdb"}[i]
			if m == (layout.Match{}) {
				name = "sda"
			}
			plan.Disks = append(plan.Disks, wire.DiskPlan{Name: name, Match: m})
		}
		got, why, err := Choose(plan, machine())
		if err != nil {
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("%+v: %v: want %s", c.hints, err, c.want)
			}
			continue
		}
		var names []string
		for _, d := range got {
			names = append(names, d.Name)
		}
		if strings.Join(names, " ") != c.want || len(why) != 4 {
			t.Errorf("%+v: got %v, want %s: %q", c.hints, names, c.want, why)
		}
	}
}

// TestChooseProperties: whatever plan and machine, no device is taken twice,
// none that is unfit or that a hint isn't true of; each is spoken of; and the
// order in which a machine lists its disks changes nothing.
func TestChooseProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	chosen, refused := 0, 0
	pick := func(of ...string) string { return of[r.IntN(len(of))] }
	for range 20000 {
		var plan wire.Plan
		for i := range 1 + r.IntN(3) {
			p := wire.DiskPlan{Name: pick("sd", "vd") + string(rune('a'+i))}
			if r.IntN(2) == 0 {
				p.Match = layout.Match{Serial: pick("", "1", "2", "*"), Model: pick("", "M*", "N"), MinBytes: r.Int64N(2) * 1000}
			}
			plan.Disks = append(plan.Disks, p)
		}
		var devs []Device
		for i := range r.IntN(5) {
			n := pick("sd", "sd", "vd", "hd") + string(rune('a'+i))
			devs = append(devs, Device{Name: n, Path: "/dev/" + n, Bytes: 500 + r.Int64N(1000), Sector: 512, Serial: fmt.Sprint(i), Model: pick("M1", "M2", "N"), Removable: r.IntN(8) == 0})
		}
		got, why, err := Choose(plan, devs)
		mixed := slices.Clone(devs)
		r.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		again, _, err2 := Choose(plan, mixed)
		if (err == nil) != (err2 == nil) {
			t.Fatalf("%+v on %v: %v; in another order: %v", plan.Disks, devs, err, err2)
		}
		if err != nil {
			refused++
			continue
		}
		chosen++
		seen := map[string]bool{}
		for i, d := range got {
			if d.Path == "" || d.Path != again[i].Path || seen[d.Path] || d.unfit() != "" || misses(plan.Disks[i].Match, d) != "" {
				t.Fatalf("%+v on %v: took %v, then %v", plan.Disks, devs, got, again)
			}
			seen[d.Path] = true
		}
		if len(why) != len(devs) {
			t.Fatalf("%d devices, said %q", len(devs), why)
		}
	}
	if chosen < 2000 || refused < 2000 {
		t.Errorf("%d chosen, %d refused: the test tries too little of one", chosen, refused)
	}
}

// TestByPath: the names are those that udev makes for these places.
func TestByPath(t *testing.T) {
	for real, c := range map[string]struct {
		bus  string
		want []string
		more map[string]string // other files of sysfs
	}{
		"devices/pci0000:00/0000:00:1f.2/ata3/host2/target2:0:0/2:0:0:0/block/sda":                     {"ata", []string{"pci-0000:00:1f.2-ata-1", "pci-0000:00:1f.2-ata-1.0"}, map[string]string{"devices/pci0000:00/0000:00:1f.2/ata3/ata_port/ata3/port_no": "1"}},
		"devices/pci0000:00/0000:00:05.0/virtio2/block/vda":                                            {"virtio", []string{"pci-0000:00:05.0", "virtio-pci-0000:00:05.0"}, nil},
		"devices/pci0000:00/0000:00:05.0/virtio2/host7/target7:0:1/7:0:1:0/block/sda":                  {"scsi", []string{"pci-0000:00:05.0-scsi-0:0:1:0", "virtio-pci-0000:00:05.0-scsi-0:0:1:0"}, nil},
		"devices/pci0000:00/0000:00:1d.0/0000:01:00.0/nvme/nvme0/nvme0n2":                              {"nvme", []string{"pci-0000:01:00.0-nvme-2"}, nil},
		"devices/pci0000:00/0000:00:14.0/usb1/1-2/1-2.3/1-2.3:1.0/host6/target6:0:0/6:0:0:0/block/sdc": {"usb", []string{"pci-0000:00:14.0-usb-0:2.3:1.0-scsi-0:0:0:0"}, nil},
		"devices/pci0000:00/0000:00:1a.0/mmc_host/mmc0/mmc0:0001/block/mmcblk0":                        {"mmc", []string{"pci-0000:00:1a.0"}, nil},
		"devices/platform/fe340000.mmc/mmc_host/mmc1/mmc1:0001/block/mmcblk1":                          {"mmc", []string{"platform-fe340000.mmc"}, nil},
		"devices/pci0000:00/0000:03:00.0/host1/target1:2:0/1:2:0:0/block/sdb":                          {"scsi", []string{"pci-0000:03:00.0-scsi-1:2:0:0"}, map[string]string{"devices/pci0000:00/0000:03:00.0/host0/scsi_host/x": ""}},
		"devices/virtual/block/loop0":                                                                  {"", nil, nil},
	} {
		sys := t.TempDir()
		put := func(name, text string) {
			path := filepath.Join(sys, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		put(real+"/size", "2048\n")
		put(real+"/queue/logical_block_size", "512\n")
		for name, text := range c.more {
			put(name, text)
		}
		name := filepath.Base(real)
		if err := os.MkdirAll(filepath.Join(sys, "block"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..", real), filepath.Join(sys, "block", name)); err != nil {
			t.Fatal(err)
		}
		got, err := inventory(sys, []string{name})
		if err != nil || len(got) != 1 {
			t.Fatalf("%s: %v, %v", real, got, err)
		}
		d := got[0]
		if d.Bus != c.bus || len(d.ByPath) == 0 || !slices.Equal(d.ByPath[:len(d.ByPath)-1], c.want) || !strings.HasSuffix(d.ByPath[len(d.ByPath)-1], real) {
			t.Errorf("%s: bus %q, %q", real, d.Bus, d.ByPath)
		}
	}
}

func TestUnitSerial(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "device"), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{"\x00\x80\x00\x08   QM01 ": "QM01", "\x00\x83\x00\x02ab": "", "\x00": "", "\x00\x80\x00\x01\x01": ""} {
		if err := os.WriteFile(filepath.Join(dir, "device", "vpd_pg80"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if got := unitSerial(dir); got != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
