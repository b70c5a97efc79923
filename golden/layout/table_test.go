package layout

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTable(t *testing.T) {
	got, err := ParseTable([]byte(`{"partitiontable": {"label": "gpt", "id": "37F829BD-5590-7E42-9A14-08E34688EB58", "device": "d", "unit": "sectors", "sectorsize": 4096,
		"partitions": [
			{"node": "/dev/nvme0n1p2", "start": 22528, "size": 10240, "type": "0fc63daf-8483-4772-8e79-3d69d8477de4", "name": "a\"b", "attrs": "RequiredPartition LegacyBIOSBootable GUID:48,60"},
			{"node": "/dev/nvme0n1p1", "start": 2048, "size": 20480, "type": "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "uuid": "7DFB97B6-2F4F-D747-8CA4-512C639C4350"},
			{"node": "/dev/nvme0n1p7", "start": 5, "size": 0, "type": "none"}]}}`), "/dev/nvme0n1")
	want := Fitted{Table: GPT, ID: "37F829BD-5590-7E42-9A14-08E34688EB58", SectorSize: 4096, Parts: []FittedPart{
		{Part: Part{Number: 2, Kind: Primary, GUID: GUIDLinux, Name: `a"b`, Boot: true, Flags: []string{"RequiredPartition", "GUID:48", "GUID:60"}}, Start: 22528, Count: 10240},
		{Part: Part{Number: 1, Kind: Primary, GUID: GUIDLinux}, Start: 2048, Count: 20480, UUID: "7DFB97B6-2F4F-D747-8CA4-512C639C4350"},
	}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	for _, c := range []struct{ text, want string }{
		{`{`, "unexpected end"},
		{`{}`, `it is of kind ""`},
		{`{"partitiontable":{"label":"sun"}}`, `it is of kind "sun": want dos or gpt`},
		{`{"partitiontable":{"label":"dos","sectorsize":-1}}`, "its sectors have -1 bytes"},
		{`{"partitiontable":{"label":"dos","sectorsize":520}}`, "its sectors have 520 bytes"},
		{`{"partitiontable":{"label":"dos","id":"0x1\nlabel: gpt"}}`, "its identifier"},
		{`{"partitiontable":{"label":"dos","unit":"cylinders"}}`, `it counts "cylinders"`},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sdb1","size":1,"type":"83"}]}}`, `partition "/dev/sdb1": no number of a partition of /dev/sda`},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sda0","size":1,"type":"83"}]}}`, `partition "/dev/sda0": no number`},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sda1","size":1,"type":"183"}]}}`, `type "183"`},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sda1","start":-1,"size":1,"type":"83"}]}}`, "start -1"},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sda1","start":9223372036854775807,"size":9223372036854775807,"type":"83"}]}}`, "impossible"},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sda1","start":2048,"size":9223372036854775807,"type":"83"}]}}`, "impossible"},
		{`{"partitiontable":{"label":"dos","partitions":[{"node":"/dev/sda1","size":1,"type":"83"},{"node":"/dev/sdap1","size":1,"type":"83"}]}}`, "named twice"},
		{`{"partitiontable":{"label":"gpt","partitions":[{"node":"/dev/sda1","size":1,"type":"83"}]}}`, `type "83"`},
		{strings.Repeat(" ", 2<<20), "bytes of it"},
	} {
		_, err := ParseTable([]byte(c.text), "/dev/sda")
		if err == nil || !strings.HasPrefix(err.Error(), "partition table of /dev/sda: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: got %v, want %s", c.text, err, c.want)
		}
	}
}

func TestAtLeast(t *testing.T) {
	d := Disk{Table: GPT, Parts: []Part{
		{Number: 1, Size: 10 * mib}, {Number: 2, Size: 10 * mib, Min: mib}, {Number: 3, Fill: true}, {Number: 4, Fill: true, Size: 9 * mib},
	}}
	got := d
	for n := 1; n <= 4; n++ {
		got = got.AtLeast(n, 5*mib)
	}
	want := Disk{Table: GPT, Parts: []Part{
		{Number: 1, Size: 10 * mib}, {Number: 2, Size: 10 * mib, Min: 5 * mib}, {Number: 3, Fill: true, Min: 5 * mib}, {Number: 4, Fill: true, Size: 9 * mib, Min: 9 * mib},
	}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if d.Parts[1].Min != mib {
		t.Error("changes the layout that it was called on")
	}
}

// TestFromTableRefuses: sizes of such tables mean nothing.
func TestFromTableRefuses(t *testing.T) {
	part := func(n int, typ byte, start, count int64) FittedPart {
		return FittedPart{Part: Part{Number: n, Type: typ}, Start: start, Count: count}
	}
	for _, c := range []struct {
		want  string
		parts []FittedPart
	}{
		{"partitions 2 and 1 overlap", []FittedPart{part(1, 0x83, 4000, 9), part(2, 0x83, 2048, 1953)}},
		{"partitions 5 and 6 overlap", []FittedPart{part(1, 5, 2048, 9000), part(5, 0x83, 3000, 99), part(6, 0x83, 3098, 9)}},
		{"logical partition 5 lies outside of the extended partition 1", []FittedPart{part(1, 5, 2048, 1000), part(5, 0x83, 3000, 49)}},
		{"logical partition 5 lies outside of the extended partition 1", []FittedPart{part(1, 5, 2048, 1000), part(5, 0x83, 2048, 49)}},
		{"0 extended partitions for 1 logical", []FittedPart{part(5, 0x83, 2048, 49)}},
		{"2 extended partitions", []FittedPart{part(1, 5, 2048, 9), part(2, 15, 4096, 9)}},
	} {
		_, err := FromTable(Fitted{Table: MBR, SectorSize: 512, Parts: c.parts})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// FuzzParseTable: a table can be anything, and then no sum of it overflows.
func FuzzParseTable(f *testing.F) {
	f.Add([]byte(`{"partitiontable":{"label":"dos","id":"0x1","device":"d","unit":"sectors","sectorsize":512,"partitions":[{"node":"d1","start":2048,"size":2048,"type":"83","bootable":true}]}}`))
	f.Add([]byte(`{"partitiontable":{"label":"gpt","partitions":[{"node":"dp1","size":5,"type":"21686148-6449-6E6F-744E-656564454649","attrs":"GUID:1,2"}]}}`))
	f.Add([]byte(`{"partitiontable":{"label":"dos","partitions":[{"node":"d1","start":1,"size":9,"type":"5"},{"node":"d5","start":0,"size":9,"type":"83"},{"node":"d6","start":2,"size":99,"type":"83"}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		table, err := ParseTable(text, "d")
		if err != nil {
			return
		}
		for _, p := range table.Parts {
			if p.Number < 1 || p.Count < 1 || p.Start < 0 || (p.Start+p.Count)*table.SectorSize < 0 {
				t.Fatalf("%+v", p)
			}
		}
		d, err := FromTable(table)
		if err != nil {
			return
		}
		fitted, err := d.Fit(maxDisk/4, 512)
		if err == nil {
			check(t, fitted, maxDisk/4)
		}
	})
}
