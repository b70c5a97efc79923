package layout

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// rich makes a layout with all words that sizes have, whatever its sum.
func rich(r *rand.Rand) Disk {
	size := func(p Part) Part {
		switch r.IntN(5) {
		case 0:
			p.Percent = float64(r.IntN(400)) / 10
		case 1:
		default:
			p.Size = 1 + r.Int64N(30<<20)
		}
		p.Fill = p.Size == 0 && p.Percent == 0 || r.IntN(4) == 0
		if p.Kind == Extended && r.IntN(2) == 0 {
			p.Size, p.Percent, p.Fill = 0, 0, false // as its logicals take
		}
		if r.IntN(2) == 0 {
			p.Min = 1 + r.Int64N(8<<20)
		}
		if r.IntN(4) == 0 && p.Kind != Extended {
			p.Max = max(p.Min, p.Size) + r.Int64N(40<<20) + mib
		}
		return p
	}
	d := Disk{Table: []Table{MBR, GPT}[r.IntN(2)]}
	if d.Table == GPT {
		numbers := r.Perm(40)
		for i := range 1 + r.IntN(20) {
			p := size(Part{Number: numbers[i] + 1, Kind: Primary, GUID: []string{GUIDLinux, GUIDESP, GUIDLVM}[r.IntN(3)], Boot: r.IntN(9) == 0})
			p.Name = []string{"", "root", "größe \"x\" \\ $HOME `id`", strings.Repeat("ä", 36)}[r.IntN(4)]
			p.Flags = [][]string{nil, nil, {"RequiredPartition"}, {"GUID:60", "NoBlockIOProtocol", "GUID:48"}}[r.IntN(4)]
			d.Parts = append(d.Parts, p)
		}
		return d
	}
	extended := r.IntN(6) // 4 and 5: none
	boot := r.IntN(6)
	for i, n := range r.Perm(4) {
		p := Part{Number: n + 1, Kind: Primary, Type: TypeLinux, Boot: n == boot}
		if n == extended {
			p.Kind, p.Type, p.Boot = Extended, []byte{TypeExtended, TypeExtendedLBA, TypeLinuxExtended}[r.IntN(3)], false
			for j := range r.IntN(8) {
				d.Parts = append(d.Parts, size(Part{Number: 5 + j, Kind: Logical, Type: TypeLinuxSwap}))
			}
		}
		if d.Parts = append(d.Parts, size(p)); i >= r.IntN(5) && extended > 3 {
			break
		}
	}
	return d
}

// promises checks what each word promises: no less than Min, no more than Max,
// a size just as it is where nothing lets it change.
func promises(t *testing.T, d Disk, f Fitted, bytes int64) {
	t.Helper()
	up := func(n int64) int64 { return (n + mib - 1) / mib * mib }
	room, _ := d.usable(bytes, f.SectorSize)
	usable := (room.end - room.start) * f.SectorSize
	used, greedy := int64(0), false
	for _, p := range f.Parts {
		got := p.Count * f.SectorSize
		if p.Kind != Logical {
			used += got
			greedy = greedy || p.Fill && p.Max == 0
		}
		if p.Kind == Extended {
			continue
		}
		switch {
		case got < up(p.Min):
			t.Errorf("partition %d has %d, less than its %d at least", p.Number, got, p.Min)
		case p.Max > 0 && got > max(p.Max, mib):
			t.Errorf("partition %d has %d, more than its %d at most", p.Number, got, p.Max)
		case p.Size > 0 && !p.Fill && got > max(up(p.Size), up(p.Min)):
			t.Errorf("partition %d has %d, more than its size %d", p.Number, got, p.Size)
		case p.Size > 0 && p.Min == 0 && got < p.Size && p.Max == 0:
			t.Errorf("partition %d has %d, less than its size %d", p.Number, got, p.Size)
		}
	}
	if greedy && used != usable {
		t.Errorf("one fills without a limit, but %d of %d bytes are used", used, usable)
	}
}

func TestRichProperties(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 8))
	fits, refused := 0, 0
	for range 20000 {
		d := rich(r)
		bytes, sector := r.Int64N(400<<20), []int64{512, 4096}[r.IntN(2)]
		f, err := d.Fit(bytes, sector)
		if err != nil {
			if !strings.Contains(err.Error(), "MB") {
				t.Fatalf("%+v: %v", d, err)
			}
			refused++
			continue
		}
		fits++
		check(t, f, bytes)
		promises(t, d, f, bytes)
		if t.Failed() {
			t.Fatalf("%+v on %d bytes:\n%s", d, bytes, f.Script())
		}
		// A larger disk takes it too, and no partition is smaller there
		// but by what rounding moves, or what others' percentages take.
		g, err := d.Fit(bytes+64<<20, sector)
		if err != nil {
			t.Fatalf("%+v fits on %d bytes, but not on more: %v", d, bytes, err)
		}
		for i, p := range f.Parts {
			if slices.ContainsFunc(d.Parts, func(q Part) bool { return q.Percent > 0 }) {
				break
			}
			if g.Parts[i].Count < p.Count-mib/sector {
				t.Fatalf("%+v: partition %d has %d sectors on %d bytes, and %d on more", d, p.Number, p.Count, bytes, g.Parts[i].Count)
			}
		}
	}
	if fits < 2000 || refused < 2000 {
		t.Errorf("%d fitted, %d refused: the test tries too little of one", fits, refused)
	}
}

// TestSfdiskTakesRich: the real sfdisk takes such layouts, reads back what was
// asked for, FromTable makes a layout of it that fits again, and --verify finds
// nothing.
func TestSfdiskTakesRich(t *testing.T) {
	needs(t, "sfdisk")
	r := rand.New(rand.NewPCG(9, 10))
	done := map[Table]int{}
	for range 400 {
		d := rich(r)
		bytes := 200<<20 + r.Int64N(200<<20)
		f, err := d.Fit(bytes, 512)
		if err != nil || done[d.Table] >= 7 {
			continue
		}
		done[d.Table]++
		path, got := apply(t, f, bytes)
		same(t, f, path, got)
		out, err := exec.Command("sfdisk", "--verify", path).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No errors detected.") {
			t.Errorf("sfdisk --verify: %v: %s", err, out)
		}
		out, err = exec.Command("sfdisk", "--json", path).Output()
		if err != nil {
			t.Fatal(err)
		}
		table, err := ParseTable(out, path)
		if err != nil {
			t.Fatal(err)
		}
		again, err := FromTable(table)
		if err != nil {
			t.Fatalf("%v\n%s", err, f.Script())
		}
		g, err := again.Fit(bytes, 512)
		if err != nil {
			t.Fatalf("fitted again: %v\n%s", err, f.Script())
		}
		check(t, g, bytes)
		for _, p := range g.Parts {
			q := f.Parts[0]
			for _, q = range f.Parts {
				if q.Number == p.Number {
					break
				}
			}
			if p.Start != q.Start && p.Kind != Logical && q.Kind != Logical || p.Count != q.Count {
				t.Errorf("partition %d was %d+%d, is %d+%d", p.Number, q.Start, q.Count, p.Start, p.Count)
			}
			sorted := func(s []string) []string { return slices.Sorted(slices.Values(s)) }
			if p.Boot != q.Boot || p.Name != q.Name && d.Table == GPT || !slices.Equal(sorted(p.Flags), sorted(q.Flags)) {
				t.Errorf("partition %d was %q %q %v, is %q %q %v", p.Number, q.Name, q.Flags, q.Boot, p.Name, p.Flags, p.Boot)
			}
		}
		if t.Failed() {
			t.Fatalf("script:\n%s", f.Script())
		}
	}
	if done[MBR] < 7 || done[GPT] < 7 {
		t.Errorf("only %v layouts tried", done)
	}
}

// TestSfdiskTakesLargeSectors: on a disk of 4096-byte sectors, which takes a
// loop device to have.
func TestSfdiskTakesLargeSectors(t *testing.T) {
	needs(t, "sfdisk", "losetup")
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	const bytes = 300 << 20
	out, err := exec.Command("losetup", "--find", "--show", "--sector-size", "4096", sparse(t, bytes)).Output()
	if err != nil {
		t.Skipf("no loop device: %v", err)
	}
	dev := strings.TrimSpace(string(out))
	held, err := os.Open(dev)
	// It stays until the last one has closed it, also when we are killed.
	if out, err := exec.Command("losetup", "--detach", dev).CombinedOutput(); err != nil {
		t.Errorf("losetup --detach %s: %v: %s", dev, err, out)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	for _, d := range []Disk{parse(t, "linux 20\nswap 10\nextended fill\nlogical linux 30\nlogical linux fill"), parse(t, "efi 40\nswap 30\nlinux fill")} {
		f, err := d.Fit(bytes, 4096)
		if err != nil {
			t.Fatal(err)
		}
		check(t, f, bytes)
		cmd := exec.Command("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", dev)
		cmd.Stdin = strings.NewReader(f.Script())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sfdisk: %v: %s\n%s", err, out, f.Script())
		}
		out, err := exec.Command("sfdisk", "--json", dev).Output()
		if err != nil {
			t.Fatal(err)
		}
		table, err := ParseTable(out, dev)
		if err != nil || table.SectorSize != 4096 || len(table.Parts) != len(f.Parts) {
			t.Fatalf("%v: %s", err, out)
		}
		for _, p := range table.Parts {
			i := slices.IndexFunc(f.Parts, func(q FittedPart) bool { return q.Number == p.Number })
			if i < 0 || f.Parts[i].Start != p.Start || f.Parts[i].Count != p.Count {
				t.Errorf("sfdisk has %+v\n%s", p, f.Script())
			}
		}
		out, err = exec.Command("sfdisk", "--verify", dev).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "No errors detected.") {
			t.Errorf("sfdisk --verify: %v: %s", err, out)
		}
	}
}
