package layout

import (
	"strings"
	"testing"
)

// sizes fits the layout and lists what its partitions have, in MB.
func sizes(t *testing.T, d Disk, mb int64) map[int]int64 {
	t.Helper()
	f, err := d.Fit(mb*mib, 512)
	if err != nil {
		t.Fatal(err)
	}
	check(t, f, mb*mib)
	got := map[int]int64{}
	for _, p := range f.Parts {
		got[p.Number] = p.Count * f.SectorSize / mib
	}
	return got
}

// TestGrow: a golden machine's own layout on its own disk, on a larger one, and
// on smaller ones as far as the files fit.
func TestGrow(t *testing.T) {
	golden := Disk{Table: GPT, Parts: []Part{
		{Number: 1, Kind: Primary, GUID: GUIDESP, Size: 100 * mib},
		{Number: 2, Kind: Primary, GUID: GUIDLinux, Size: 3000 * mib},
		{Number: 3, Kind: Primary, GUID: GUIDSwap, Size: 500 * mib},
		{Number: 4, Kind: Primary, GUID: GUIDLVM, Size: 5000 * mib},
		{Number: 5, Kind: Primary, GUID: guidData, Size: 200 * mib},
	}}
	grown := golden.Grow()
	for _, c := range []struct {
		disk, root, lvm int64
	}{
		{8802, 3000, 5000},  // its own size: the first MiB and the last
		{10802, 3000, 7000}, // 2000 more
		{4802, 1500, 2500},  // half for files
	} {
		got := sizes(t, grown, c.disk)
		// What rounding moves.
		if d := got[2] - c.root; d < -1 || d > 1 || got[2]+got[4] != c.root+c.lvm || got[1] != 100 || got[3] != 500 || got[5] != 200 {
			t.Errorf("on %d MB: %v, want 2: %d, 4: %d", c.disk, got, c.root, c.lvm)
		}
	}
	needy := grown.AtLeast(2, 2800*mib).AtLeast(4, 1000*mib+1)
	if got := sizes(t, needy, 4802); got[2]+got[4] != 4000 || got[2] < 2800 || got[4] < 1001 {
		t.Errorf("with files: %v", got)
	}
	if _, err := needy.Fit(4500*mib, 512); err == nil || !strings.Contains(err.Error(), "the layout takes 4601 MB at least, the disk has room for 4498 MB") {
		t.Errorf("too small for the files: %v", err)
	}
	if golden.Parts[1].Min != 0 {
		t.Error("Grow changed the layout that it was called on")
	}
}

// TestGrowOthers: of a type that nobody here knows nothing is known.
func TestGrowOthers(t *testing.T) {
	golden := Disk{Table: GPT, Parts: []Part{
		{Number: 1, Kind: Primary, GUID: "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709", Size: 1000 * mib}, // Linux's root
		{Number: 2, Kind: Primary, GUID: "933AC7E1-2EB4-4F13-B844-0E14E2AEF915", Size: 1000 * mib}, // its home
		{Number: 3, Kind: Primary, GUID: "DE94BBA4-06D1-4D40-A16A-BFD50179D6AC", Size: 500 * mib},  // Windows's recovery
		{Number: 4, Kind: Primary, GUID: "01234567-89AB-4DEF-8123-456789ABCDEF", Size: 500 * mib},
	}}
	if got := sizes(t, golden.Grow(), 4002); got[1] != 1000 || got[2] != 2000 || got[3] != 500 || got[4] != 500 {
		t.Errorf("on a larger disk: %v", got)
	}
	if got := sizes(t, golden.Grow(), 2002); got[1] != 500 || got[2] != 500 || got[3] != 500 || got[4] != 500 {
		t.Errorf("on a smaller disk: %v", got)
	}
}

// TestGrowLogical: an extended partition shrinks and grows with its logicals.
func TestGrowLogical(t *testing.T) {
	golden := parse(t, "linux 1000\nextended 4003\nlogical swap 1000\nlogical linux 1000\nlogical linux 2000")
	grown := golden.Grow()
	if got := sizes(t, grown, 5004); got[1] != 1000 || got[2] != 4003 || got[5] != 1000 || got[6] != 1000 || got[7] != 2000 {
		t.Errorf("on its own disk: %v", got)
	}
	if got := sizes(t, grown, 7004); got[1] != 1000 || got[2] != 6003 || got[6] != 1000 || got[7] != 4000 {
		t.Errorf("on a larger disk: %v", got)
	}
	got := sizes(t, grown, 3004)
	if got[5] != 1000 || got[1] < 499 || got[1] > 501 || got[6] < 499 || got[6] > 501 || got[7] < 999 || got[7] > 1001 || got[2] != 3+got[5]+got[6]+got[7] {
		t.Errorf("on a smaller disk: %v", got)
	}
	if got := sizes(t, grown.AtLeast(7, 1500*mib), 3004); got[7] < 1500 {
		t.Errorf("with files: %v", got)
	}
	none := parse(t, "swap 5\ntype7 10")
	if got := sizes(t, none.Grow(), 100); got[1] != 5 || got[2] != 10 {
		t.Errorf("nothing that holds files: %v", got)
	}
}

// TestExtendedFollows: an extended partition without a size of its own is as
// its logicals want it, and a limit of its own is no reason to cut them off.
func TestExtendedFollows(t *testing.T) {
	mbr := func(extended Part, logicals ...Part) Disk {
		extended.Number, extended.Kind, extended.Type = 2, Extended, TypeExtended
		d := Disk{Table: MBR, Parts: []Part{{Number: 1, Kind: Primary, Type: TypeLinux, Size: 100 * mib}, extended}}
		for i, p := range logicals {
			p.Number, p.Kind, p.Type = 5+i, Logical, TypeLinux
			d.Parts = append(d.Parts, p)
		}
		return d
	}
	for name, c := range map[string]struct {
		d    Disk
		want map[int]int64 // on 1001 MB
	}{
		"as they take":            {mbr(Part{}, Part{Size: 50 * mib}, Part{Percent: 10}), map[int]int64{1: 100, 2: 152, 5: 50, 6: 100}},
		"one fills":               {mbr(Part{}, Part{Size: 50 * mib}, Part{Fill: true}), map[int]int64{1: 100, 2: 900, 5: 50, 6: 848}},
		"one fills up to a limit": {mbr(Part{Size: 300 * mib}, Part{Fill: true, Max: 20 * mib}), map[int]int64{1: 100, 2: 300, 5: 20}},
		"a limit too low":         {mbr(Part{Percent: 5, Max: 20 * mib}, Part{Size: 50 * mib}), map[int]int64{1: 100, 2: 51, 5: 50}},
		"fills above its limit":   {mbr(Part{Fill: true, Max: 20 * mib}, Part{Size: 50 * mib}), map[int]int64{1: 100, 2: 51, 5: 50}},
		"a size too low":          {mbr(Part{Size: 20 * mib}, Part{Size: 50 * mib}), map[int]int64{1: 100, 2: 51, 5: 50}},
		"none in it":              {mbr(Part{}), map[int]int64{1: 100, 2: 1}},
	} {
		got := sizes(t, c.d, 1001)
		for n, want := range c.want {
			if got[n] != want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
				break
			}
		}
	}
}

// TestFitWords: what each word of a size does.
func TestFitWords(t *testing.T) {
	gpt := func(parts ...Part) Disk {
		for i := range parts {
			parts[i].Number, parts[i].Kind, parts[i].GUID = i+1, Primary, GUIDLinux
		}
		return Disk{Table: GPT, Parts: parts}
	}
	for name, c := range map[string]struct {
		d    Disk
		disk int64 // room is 2 less
		want []int64
	}{
		"per cent":                {gpt(Part{Percent: 25}, Part{Percent: 75}), 1002, []int64{250, 750}},
		"per cent and the rest":   {gpt(Part{Percent: 25}, Part{Size: 100 * mib}, Part{Fill: true}), 1002, []int64{250, 100, 650}},
		"two fill":                {gpt(Part{Fill: true}, Part{Size: 100 * mib}, Part{Fill: true}), 1002, []int64{450, 100, 450}},
		"one reaches its limit":   {gpt(Part{Fill: true, Max: 100 * mib}, Part{Fill: true}, Part{Fill: true}), 1002, []int64{100, 450, 450}},
		"all reach it":            {gpt(Part{Fill: true, Max: 100 * mib}, Part{Percent: 50, Max: 200*mib + 5}), 1002, []int64{100, 200}},
		"least is more than fair": {gpt(Part{Fill: true, Min: 700 * mib}, Part{Fill: true}), 1002, []int64{700, 300}},
		"grow on top of sizes":    {gpt(Part{Size: 100 * mib, Fill: true}, Part{Size: 300 * mib, Fill: true}), 1002, []int64{400, 600}},
		"shrink in proportion":    {gpt(Part{Size: 1100 * mib, Min: 100 * mib}, Part{Size: 700 * mib, Min: 200 * mib}, Part{Size: 50 * mib}), 1102, []int64{600, 450, 50}},
		"an odd MiB":              {gpt(Part{Fill: true}, Part{Fill: true}, Part{Fill: true}), 1002, []int64{334, 333, 333}},
	} {
		got := sizes(t, c.d, c.disk)
		for i, want := range c.want {
			if got[i+1] != want {
				t.Errorf("%s: %v, want %v", name, got, c.want)
				break
			}
		}
	}
	f, err := Disk{Table: None}.Fit(1<<30, 512)
	if err != nil || len(f.Parts) != 0 || f.Script() != "" {
		t.Errorf("a disk without a table: %+v, %v", f, err)
	}
	_, err = gpt(Part{Fill: true, Max: 5 * mib}).AtLeast(1, 9*mib).Fit(1<<30, 512)
	if err == nil || !strings.Contains(err.Error(), "it needs at least 9 MB and shall have at most 5 MB") {
		t.Errorf("more files than it may have: %v", err)
	}
}
