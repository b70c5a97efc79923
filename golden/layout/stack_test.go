package layout

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// twoDisks are two disks of three partitions, and one without a table.
func twoDisks() map[string]Disk {
	part := func(n int) Part { return Part{Number: n, Kind: Primary, GUID: GUIDLinux, Size: mib} }
	gpt := Disk{Table: GPT, Parts: []Part{part(1), part(2), part(3)}}
	return map[string]Disk{"sda": gpt, "nvme0n1": gpt, "sdb": {Table: None}}
}

// deep is LVM on LUKS on RAID, a container on a volume, and a group on a
// whole disk; in no order.
func deep() Stack {
	return Stack{
		Groups: []Group{
			{Name: "fast", Devices: []string{"mapper/crypt"}, Volumes: []Volume{{Name: "root", Size: mib}, {Name: "home", Fill: true}}},
			{Name: "big", Devices: []string{"sdb"}, Volumes: []Volume{{Name: "srv", Percent: 100}}},
		},
		Crypts: []Crypt{{Name: "homes", Device: "fast/home"}, {Name: "crypt", Device: "md0"}},
		Arrays: []Array{{Name: "md0", Level: 1, Members: []string{"sda2", "nvme0n1p2"}}},
	}
}

func TestStackOrder(t *testing.T) {
	s := deep()
	if err := s.Valid(twoDisks()); err != nil {
		t.Fatal(err)
	}
	order, err := s.Order()
	if want := []string{"md0", "mapper/crypt", "fast", "mapper/homes", "big"}; err != nil || !slices.Equal(order, want) {
		t.Errorf("%v %q, want %q", err, order, want)
	}
	uses, err := s.Uses(twoDisks())
	want := map[string]string{
		"sda1": "", "sda2": "array md0", "sda3": "", "nvme0n1p1": "", "nvme0n1p2": "array md0", "nvme0n1p3": "", "sdb": "volume group big",
		"md0": "container crypt", "mapper/crypt": "volume group fast", "fast/root": "", "fast/home": "container homes", "mapper/homes": "", "big/srv": "",
	}
	if diff := gocmp.Diff(want, uses); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if err := (Stack{}).Valid(nil); err != nil {
		t.Error(err)
	}
}

func TestStackRefuses(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(*Stack)
	}{
		{`array md0: no "sdc1" in the layout`, func(s *Stack) { s.Arrays[0].Members[1] = "sdc1" }},
		{`array md0: no "sda" in the layout`, func(s *Stack) { s.Arrays[0].Members[1] = "sda" }}, // it has a table
		{"array md0: partition sda2 is used already, by array md0", func(s *Stack) { s.Arrays[0].Members[1] = "sda2" }},
		{"volume group big: disk sdb is used already", func(s *Stack) { s.Crypts[0].Device = "sdb" }},
		{"array md0: made of volume big/srv: want a partition, disk", func(s *Stack) { s.Arrays[0].Members[0] = "big/srv" }},
		{"volume group big: made of volume fast/home", func(s *Stack) { s.Groups[1].Devices[0] = "fast/home" }},
		{"fast is made of itself", func(s *Stack) { s.Crypts[1].Device = "fast/root" }},
		{`array "md": want a name`, func(s *Stack) { s.Arrays[0].Name = "md" }},
		{`array "md/..": want a name`, func(s *Stack) { s.Arrays[0].Name = "md/.." }},
		{`array "md/a/b": want a name`, func(s *Stack) { s.Arrays[0].Name = "md/a/b" }},
		{`array "md01": want a name`, func(s *Stack) { s.Arrays[0].Name = "md01" }},
		{`array "md0": level 3`, func(s *Stack) { s.Arrays[0].Level = 3 }},
		{`array "md0": 2 members: level 6 takes 4`, func(s *Stack) { s.Arrays[0].Level = 6 }},
		{`array "md0": metadata "imsm"`, func(s *Stack) { s.Arrays[0].Metadata = "imsm" }},
		{`array "md0": metadata 0.90 can't say`, func(s *Stack) { s.Arrays[0].Level, s.Arrays[0].Metadata = 0, "0.90" }},
		{`array "md0": metadata 0.90 holds no name`, func(s *Stack) {
			s.Arrays[0].Metadata, s.Arrays[0].Members = "0.90", make([]string, 29)
		}},
		{`array "md0": chunk of 5000 bytes`, func(s *Stack) { s.Arrays[0].Chunk = 5000 }},
		{`array md0: that is the name of another array`, func(s *Stack) { s.Arrays = append(s.Arrays, s.Arrays[0]) }},
		{`container "../x": want a name`, func(s *Stack) { s.Crypts[0].Name = "../x" }},
		{`container "control": want a name`, func(s *Stack) { s.Crypts[0].Name = "control" }},
		{`container "homes": LUKS version 3`, func(s *Stack) { s.Crypts[0].Version = 3 }},
		{`volume group "-x": want a name`, func(s *Stack) { s.Groups[0].Name = "-x" }},
		{`volume group "mapper": the kernel`, func(s *Stack) { s.Groups[0].Name = "mapper" }},
		{`volume group sdb: something else`, func(s *Stack) { s.Groups[0].Name = "sdb" }},
		{`volume group "big": volume "..": want a name`, func(s *Stack) { s.Groups[1].Volumes[0].Name = ".." }},
		{`volume group "big": volume "a b": want a name`, func(s *Stack) { s.Groups[1].Volumes[0].Name = "a b" }},
		{`volume group "big": volume "x_tdata": LVM keeps`, func(s *Stack) { s.Groups[1].Volumes[0].Name = "x_tdata" }},
		{`volume group "big": volume "srv": 2 stripes`, func(s *Stack) { s.Groups[1].Volumes[0].Stripes = 2 }},
		{`volume group "big": volume "srv": size 0`, func(s *Stack) { s.Groups[1].Volumes[0].Percent = 0 }},
		{`volume group "big": extents of 5000`, func(s *Stack) { s.Groups[1].Extent = 5000 }},
		{`volume big/srv: it and container big-srv are both called big-srv`, func(s *Stack) { s.Crypts[0].Name = "big-srv" }},
		{`volume group "big": made of 0 devices`, func(s *Stack) { s.Groups[1].Devices = nil }},
		{"stack of 65 arrays", func(s *Stack) { s.Arrays = make([]Array, 65) }},
	} {
		s := deep()
		c.change(&s)
		if err := s.Valid(twoDisks()); err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestArrayCapacity(t *testing.T) {
	const gib = 1 << 30
	array := func(level, n int) Array {
		return Array{Name: "md0", Level: level, Members: make([]string, n)}
	}
	member := gib - 3*mib // 4 chunks of 512 KiB and 140 KiB, in whole MiBs
	for _, c := range []struct {
		a       Array
		members []int64
		want    int64
	}{
		{array(0, 2), []int64{gib, 2 * gib}, int64(member + 2*gib - 3*mib)},
		{array(1, 2), []int64{gib, 2 * gib}, gib - 2*mib}, // no chunks
		{array(4, 3), []int64{gib, gib, gib}, int64(2 * member)},
		{array(5, 3), []int64{gib, 2 * gib, gib}, int64(2 * member)},
		{array(6, 4), []int64{gib, gib, gib, gib}, int64(2 * member)},
		{array(10, 2), []int64{gib, gib}, int64(member)},
		{array(10, 3), []int64{gib, gib, gib}, int64(member*3/2) / (512 << 10) * (512 << 10)},
		{Array{Name: "md0", Level: 10, Chunk: mib, Members: make([]string, 3)}, []int64{gib, gib, gib}, 1528 * mib}, // of 1019 chunks each
		{Array{Name: "md0", Level: 1, Metadata: "0.90", Members: make([]string, 2)}, []int64{gib, 3 << 40}, gib - 64<<10},
		{Array{Name: "md0", Level: 1, Members: make([]string, 2)}, []int64{1 << 40, 1 << 40}, 1<<40 - 129*mib},
	} {
		got, err := c.a.Capacity(c.members)
		if err != nil || got != c.want {
			t.Errorf("level %d, metadata %q of %d: got %d, %v; want %d", c.a.Level, c.a.Metadata, c.members, got, err, c.want)
		}
	}
	for _, members := range [][]int64{{gib}, {gib, 0}, {gib, -1}, {gib, 1 << 62}} {
		if got, err := array(1, 2).Capacity(members); err == nil {
			t.Errorf("members %d: %d", members, got)
		}
	}
}

func TestCryptCapacity(t *testing.T) {
	for version, want := range []int64{84 * mib, 98 * mib, 84 * mib} {
		if got, err := (Crypt{Name: "c", Version: version}).Capacity(100*mib + 511); err != nil || got != want {
			t.Errorf("LUKS %d: %d, %v", version, got, err)
		}
	}
	if _, err := (Crypt{Name: "c"}).Capacity(16 * mib); err == nil {
		t.Error("nothing but a header was accepted")
	}
}

func TestGroupFit(t *testing.T) {
	fit := func(pv int64, volumes ...Volume) ([]int64, error) {
		for i := range volumes {
			volumes[i].Name = string(rune('a' + i))
		}
		return Group{Name: "vg", Devices: []string{"sda1"}, Volumes: volumes}.Fit([]int64{pv})
	}
	for _, c := range []struct {
		pv      int64
		volumes []Volume
		want    []int64 // in extents of 4 MiB
	}{
		{401 * mib, []Volume{{Size: 40 * mib}, {Percent: 50}, {Fill: true}}, []int64{10, 50, 40}},
		{401 * mib, []Volume{{Size: 37 * mib}, {Fill: true, Max: 41 * mib}}, []int64{10, 10}},
		{401 * mib, []Volume{{Size: 400 * mib, Min: 40 * mib}, {Size: 80 * mib, Min: 40 * mib}, {Size: 20 * mib}}, []int64{78, 17, 5}},
		{404 * mib, []Volume{{Size: 400 * mib}}, []int64{100}},
		{401 * mib, []Volume{{Fill: true}, {Fill: true}, {Fill: true, Min: 200 * mib}}, []int64{25, 25, 50}},
	} {
		got, err := fit(c.pv, c.volumes...)
		for i := range got {
			got[i] /= 4 * mib
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v on %d: got %d, %v; want %d", c.volumes, c.pv, got, err, c.want)
		}
	}
	if _, err := fit(400*mib, Volume{Size: 400 * mib}); err == nil || !strings.Contains(err.Error(), `volume group "vg": its volumes take 400 MB, it has room for 396 MB`) {
		t.Error(err)
	}
	if _, err := fit(3*mib, Volume{Fill: true}); err == nil || !strings.Contains(err.Error(), "no room for an extent") {
		t.Error(err)
	}
	striped := Group{Name: "vg", Devices: []string{"sda1", "sdb1", "sdc1"}, Extent: mib, Volumes: []Volume{{Name: "x", Fill: true, Stripes: 2}}}
	if got, err := striped.Fit([]int64{11 * mib, 11 * mib, 11 * mib}); err == nil {
		// Five of each pair would do; LVM takes ten of one pair and has no second one.
		t.Errorf("got %d", got)
	}
	if got, err := striped.Fit([]int64{11 * mib, 11 * mib, 22 * mib}); err != nil || got[0] != 40*mib {
		t.Errorf("got %d, %v; want 20 of the large device and 10 of each other", got, err)
	}
	striped.Volumes[0] = Volume{Name: "x", Size: 15 * mib, Stripes: 2}
	if got, err := striped.Fit([]int64{11 * mib, 11 * mib, 22 * mib}); err != nil || got[0] != 16*mib {
		t.Errorf("got %d, %v; want 15 extents made even", got, err)
	}
	odd := Group{Name: "vg", Devices: []string{"sda1", "sdb1"}, Extent: mib, Volumes: []Volume{{Name: "x", Size: 20 * mib, Min: 5 * mib, Stripes: 2}}}
	if got, err := odd.Fit([]int64{4 * mib, 3 * mib}); err == nil || !strings.Contains(err.Error(), "take 6 MB at least, it has room for 5 MB") {
		t.Errorf("got %d, %v: two stripes hold 5 extents in 6", got, err)
	}
}

// FuzzStack: a stack comes to a node over the wire.
func FuzzStack(f *testing.F) {
	b, _ := json.Marshal(deep())
	f.Add(b, int64(1<<30))
	f.Add([]byte(`{"arrays":[{"name":"md0","level":6,"members":["sda1","sda2","sda3","sdb"]}],"groups":[{"name":"v","devices":["md0","nvme0n1p1"],"extent":1048576,"volumes":[{"name":"a","percent":3.5,"stripes":2},{"name":"b","fill":true,"max":9999999}]}]}`), int64(1<<29))
	f.Fuzz(func(t *testing.T, text []byte, bytes int64) {
		var s Stack
		if json.Unmarshal(text, &s) != nil || s.Valid(twoDisks()) != nil {
			return
		}
		order, err := s.Order()
		if err != nil || len(order) != len(s.Arrays)+len(s.Crypts)+len(s.Groups) {
			t.Fatalf("order of a valid stack: %q, %v", order, err)
		}
		for _, a := range s.Arrays {
			members := make([]int64, len(a.Members))
			var all int64
			for i := range members {
				members[i] = bytes
				all += bytes
			}
			if n, err := a.Capacity(members); err == nil && (n <= 0 || n >= all) {
				t.Fatalf("%+v of %d bytes each has %d", a, bytes, n)
			}
		}
		for _, g := range s.Groups {
			pv := make([]int64, len(g.Devices))
			var all int64
			for i := range pv {
				pv[i] = bytes
				all += bytes
			}
			sizes, err := g.Fit(pv)
			if err != nil {
				continue
			}
			for i, n := range sizes {
				v := g.Volumes[i]
				if n <= 0 || n%g.ExtentSize() != 0 || n < v.Min {
					t.Fatalf("%+v got %d of %d", v, n, all)
				}
				all -= n
			}
			if all < 0 {
				t.Fatalf("%+v on %d: %d", g, bytes, sizes)
			}
		}
	})
}
