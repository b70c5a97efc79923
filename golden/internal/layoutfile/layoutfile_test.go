package layoutfile

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// example is the one of docs/disks.md.
const example = `
disks:
  sda:
    match: {size: ">=40G", bus: ata, rotational: no}
    partitions:
      - bios 1M
      - efi 512M vfat /boot/efi
      - {type: raid, size: 1G}
      - {type: raid, size: fill, min: 20G}
  sdb:
    like: sda
raid:
  md0: {level: 1, of: [sda3, sdb3], metadata: 1.0, fs: ext4, mount: /boot}
  md1: {level: 1, of: [sda4, sdb4]}
luks:
  crypt: {of: md1, version: 2}
lvm:
  vg0:
    of: mapper/crypt
    volumes:
      root: {size: 20G, min: 8G, fs: ext4, mount: /, label: root, reserved: 1%}
      swap: 2G swap
      home: {size: fill, min: 5G, fs: btrfs, subvolumes: {"@home": /home, "@snap": {mount: /home/.snap, default: yes}, "@home/x": {inside: /home/x}}}
`

func parse(t *testing.T, text string) File {
	t.Helper()
	f, err := Parse(strings.NewReader(text), "layout.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParse(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	no := false
	disk := layout.Disk{Table: layout.GPT, Parts: []layout.Part{
		{Number: 1, Kind: layout.Primary, GUID: layout.GUIDBIOSBoot, Size: mib},
		{Number: 2, Kind: layout.Primary, GUID: layout.GUIDESP, Size: 512 * mib},
		{Number: 3, Kind: layout.Primary, GUID: layout.GUIDRAID, Size: gib},
		{Number: 4, Kind: layout.Primary, GUID: layout.GUIDRAID, Fill: true, Min: 20 * gib},
	}}
	want := File{
		Disks: []wire.DiskPlan{
			{Name: "sda", Layout: disk, Match: layout.Match{MinBytes: 40 * gib, Bus: "ata", Rotational: &no}},
			{Name: "sdb", Layout: disk},
		},
		Stack: layout.Stack{
			Arrays: []layout.Array{
				{Name: "md0", Level: 1, Members: []string{"sda3", "sdb3"}, Metadata: "1.0"},
				{Name: "md1", Level: 1, Members: []string{"sda4", "sdb4"}},
			},
			Crypts: []layout.Crypt{{Name: "crypt", Device: "md1", Version: 2}},
			Groups: []layout.Group{{Name: "vg0", Devices: []string{"mapper/crypt"}, Volumes: []layout.Volume{
				{Name: "root", Size: 20 * gib, Min: 8 * gib}, {Name: "swap", Size: 2 * gib}, {Name: "home", Fill: true, Min: 5 * gib},
			}}},
		},
		Filesystems: []wire.Filesystem{
			{Part: 2, Type: "vfat", MountPoint: "/boot/efi"},
			{On: "md0", Type: "ext4", MountPoint: "/boot"},
			{On: "vg0/root", Type: "ext4", MountPoint: "/", Label: "root", Reserved: 1},
			{On: "vg0/swap", Type: "swap"},
			{On: "vg0/home", Type: "btrfs", MountPoint: "/home", Subvolumes: []wire.Subvolume{
				{Path: "@home", MountPoint: "/home", Mounted: true},
				{Path: "@snap", MountPoint: "/home/.snap", Mounted: true, Default: true},
				{Path: "@home/x", MountPoint: "/home/x"},
			}},
		},
	}
	got := parse(t, example)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if diff := cmp.Diff(got, parse(t, Print(got))); diff != "" {
		t.Errorf("printed as\n%s\n%s", Print(got), diff)
	}
}

// TestPrint: what it prints is what a person would write.
func TestPrint(t *testing.T) {
	const text = `disks:
  sda:
    match: {name: "sd*", serial: "WD 4", size: 100G..2T}
    table: mbr
    partitions:
      - {type: linux, size: 20%, min: 5G, max: 1T, fs: xfs, mount: /, label: "r oot", features: [reflink=1]}
      - {type: extended, size: 20G, grow: yes}
      - {type: logical swap, size: 3500M, fs: swap}
      - {type: logical type7, size: fill, mount: /mnt}
      - {type: linux, number: 4, size: 1000B, boot: yes}
  nvme0n1:
    table: gpt
    partitions:
      - {type: 933AC7E1-2EB4-4F13-B844-0E14E2AEF915, number: 2, size: fill, partlabel: "größe \"x\"", boot: yes, flags: [RequiredPartition, "GUID:60"], fs: ext4, mount: "/ho me", options: "noatime,data=ordered", inode: 512, block: 4096, reserved: none}
  sdb:
    table: none
    fs: btrfs
    mount: /srv
    subvolumes: {"@": {}, "@a": {inside: /srv/a}, "@b": {mount: /b}}
`
	f := parse(t, text)
	if got := Print(f); got != text {
		t.Errorf("got %s", cmp.Diff(text, got))
	}
}

// TestNumbers: the next number follows the one before, whichever that is.
func TestNumbers(t *testing.T) {
	f := parse(t, "disks:\n  sda:\n    table: mbr\n    partitions: [{size: 1, number: 2}, linux 1, extended fill, logical linux 1, logical linux fill]")
	var got []int
	for _, p := range f.Disks[0].Layout.Parts {
		got = append(got, p.Number)
	}
	if want := []int{2, 3, 4, 5, 6}; !slices.Equal(got, want) {
		t.Errorf("numbers %v, want %v", got, want)
	}
	if diff := cmp.Diff(f, parse(t, Print(f))); diff != "" {
		t.Error(diff)
	}
}

func TestParseErrors(t *testing.T) {
	disk := func(lines string) string { return "disks:\n  sda:\n    partitions:\n" + lines }
	for _, c := range []struct{ text, want string }{
		{"", "f:1: empty"},
		{"- a", "f:1: the file: […]: want keys with values: disks, raid, luks, lvm"},
		{"disks: {}", "f:1: disks: none"},
		{"disks:\n  sda: {}", "f:2: disk sda: no partitions"},
		{"disks:\n  sda:\n", "f:2: disk sda: nothing: want keys"},
		{"raid: {}\n", "f:1: the file: no disks"},
		{"disks:\n\tsda", "f:2: found character that cannot start any token"},
		{"disks: [\n", "f:1: did not find expected node content"},
		{"disks: {a: {table: none}}\n---\nx: 1", "f:2: a second document"},
		{"disks:\n  sda:\n    table: none\n    \x01: 3", `f:4: "    \x01: 3": no text`},
		{"disks:\n  sda: &x {table: none}\n  sdb: *x", `f:2: &x: anchors are not for here`},
		{"disks:\n  sda: {table: !!binary none}", "f:2: !!binary: tags"},
		{"disks:\n  sda: {table: none}\n  sdb: *x", `f:3: unknown anchor 'x'`},
		{"disks:\n  sda: {table: none}\n  sda: {table: none}", "f:3: disks: sda: line 2 has it already"},
		{"disks:\n  sda:\n    tabel: none", `f:3: disk sda: unknown key "tabel": want match, table`},
		{"disks:\n  sda:\n    table: bsd", `f:3: disk sda: table "bsd": want gpt, mbr or none`},
		{"disks:\n  ../x: {table: none}", `f:2: disk "../x": want a name`},
		{"disks:\n  sda: {table: none, partitions: [linux fill]}", "f:2: disk sda: partitions: a disk with table: none"},
		{"disks:\n  sda: {partitions: [linux fill], fs: ext4}", "f:2: disk sda: fs: only a disk with table: none"},
		{"disks:\n  sda: {table: none}\n  sdb: {like: sdc}", `f:3: disk sdb: like "sdc": no disk before it`},
		{"disks:\n  sda: {table: none}\n  sdb: {like: sda, table: gpt}", `f:3: disk sdb: table: it is like sda`},
		{"disks:\n  sda:\n    table: none\n    match: {size: 5G}", `f:4: disk sda: match: size: "5G": want a range`},
		{"disks:\n  sda:\n    table: none\n    match: {size: 5G..4G}", `f:4: disk sda: match: size: "5G..4G": the first is larger`},
		{"disks:\n  sda:\n    table: none\n    match: {bus: sata}", `f:4: disk sda: match: bus "sata": want ata, scsi`},
		{"disks:\n  sda:\n    table: none\n    match: {model: \"[a\"}", `f:4: disk sda: match: model: "[a"`},
		{"disks:\n  sda:\n    table: none\n    match: {rotational: maybe}", `f:4: disk sda: match: rotational: "maybe": want yes or no`},
		{disk("      - linux 5\n      - linucks 5\n"), `f:5: partition of sda: type "linucks": want linux, swap`},
		{disk("      - linux 5G ext4 / x\n"), `f:4: partition of sda: "x": want no more than`},
		{disk("      - linux 5X\n"), `f:4: partition of sda: size: "5X": want a size such as`},
		{disk("      - linux 0\n"), `f:4: partition of sda: size: "0": no size`},
		{disk("      - linux 99999999999P\n"), `f:4: partition of sda: size: "99999999999P": no size`},
		{disk("      - linux 101%\n"), `f:4: partition of sda: size "101%"`},
		{disk("      - linux\n"), `f:4: partition of sda: number 1: size 0 bytes`},
		{disk("      - {size: 5G, min: 6G, max: 5G}\n"), `f:4: partition of sda: number 1: it needs at least`},
		{disk("      - {size: 5G, nubmer: 4}\n"), `f:4: partition of sda: unknown key "nubmer"`},
		{disk("      - {size: 5G, number: 0}\n"), `f:4: partition of sda: number: "0": want a number from 1 to 128`},
		{disk("      - {size: 5G, number: 2}\n      - {size: 5G, number: 2}\n"), `f:5: partition sda2: line 4 has a partition of that name`},
		{disk("      - extended fill\n"), `f:4: partition of sda: type "extended": a GPT has no such type`},
		{disk("      - logical swap fill\n"), `f:4: partition of sda: number 5: kind "logical" in a gpt table`},
		{disk("      - {type: linux, size: fill, flags: [bootable]}\n"), `f:4: partition of sda: number 1: flag "bootable"`},
		{disk("      - {size: 5G, fs: ext5}\n"), `f:4: partition of sda: fs "ext5": want ext2, ext3`},
		{disk("      - {size: 5G, label: x}\n"), `f:4: partition of sda: label: of no file system`},
		{disk("      - {size: 5G, fs: ext4, mount: home}\n"), `f:4: partition of sda: mount: "home": want an absolute path`},
		{disk("      - {size: 5G, fs: swap, mount: /x}\n"), `f:4: partition of sda: mount: "/x": swap isn't mounted`},
		{disk("      - 5G\n"), `f:4: partition of sda: type "5G"`},
		{disk("      - linux 5G ext4 /\n      - linux 5G ext4 /\n"), `f:5: partition of sda: mount: "/": line 4 mounts another`},
		{disk("      - {size: 5G, fs: ext4, reserved: 60%}\n"), `f:4: partition of sda: reserved: "60%": want a percentage`},
		{disk("      - {size: 5G, fs: ext4, subvolumes: {a: /}}\n"), `f:4: partition of sda: subvolumes: only btrfs`},
		{disk("      - {size: 5G, fs: btrfs, subvolumes: {../a: /}}\n"), `f:4: partition of sda: subvolume ../a: want a path`},
		{disk("      - {size: 5G, fs: btrfs, subvolumes: {a: {mount: /a, inside: /b}}}\n"), `f:4: partition of sda: subvolume a: want mount`},
		{"disks:\n  sda: {table: mbr, partitions: [linux 1, linux 1, linux 1, linux 1,\n    linux 1]}", `f:3: partition of sda: number 5: a primary number is 1 to 4`},
		{"disks:\n  sda: {table: mbr, partitions: [logical linux 5]}", `f:2: disk sda: layout has 0 extended partitions for 1 logical`},
		{disk("      - raid 5\nraid:\n  md0: {level: 1, of: [sda1,\n    sda2]}"), `f:7: raid md0: of "sda2": no such partition`},
		{disk("      - raid 5\nraid:\n  md0: {level: 1, of: [sda1, sda1]}"), `f:6: raid md0: of "sda1": it is used already, by raid md0`},
		{disk("      - linux 5 ext4 /\nraid:\n  md0: {level: 1, of: [sda1, sda2]}"), `f:6: raid md0: of "sda1": it is used already, by a file system`},
		{disk("      - raid 5\nraid:\n  md0: {level: 3, of: [sda1]}"), `f:6: raid "md0": level 3`},
		{disk("      - raid 5\nraid:\n  foo: {level: 1, of: [sda1]}"), `f:6: raid "foo": want a name`},
		{disk("      - raid 5\nraid:\n  md0: {level: 1}"), `f:6: raid md0: no of`},
		{disk("      - raid 5\nluks:\n  c: {of: sda1, version: 3}"), `f:6: luks c: version: "3"`},
		{disk("      - raid 5\nlvm:\n  vg:\n    of: sda1\n    volumes:\n      a: 5G\n      b: {}\n"), `f:10: lvm "vg": volume "b": size 0`},
		{disk("      - raid 5\nlvm:\n  vg:\n    of: vg/a\n    volumes:\n      a: 5G\n"), `f:6: volume group vg: made of volume vg/a`},
		{disk("      - raid 5\nluks:\n  c: {of: vg/a}\nlvm:\n  vg:\n    of: mapper/c\n    volumes:\n      a: 5G\n"), `f:6: mapper/c is made of itself`},
		{strings.Repeat("#", 600<<10), "f: larger than"},
	} {
		_, err := Parse(strings.NewReader(c.text), "f")
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.120q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

// TestDocs: the layout files of docs/disks.md are what they are said to be.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/disks.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(disks:.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("no layout file in docs/disks.md")
	}
	for _, b := range blocks {
		f := parse(t, b[1])
		for _, d := range f.Disks {
			if _, err := d.Layout.Fit(100<<30, 512); err != nil {
				t.Errorf("%v:\n%s", err, b[1])
			}
		}
	}
}

func TestSizes(t *testing.T) {
	for word, want := range map[string]int64{"5": 5 << 20, "5M": 5 << 20, "5MiB": 5 << 20, "5MB": 5e6, "1.5G": 3 << 29, "1B": 1, "2P": 2 << 50, "0.5K": 512} {
		got, err := parseSize(word)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v", word, got, err)
		}
		again, err := parseSize(printSize(got))
		if err != nil || again != got {
			t.Errorf("%s printed as %s", word, printSize(got))
		}
	}
	for _, word := range []string{"", "M", "5m", "-5M", "5i", "5 M", "1e3", "0x5", "0", "0.0M", "1.2.3", "9999999T", "5Mi", "NaN"} {
		if n, err := parseSize(word); err == nil {
			t.Errorf("%q is %d", word, n)
		}
	}
}

// FuzzParse: whatever is refused is refused with the file's name, and whatever
// is taken comes back the same when it is printed.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add("disks:\n  sda:\n    table: mbr\n    partitions:\n      - linux 3500 ext3 /\n      - extended fill\n      - logical swap 500 swap\n      - logical linux fill\n")
	f.Add("disks: {sda: {table: none, fs: ext4, mount: /, options: \"a,b\"}, sdb: {like: sda, match: {size: 1G..2G, name: 'sd?'}}}\n")
	f.Add("disks: {sda: {partitions: [{type: 933AC7E1-2EB4-4F13-B844-0E14E2AEF915, number: 9, size: 5%, grow: on, flags: ['GUID:60'], partlabel: \"\\u00e4\"}]}}")
	f.Add("disks: &a [*a, !!binary x, {<<: *a}, ? b : c]")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse(strings.NewReader(text), "fuzz")
		if err != nil {
			if !strings.HasPrefix(err.Error(), "fuzz:") {
				t.Fatalf("error names no file: %v", err)
			}
			return
		}
		printed := Print(file)
		again, err := Parse(strings.NewReader(printed), "again")
		if err != nil {
			t.Fatalf("%v in\n%s", err, printed)
		}
		if diff := cmp.Diff(file, again); diff != "" {
			t.Fatalf("%s\n%s", printed, diff)
		}
		for _, d := range file.Disks {
			if _, err := d.Layout.Fit(1<<40, 512); err != nil && !strings.Contains(err.Error(), "MB") {
				t.Fatalf("what was taken isn't valid: %v", err)
			}
		}
	})
}
