package fixup

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const otherGUID = "cccccccc-1234-4abc-8def-0123456789ab"

// gptImage is a disk with a table that sfdisk made.
func gptImage(t testing.TB) string {
	t.Helper()
	img := filepath.Join(t.TempDir(), "disk.img")
	if err := os.WriteFile(img, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(img, 8<<20); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "-q", img)
	cmd.Stdin = strings.NewReader("label: gpt\nsize=1M, uuid=" + strings.ToUpper(otherGUID) + "\nuuid=" + rootNow + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("sfdisk: %v: %s", err, out)
	}
	return img
}

func TestPartitionGUIDs(t *testing.T) {
	disk, err := os.ReadFile(gptImage(t))
	if err != nil {
		t.Fatal(err)
	}
	got, err := partitionGUIDs(bytes.NewReader(disk))
	if d := cmp.Diff([]string{otherGUID, rootNow}, got); err != nil || d != "" {
		t.Errorf("%v (-want +got)\n%s", err, d)
	}
	large := append(make([]byte, 4096-512), disk...) // the head at 4096, its entries at sector 2
	copy(large[2*4096:], disk[2*512:2*512+128*128])
	if got, err := partitionGUIDs(bytes.NewReader(large)); err != nil || len(got) != 2 || got[0] != otherGUID {
		t.Errorf("sectors of 4096 bytes: %v, %q", err, got)
	}
	if got, err := partitionGUIDs(bytes.NewReader(make([]byte, 8192))); err != nil || len(got) > 0 {
		t.Errorf("no table: %v, %q", err, got)
	}
	for field, v := range map[int]uint32{76: 1 << 30, 80: 1 << 31, 84: 1} {
		bad := bytes.Clone(disk)
		binary.LittleEndian.PutUint32(bad[512+field:], v)
		if got, err := partitionGUIDs(bytes.NewReader(bad)); err == nil {
			t.Errorf("%d at %d: %q", v, field, got)
		}
	}
}

// TestOtherSystems: a disk that isn't the plan's keeps its entries, until it is
// the plan's.
func TestOtherSystems(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("loop devices are root's")
	}
	out, err := exec.Command("losetup", "-f", "--show", gptImage(t)).Output()
	if err != nil {
		t.Skip("no loop device:", err)
	}
	loop := strings.TrimSpace(string(out))
	t.Cleanup(func() {
		if out, err := exec.Command("losetup", "-d", loop).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	c := newTestClone(t, t.TempDir(), nil, nil)
	c.env.Sys = t.TempDir() // no other disk of this machine is read
	plant(t, c.env.Sys, map[string]string{"block/" + filepath.Base(loop) + "/size": "", "block/none!c0d9/size": ""})
	own, _ := c.vols.at("/")
	own.now.PartID = strings.ToUpper(rootNow)
	if got := c.otherSystems(own); len(got) != 1 || !got[otherGUID] {
		t.Errorf("got %v", got)
	}
	c.env.Disks.Disks = []string{loop}
	if got := c.otherSystems(own); len(got) != 0 {
		t.Errorf("of the plan's own disk: %v", got)
	}
}

func FuzzPartitionGUIDs(f *testing.F) {
	disk, err := os.ReadFile(gptImage(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(disk[:64<<10])
	f.Add(make([]byte, 8192))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _ := partitionGUIDs(bytes.NewReader(b))
		for _, g := range got {
			if e := (bootEntry{path: "HD(1,GPT," + g + ",0x800,0x1)"}); e.partition() != g {
				t.Fatalf("%q is %q in an entry", g, e.partition())
			}
		}
	})
}
