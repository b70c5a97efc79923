package layout

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

// manual is the desc that the manual prints as its default.
const manual = "linux 3500\nextended fill\nlogical swap 500\nlogical linux fill\n"

func parse(t *testing.T, text string) Disk {
	t.Helper()
	d, err := ParseDesc(strings.NewReader(text), "desc")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestParseManual(t *testing.T) {
	got := parse(t, "# the manual's\n\nlinux 3500   # /\nextended fill\r\n\tlogical swap 500\nlogical type83 fill")
	want := Disk{Table: MBR, Parts: []Part{
		{Number: 1, Kind: Primary, Type: 0x83, Size: 3500 << 20, Boot: true},
		{Number: 2, Kind: Extended, Type: 0x05, Fill: true},
		{Number: 5, Kind: Logical, Type: 0x82, Size: 500 << 20},
		{Number: 6, Kind: Logical, Type: 0x83, Fill: true},
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if got.Desc() != manual {
		t.Errorf("printed: %q", got.Desc())
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ desc, want string }{
		{"", "desc: no partition"},
		{"# nothing\n", "desc: no partition"},
		{"linux 10\nlinucks 20", `desc:2: type "linucks"`},
		{"type100 20", `desc:1: type "type100"`},
		{"type0 20", `desc:1: type "type0"`},
		{"typeEE 20", `desc:1: type "typeEE": it marks a GPT`},
		{"type-1 20", `desc:1: type "type-1"`},
		{"type 20", `desc:1: type "type"`},
		{"linux", "desc:1: linux: no size"},
		{"\nlogical", "desc:2: logical: no type"},
		{"linux 3500M", `desc:1: size "3500M"`},
		{"linux -5", `desc:1: size "-5"`},
		{"linux 0", `desc:1: size "0": want 1 to 16777216`},
		{"linux 16777217", `desc:1: size "16777217"`},
		{"linux 99999999999999999999999", `desc:1: size "99999999999999999999999": want 1 to`},
		{"linux 5\nlogical efi 5", "desc:2: efi: an EFI system partition can't be logical"},
		{"extended fill\nlogical linux 5\nefi 100", "desc:1: extended: the efi line makes this a GPT"},
		{"efi 100\nlogical linux 5", "desc:2: logical: the efi line makes this a GPT"},
		{"efi 100\ntypea5 5", "desc:2: typea5: the efi line makes this a GPT, where that type"},
		{"efi 100\n" + strings.Repeat("linux 1\n", 128), "desc:129: linux: more than 128"},
		{"linux 5 ext4", `desc:1: "ext4"`},
		{"logical linux 5\nextended fill", "desc:1: logical linux: no extended"},
		{"extended fill\nlogical extended 4", "desc:2: extended: an extended partition can't be logical"},
		{"extended fill\nlogical typef 4", "desc:2: typef: an extended"},
		{"extended fill\nextended 5", "desc:2: extended: a second extended partition: the first is in line 1"},
		{"linux 1\nlinux 1\nlinux 1\nlinux 1\nswap 1", "desc:5: swap: a fifth primary"},
		{"linux fill\nswap fill", "desc:2: swap fill: line 1 fills"},
		{"extended fill\nlogical swap fill\nlogical linux fill", "desc:3: linux fill: line 2 fills"},
		{"linux 5992\nextended 71657\nlogical linux 52281\nlogical linux 156327\n", "desc:2: extended 71657: its logical partitions take 208608"},
		{"extended fill\n" + strings.Repeat("logical linux 1\n", 60), "desc:61: linux: more than 60"},
		{strings.Repeat("#\n", 40000), "desc: larger than"},
		{strings.Repeat("x", 70000), "desc: larger than"},
		{"linux 5\n\x00\xff 5\n", `desc:2: type "\x00\xff"`},
	} {
		_, err := ParseDesc(strings.NewReader(c.desc), "desc")
		if err == nil || !strings.HasPrefix(err.Error(), c.want) {
			t.Errorf("%.40q: got %v, want %s", c.desc, err, c.want)
		}
	}
}

// TestParseEFI: the line makes a GPT; typeef stays what it was.
func TestParseEFI(t *testing.T) {
	got := parse(t, "linux 1600\nefi 100 # anywhere\nswap 128\ntype8e 5\nlinux 7\nlinux fill")
	want := Disk{Table: GPT, Parts: []Part{
		{Number: 1, Kind: Primary, GUID: GUIDLinux, Size: 1600 << 20},
		{Number: 2, Kind: Primary, GUID: GUIDESP, Size: 100 << 20},
		{Number: 3, Kind: Primary, GUID: GUIDSwap, Size: 128 << 20},
		{Number: 4, Kind: Primary, GUID: "E6D6D379-F507-44C2-A23C-238F2A3DF928", Size: 5 << 20},
		{Number: 5, Kind: Primary, GUID: GUIDLinux, Size: 7 << 20},
		{Number: 6, Kind: Primary, GUID: GUIDLinux, Fill: true},
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if n, ok := got.ESP(); n != 2 || !ok {
		t.Errorf("its EFI system partition is %d, %v", n, ok)
	}
	if text := got.Desc(); text != "linux 1600\nefi 100\nswap 128\ntype8e 5\nlinux 7\nlinux fill\n" {
		t.Errorf("printed: %q", text)
	}
	old := parse(t, "typeef 100\nlinux fill")
	if old.Table != MBR || !old.Parts[0].IsESP() || old.Desc() != "typeef 100\nlinux fill\n" {
		t.Errorf("typeef: %+v, printed %q", old, old.Desc())
	}
	if _, ok := parse(t, manual).ESP(); ok {
		t.Error("the manual's desc has none")
	}
}

// TestManualTable takes the table that the manual's fdisk -l prints, in its
// blocks of 1 KiB, and wants the desc that the manual's fdisk_to_desc printed.
func TestManualTable(t *testing.T) {
	part := func(n int, typ byte, start, blocks int64) FittedPart {
		return FittedPart{Part: Part{Number: n, Type: typ}, Start: start, Count: blocks * 2}
	}
	cyl := int64(16065)
	d, err := FromTable(Fitted{Table: MBR, SectorSize: 512, Parts: []FittedPart{
		part(5, 0x83, 4843*cyl+63, 39246763), part(1, 0x82, 63, 8185086),
		part(3, 0x05, 4843*cyl, 39246795), part(2, 0x83, 1019*cyl, 30716280),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Desc(), "swap 7993\nlinux 29996\nextended 38326\nlogical linux 38326\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	// And the manual's disk of 80 GB holds its own desc again.
	f, err := parse(t, d.Desc()).Fit(80026361856, 512)
	if err != nil {
		t.Fatal(err)
	}
	check(t, f, 80026361856)
	if got := d.Grow().Desc(); got != "swap 7993\nlinux 29996\nextended fill\nlogical linux fill\n" {
		t.Errorf("grown: %q", got)
	}
}

func TestGPTDesc(t *testing.T) {
	p := func(n int, guid string, start int64) FittedPart {
		return FittedPart{Part: Part{Number: n, GUID: strings.ToLower(guid)}, Start: start * (10 << 11), Count: 10 << 11}
	}
	d, err := FromTable(Fitted{Table: GPT, SectorSize: 512, Parts: []FittedPart{
		p(1, GUIDBIOSBoot, 1), p(2, GUIDESP, 2), p(3, GUIDLinux, 3), p(4, GUIDSwap, 4), p(5, "933AC7E1-2EB4-4F13-B844-0E14E2AEF915", 5), p(7, GUIDLinux, 6),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Desc(), "typeda 10\nefi 10\nlinux 10\nswap 10\nlinux 10\nlinux 10\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := parse(t, d.Desc()); got.Table != GPT || got.Parts[0].GUID != GUIDBIOSBoot || got.Parts[1].GUID != GUIDESP || got.Parts[5].Number != 6 {
		t.Errorf("printed and parsed again: %+v", got)
	}
	bios := d
	bios.Parts = slices.Concat(d.Parts[:1], d.Parts[2:], []Part{{Number: 8, Kind: Primary, GUID: GUIDLinux, Size: 10 << 20}})
	_, got, _ := strings.Cut(bios.Desc(), "\n")
	if want := "linux 10\nswap 10\nlinux 10\nextended fill\nlogical linux 10\nlogical linux 10\n"; got != want {
		t.Errorf("without an EFI system partition: got %q, want %q", got, want)
	}
	parse(t, bios.Desc())
	if got := d.WithBIOSBoot(); len(got.Parts) != len(d.Parts) {
		t.Errorf("a second BIOS boot partition: %+v", got)
	}
	d.Parts = d.Parts[1:]
	if b := d.WithBIOSBoot().Parts; b[0].GUID != GUIDBIOSBoot || b[0].Number != 1 || len(b) != 6 {
		t.Errorf("no BIOS boot partition of number 1 first: %+v", b)
	}
	f, err := d.WithBIOSBoot().Grow().Fit(1<<30, 512)
	if err != nil {
		t.Fatal(err)
	}
	check(t, f, 1<<30)
}

// check is the judge of a fitted table: aligned, inside, in order, no overlap,
// logicals inside the extended one with room for their links.
func check(t *testing.T, f Fitted, bytes int64) {
	t.Helper()
	align := mib / f.SectorSize
	end := bytes / f.SectorSize
	if f.Table == GPT {
		end -= 33 * 512 / min(f.SectorSize, 512) * 512 / f.SectorSize
		end++ // 33 sectors of 512 bytes, 5 of 4096
	} else {
		end = min(end, 1<<32)
	}
	var extended FittedPart
	var tops, logicals []FittedPart
	for _, p := range f.Parts {
		if p.Start%align != 0 || p.Count%align != 0 || p.Count < align {
			t.Errorf("partition %d: %d+%d not aligned to %d", p.Number, p.Start, p.Count, align)
		}
		if p.Kind == Extended {
			extended = p
		}
		if p.Kind == Logical {
			logicals = append(logicals, p)
		} else {
			tops = append(tops, p)
		}
	}
	byStart := func(p, q FittedPart) int { return cmp.Compare(p.Start, q.Start) }
	slices.SortFunc(tops, byStart)
	top := int64(1)
	for _, p := range tops {
		if p.Start < top || p.Start+p.Count > end {
			t.Errorf("partition %d: %d+%d not between %d and %d", p.Number, p.Start, p.Count, top, end)
		}
		top = p.Start + p.Count
	}
	slices.SortFunc(logicals, byStart)
	top = extended.Start
	for i, p := range logicals {
		if p.Start < top+align || p.Start+p.Count > extended.Start+extended.Count {
			t.Errorf("logical %d: %d+%d not inside its place from %d to %d", p.Number, p.Start, p.Count, top, extended.Start+extended.Count)
		}
		if p.Number != 5+i {
			t.Errorf("logical %d is number %d on the disk", p.Number, 5+i)
		}
		top = p.Start + p.Count
	}
}

// random makes a layout that is valid, whatever its sum.
func random(r *rand.Rand) Disk {
	if r.IntN(3) == 0 {
		d := Disk{Table: GPT}
		for i := range 1 + r.IntN(20) {
			d.Parts = append(d.Parts, Part{Number: i + 1, Kind: Primary, GUID: GUIDLinux, Size: 1 + r.Int64N(9<<20)})
		}
		if r.IntN(2) == 0 {
			i := r.IntN(len(d.Parts))
			d.Parts[i].Fill, d.Parts[i].Size = true, 0
		}
		return d
	}
	d := Disk{Table: MBR}
	size := func() (int64, bool) { return (1 + r.Int64N(9)) << 20, false }
	primaries := 1 + r.IntN(4)
	extended := r.IntN(2*primaries) + 1
	filled := r.IntN(primaries + 1)
	for i := range primaries {
		s, fill := size()
		if i == filled {
			s, fill = 0, true
		}
		p := Part{Number: i + 1, Kind: Primary, Type: TypeLinux, Size: s, Fill: fill}
		if p.Number != extended {
			d.Parts = append(d.Parts, p)
			continue
		}
		p.Kind, p.Type = Extended, TypeExtended
		d.Parts = append(d.Parts, p)
		e := len(d.Parts) - 1
		var inside int64
		for j := range r.IntN(10) {
			s, _ := size()
			inside += s
			d.Parts = append(d.Parts, Part{Number: 5 + j, Kind: Logical, Type: TypeLinuxSwap, Size: s})
		}
		if !fill {
			d.Parts[e].Size = max(inside, 1<<20)
		}
		if n := len(d.Parts) - e - 1; n > 0 && r.IntN(2) == 0 {
			d.Parts[e+1+r.IntN(n)].Fill = true
			for k := range d.Parts {
				if d.Parts[k].Kind == Logical && d.Parts[k].Fill {
					d.Parts[k].Size = 0
				}
			}
		}
	}
	return d
}

func TestFitProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	fits, refused := 0, 0
	for range 5000 {
		d := random(r)
		bytes, sector := r.Int64N(200<<20), []int64{512, 4096}[r.IntN(2)]
		f, err := d.Fit(bytes, sector)
		if err != nil {
			if !strings.Contains(err.Error(), "MB") {
				t.Fatalf("%v: %v", d, err)
			}
			refused++
			continue
		}
		fits++
		check(t, f, bytes)
		if len(f.Parts) != len(d.Parts) {
			t.Errorf("%d partitions of %d", len(f.Parts), len(d.Parts))
		}
		if t.Failed() {
			t.Fatalf("%+v on %d bytes: %s", d, bytes, f.Script())
		}
		if d.Table != MBR {
			continue
		}
		again, err := ParseDesc(strings.NewReader(d.Desc()), "again")
		if err != nil || again.Desc() != d.Desc() {
			t.Fatalf("printed and parsed again: %v: %q", err, d.Desc())
		}
	}
	if fits < 500 || refused < 500 {
		t.Errorf("%d fitted, %d refused: the test tries too little of one", fits, refused)
	}
}

func TestFitTooSmall(t *testing.T) {
	_, err := parse(t, manual).Fit(4000<<20, 512)
	if err == nil || !strings.Contains(err.Error(), "takes 4003 MB") && !strings.Contains(err.Error(), "takes 4004 MB") || !strings.Contains(err.Error(), "3999 MB") {
		t.Errorf("got %v, want both sizes", err)
	}
	if _, err := parse(t, manual).Fit(0, 512); err == nil {
		t.Error("an empty disk holds nothing")
	}
	if _, err := parse(t, manual).Fit(1<<40, 520); err == nil {
		t.Error("a sector of 520 bytes is none of ours")
	}
}

func TestFitMBRLimit(t *testing.T) {
	f, err := parse(t, "linux 10\nswap 5\nlinux fill\n").Fit(3<<40, 512)
	if err != nil {
		t.Fatal(err)
	}
	check(t, f, 3<<40)
	last := f.Parts[2]
	if end := last.Start + last.Count; end > 1<<32 || end < 1<<32-4096 || len(f.Notes) != 1 {
		t.Errorf("ends at %d with notes %q", end, f.Notes)
	}
	if f, err = parse(t, "linux fill\n").Fit(3<<40, 4096); err != nil || len(f.Notes) != 0 {
		t.Errorf("3 TiB in sectors of 4096 bytes: %v %q", err, f.Notes)
	}
	if _, err = parse(t, "linux 3000000\n").Fit(4<<40, 512); err == nil {
		t.Error("3 TB fixed are beyond an MBR of 512-byte sectors")
	}
}

func TestFitRefusesForeign(t *testing.T) {
	ok := Part{Number: 1, Kind: Primary, GUID: GUIDLinux, Size: 1 << 20}
	for name, change := range map[string]func(*Part){
		"number":   func(p *Part) { p.Number = 129 },
		"kind":     func(p *Part) { p.Kind = Logical },
		"guid":     func(p *Part) { p.GUID = "x\nlabel: dos" },
		"name":     func(p *Part) { p.Name = "a\nb" },
		"size":     func(p *Part) { p.Size = -1 },
		"overflow": func(p *Part) { p.Size = 1 << 62 },
	} {
		p := ok
		change(&p)
		if _, err := (Disk{Table: GPT, Parts: []Part{p}}).Fit(1<<30, 512); err == nil {
			t.Errorf("%s: accepted %+v", name, p)
		}
	}
	if _, err := (Disk{Table: "bsd", Parts: []Part{ok}}).Fit(1<<30, 512); err == nil {
		t.Error("table bsd accepted")
	}
	if _, err := (Disk{Table: GPT, Parts: []Part{ok, ok}}).Fit(1<<30, 512); err == nil {
		t.Error("partition 1 twice accepted")
	}
	if _, err := (Disk{Table: GPT, Parts: []Part{ok}}).Fit(1<<30, 512); err != nil {
		t.Error(err)
	}
}
