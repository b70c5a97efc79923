package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// TestPrepareBlocks: what comes as blocks has a device of its own, nothing is
// made on it, and the boot code comes at the end, without its table and signature.
func TestPrepareBlocks(t *testing.T) {
	name, _ := loop(t, gib, "512")
	dev := "/dev/" + name
	code := bytes.Repeat([]byte{0xeb, 0x63, 0x90}, 149)[:wire.BootCodeSize]
	plan := wire.Plan{
		Disks:       []wire.DiskPlan{{Name: "sda", Layout: desc(t, "linux 200\ntype7 100\nextended fill\nlogical linux fill"), BootCode: code}},
		Filesystems: []wire.Filesystem{{Part: 1, Type: "ext4", MountPoint: "/"}},
		Blocks: []wire.Blocks{
			{On: "sda5", Bytes: 300 * mib, How: wire.BlocksRaw},
			{On: "sda2", Type: "ntfs", Bytes: 100 * mib, How: wire.BlocksUsed},
		},
	}
	res, _ := prepare(t, plan, name)
	if len(res.Blocks) != 2 || res.Blocks[0] != dev+"p5" || res.Blocks[1] != dev+"p2" {
		t.Fatalf("%q", res.Blocks)
	}
	for _, b := range res.Blocks {
		f, err := openDisk(b)
		if err != nil {
			t.Fatal(err)
		}
		head := make([]byte, mib)
		if _, err := f.ReadAt(head, 0); err != nil || !bytes.Equal(head, make([]byte, mib)) {
			t.Errorf("%s isn't empty: %v", b, err)
		}
		f.Close()
	}
	if b := bootRecord(t, dev); !bytes.Equal(b[:440], make([]byte, 440)) {
		t.Error("there is boot code already")
	}
	if err := WriteBootCode(plan, res); err != nil {
		t.Fatal(err)
	}
	sector := bootRecord(t, dev)
	if !bytes.Equal(sector[:440], code[:440]) {
		t.Error("the boot code isn't there")
	}
	if bytes.Equal(sector[440:446], code[440:446]) || bytes.Equal(sector[440:444], make([]byte, 4)) {
		t.Errorf("the disk's signature is % x", sector[440:446])
	}
	// sfdisk still reads the table, and its signature.
	out := must(t, "sfdisk", "--dump", dev)
	if strings.Count(out, "start=") != 4 || !strings.Contains(out, "label-id: 0x") {
		t.Errorf("sfdisk reads:\n%s", out)
	}
}

func bootRecord(t *testing.T, dev string) []byte {
	t.Helper()
	f, err := os.Open(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	sector := make([]byte, 512)
	if _, err := f.ReadAt(sector, 0); err != nil {
		t.Fatal(err)
	}
	return sector
}

// TestPrepareBlocksAlone: a machine of which no file is cloned, by partitions
// and as a whole.
func TestPrepareBlocksAlone(t *testing.T) {
	name, _ := loop(t, gib, "512")
	for on, l := range map[string]layout.Disk{"sda1": desc(t, "type7 500"), "sda": {Table: layout.None}} {
		plan := wire.Plan{Disks: []wire.DiskPlan{{Name: "sda", Layout: l}}, Blocks: []wire.Blocks{{On: on, Bytes: 500 * mib, How: wire.BlocksRaw}}}
		root := filepath.Join(t.TempDir(), "root")
		res, err := Prepare(t.Context(), plan, root, Options{Devices: []string{name}})
		if err != nil {
			t.Fatalf("%s: %v", on, err)
		}
		if want := "/dev/" + name + map[string]string{"sda1": "p1"}[on]; len(res.Blocks) != 1 || res.Blocks[0] != want {
			t.Errorf("%s: %q", on, res.Blocks)
		}
		if err := Unmount(root); err != nil {
			t.Error(err)
		}
	}
}

// TestBlocksRefused: before anything is written.
func TestBlocksRefused(t *testing.T) {
	name, file := loop(t, gib, "512")
	before := hash(t, file)
	base := func() wire.Plan {
		return wire.Plan{
			Disks:       []wire.DiskPlan{{Name: "sda", Layout: desc(t, "linux 200\ntype7 100\nextended fill\nlogical linux fill")}},
			Filesystems: []wire.Filesystem{{Part: 1, Type: "ext4", MountPoint: "/"}},
		}
	}
	for want, change := range map[string]func(*wire.Plan){
		"can't be made smaller":       func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda2", Bytes: 101 * mib}} },
		"something else is to be on":  func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda1", Bytes: mib}} },
		"nothing of the plan":         func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda9", Bytes: mib}} },
		"called so that could hold":   func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda3", Bytes: 512}} },
		"as a whole":                  func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda", Bytes: mib}} },
		"-1 bytes":                    func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda2", Bytes: -1}} },
		"nothing of the plan is":      func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "../sda2", Bytes: mib}} },
		"445 bytes":                   func(p *wire.Plan) { p.Disks[0].BootCode = make([]byte, 445) },
		"something else is to be on ": func(p *wire.Plan) { p.Blocks = []wire.Blocks{{On: "sda2", Bytes: mib}, {On: "sda2", Bytes: mib}} },
	} {
		plan := base()
		change(&plan)
		_, err := Prepare(t.Context(), plan, filepath.Join(t.TempDir(), "root"), Options{Devices: []string{name}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	if hash(t, file) != before {
		t.Error("the disk was written to")
	}
}
