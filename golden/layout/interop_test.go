package layout

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// table is what sfdisk --json prints.
type table struct {
	PartitionTable struct {
		Label      string
		ID         string
		Partitions []struct {
			Node        string
			Start, Size int64
			Type        string
			UUID        string
			Name        string
			Bootable    bool
		}
	}
}

// sparse is a file of so many bytes and no blocks, in memory where it can be:
// sfdisk waits until all is on the disk.
func sparse(t *testing.T, bytes int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "layout-test-")
	if err != nil {
		dir = t.TempDir()
	} else {
		t.Cleanup(func() { os.RemoveAll(dir) })
	}
	path := filepath.Join(dir, "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, bytes); err != nil {
		t.Fatal(err)
	}
	return path
}

// apply writes f to a fresh sparse file with the real sfdisk and reads it back.
func apply(t *testing.T, f Fitted, bytes int64) (string, table) {
	t.Helper()
	path := sparse(t, bytes)
	// It waits a quarter of a second for a kernel that is told.
	cmd := exec.Command("sfdisk", "--quiet", "--no-tell-kernel", path)
	cmd.Stdin = strings.NewReader(f.Script())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v\n%s\n%s", err, out, f.Script())
	}
	out, err := exec.Command("sfdisk", "--json", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	var got table
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	return path, got
}

// same compares what sfdisk read back with what was asked for.
func same(t *testing.T, f Fitted, path string, got table) {
	t.Helper()
	if got.PartitionTable.Label != string(f.Table) || len(got.PartitionTable.Partitions) != len(f.Parts) {
		t.Fatalf("sfdisk has %+v, want %+v", got, f)
	}
	byNumber := map[int]FittedPart{}
	for _, p := range f.Parts {
		byNumber[p.Number] = p
	}
	for _, q := range got.PartitionTable.Partitions {
		n, err := strconv.Atoi(strings.TrimPrefix(q.Node, path))
		p, ok := byNumber[n]
		if err != nil || !ok {
			t.Fatalf("%s: not asked for", q.Node)
		}
		if q.Start != p.Start || q.Size != p.Count || !strings.EqualFold(q.Type, p.scriptType(f.Table)) || q.Name != p.Name || f.Table == MBR && q.Bootable != p.Boot {
			t.Errorf("sfdisk has %+v, want %+v", q, p)
		}
		if p.UUID != "" && !strings.EqualFold(q.UUID, p.UUID) {
			t.Errorf("partition %d: uuid %s, want %s", n, q.UUID, p.UUID)
		}
	}
}

func needs(t *testing.T, programs ...string) {
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed: it is the judge here", p)
		}
	}
}

func TestSfdiskTakesMBR(t *testing.T) {
	needs(t, "sfdisk")
	for _, desc := range []string{manual, "swap 50\nlinux 200\nextended 600\nlogical linux 200\nlogical typefd 400\nlinux fill", "linux fill\nswap 500"} {
		f, err := parse(t, desc).Fit(5<<30, 512)
		if err != nil {
			t.Fatal(err)
		}
		f.ID = "0x1234abcd"
		path, got := apply(t, f, 5<<30)
		same(t, f, path, got)
		if got.PartitionTable.ID != f.ID {
			t.Errorf("id %s", got.PartitionTable.ID)
		}
		if out, err := exec.Command("sfdisk", "--verify", path).CombinedOutput(); err != nil {
			t.Errorf("sfdisk --verify: %v: %s", err, out)
		}
	}
}

// TestSfdiskTakesAnyOrder: a layout from the wire may list its parts in any
// order.
func TestSfdiskTakesAnyOrder(t *testing.T) {
	needs(t, "sfdisk")
	d := parse(t, "linux 200\nextended 600\nlogical linux 200\nlogical swap 300\nlinux fill")
	slices.Reverse(d.Parts)
	f, err := d.Fit(5<<30, 512)
	if err != nil {
		t.Fatal(err)
	}
	path, got := apply(t, f, 5<<30)
	same(t, f, path, got)
}

func TestSfdiskTakesRandom(t *testing.T) {
	needs(t, "sfdisk")
	r := rand.New(rand.NewPCG(3, 4))
	done := 0
	for range 200 {
		d := random(r)
		f, err := d.Fit(250<<20, 512)
		if err != nil {
			continue
		}
		path, got := apply(t, f, 250<<20)
		same(t, f, path, got)
		if t.Failed() {
			t.Fatalf("script:\n%s", f.Script())
		}
		if done++; done == 20 {
			return
		}
	}
	t.Errorf("only %d layouts tried", done)
}

func TestSgdiskTakesGPT(t *testing.T) {
	needs(t, "sfdisk", "sgdisk", "fdisk")
	d := Disk{Table: GPT, Parts: []Part{
		{Number: 1, Kind: Primary, GUID: GUIDBIOSBoot, Name: "BIOS boot", Size: 1 << 20},
		{Number: 3, Kind: Primary, GUID: GUIDLinux, Name: "root \"größe\" \\ $HOME", Fill: true},
		{Number: 2, Kind: Primary, GUID: GUIDSwap, Size: 300<<20 + 1, Boot: true},
	}}
	f, err := d.Fit(2<<30, 512)
	if err != nil {
		t.Fatal(err)
	}
	check(t, f, 2<<30)
	f.ID = "8C7D6F0E-33B4-4B1A-9B0A-3C8F2E1D5A77"
	f.Parts[1].UUID = "11111111-2222-4333-8444-555555555555"
	path, got := apply(t, f, 2<<30)
	same(t, f, path, got)
	out, err := exec.Command("sgdisk", "-v", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "No problems found") {
		t.Errorf("sgdisk -v: %v: %s", err, out)
	}
	out, err = exec.Command("fdisk", "-l", path).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "BIOS boot") {
		t.Errorf("fdisk -l: %v: %s", err, out)
	}
}
