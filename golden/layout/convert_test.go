package layout

import (
	"math/rand/v2"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestToGPT(t *testing.T) {
	d := parse(t, "swap 100\nextended 600\nlinux 300\nlogical linux 200\nlogical type8e 50\ntypec 9")
	got, numbers, err := d.To(GPT)
	if err != nil {
		t.Fatal(err)
	}
	want := Disk{Table: GPT, Parts: []Part{
		{Number: 2, Kind: Primary, GUID: GUIDBIOSBoot, Name: "BIOS boot", Size: mib},
		{Number: 1, Kind: Primary, GUID: GUIDSwap, Size: 100 * mib},
		{Number: 5, Kind: Primary, GUID: GUIDLinux, Size: 200 * mib},
		{Number: 6, Kind: Primary, GUID: GUIDLVM, Size: 50 * mib},
		{Number: 3, Kind: Primary, GUID: GUIDLinux, Size: 300 * mib, Boot: true},
		{Number: 4, Kind: Primary, GUID: guidData, Size: 9 * mib},
	}}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := gocmp.Diff(map[int]int{1: 1, 3: 3, 4: 4, 5: 5, 6: 6}, numbers); diff != "" {
		t.Error(diff)
	}
	back, numbers, err := got.To(MBR)
	if err != nil {
		t.Fatal(err)
	}
	if desc := back.Desc(); desc != "swap 100\nlinux 200\ntype8e 50\nextended fill\nlogical linux 300\nlogical type7 9\n" {
		t.Errorf("back: %q", desc)
	}
	if diff := gocmp.Diff(map[int]int{1: 1, 5: 2, 6: 3, 3: 5, 4: 6}, numbers); diff != "" {
		t.Error(diff)
	}
}

func TestToMBR(t *testing.T) {
	// The EFI system partition is the last one, and becomes a primary one.
	d := parse(t, "linux 1\nlinux 2\nlinux 3\nswap 4\nefi 5\n")
	got, numbers, err := d.To(MBR)
	if err != nil {
		t.Fatal(err)
	}
	if desc := got.Desc(); desc != "linux 1\nlinux 2\ntypeef 5\nextended fill\nlogical linux 3\nlogical swap 4\n" {
		t.Error(desc)
	}
	if diff := gocmp.Diff(map[int]int{1: 1, 2: 2, 5: 3, 3: 5, 4: 6}, numbers); diff != "" || !got.Parts[0].Boot {
		t.Errorf("%s %+v", diff, got)
	}
	// Four and GRUB's own: no extended one.
	few := Disk{Table: GPT, Parts: []Part{
		{Number: 7, Kind: Primary, GUID: GUIDBIOSBoot, Size: mib}, {Number: 3, Kind: Primary, GUID: GUIDLinux, Fill: true, Name: "root", Flags: []string{"GUID:60"}},
		{Number: 1, Kind: Primary, GUID: GUIDESP, Size: mib, Boot: true},
	}}
	got, numbers, err = few.To(MBR)
	want := Disk{Table: MBR, Parts: []Part{{Number: 3, Kind: Primary, Type: TypeLinux, Fill: true}, {Number: 1, Kind: Primary, Type: typeESP, Size: mib, Boot: true}}}
	if diff := gocmp.Diff(want, got); err != nil || diff != "" || len(numbers) != 2 || numbers[3] != 3 {
		t.Errorf("%v %v %s", err, numbers, diff)
	}
	few.Parts[1].Boot = true
	if got, _, err = few.To(MBR); err != nil || !got.Parts[0].Boot || got.Parts[1].Boot {
		t.Errorf("of two that are active one stays: %+v, %v", got, err)
	}
	few.Parts[1].Boot, few.Parts[2].Boot = false, false
	if got, _, err = few.To(MBR); err != nil || !got.Parts[0].Boot {
		t.Errorf("none is active: %+v, %v", got, err)
	}
	if same, numbers, err := few.To(GPT); err != nil || gocmp.Diff(few, same) != "" || numbers[7] != 7 {
		t.Errorf("to itself: %v, %v, %v", same, numbers, err)
	}
}

func TestToRefuses(t *testing.T) {
	many := Disk{Table: GPT}
	for n := range 80 {
		many.Parts = append(many.Parts, Part{Number: n + 1, Kind: Primary, GUID: GUIDLinux, Size: mib})
	}
	for _, c := range []struct {
		d    Disk
		to   Table
		want string
	}{
		{parse(t, "linux 5\ntypea5 5"), GPT, "partition 2: a GPT has no type for an MBR's a5"},
		{many, MBR, "want 1 to 60"},
		{Disk{Table: None}, GPT, "none can't become gpt"},
		{Disk{Table: GPT, Parts: many.Parts[:1]}, None, "gpt can't become none"},
	} {
		if _, _, err := c.d.To(c.to); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

// TestToProperties: whatever was valid is valid in the other table too, and no
// partition but the table's own is lost.
func TestToProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 2000 {
		d := random(r)
		other := GPT
		if d.Table == GPT {
			other = MBR
		}
		got, numbers, err := d.To(other)
		if err != nil {
			t.Fatalf("%+v: %v", d, err)
		}
		byNumber := map[int]Part{}
		for _, p := range got.Parts {
			byNumber[p.Number] = p
		}
		for _, p := range d.Parts {
			n, ok := numbers[p.Number]
			q := byNumber[n]
			if p.Kind == Extended == ok || ok && (q.Size != p.Size || q.Fill != p.Fill || q.mbrType() != p.mbrType()) {
				t.Fatalf("%+v became %+v", p, q)
			}
			delete(byNumber, n)
		}
		for _, p := range byNumber {
			if p.Kind != Extended && p.GUID != GUIDBIOSBoot {
				t.Fatalf("%+v came from nowhere", p)
			}
		}
		if f, err := got.Fit(2<<30, 512); err == nil {
			check(t, f, 2<<30)
		} else if !strings.Contains(err.Error(), "MB") {
			t.Fatal(err)
		}
	}
}
