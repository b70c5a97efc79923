package golden

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

const testMiB = 1 << 20

// blocksRoot is a folder that could be a golden root, a desc, and an NTFS in a
// file, as Windows would have it in sda2.
func blocksRoot(t *testing.T, desc string) (o Original, image string) {
	t.Helper()
	for _, p := range []string{"mkntfs", "blkid", "partclone.ntfs"} {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("needs %s: %v", p, err)
		}
	}
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	for _, d := range []string{"etc", "usr/bin", "boot"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	write("root/etc/fstab", "/dev/sda1 / ext4 defaults 0 1\n")
	image = write("win.img", "")
	if err := os.Truncate(image, 64*testMiB); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkntfs", "-q", "-F", "-f", image).CombinedOutput(); err != nil {
		t.Fatalf("mkntfs: %v: %s", err, out)
	}
	return Original{
		Root: root, Descs: map[string]string{"sda": write("desc", desc)}, Loader: wire.Loader{Kind: "none"}, Hostname: "node%d",
		Blocks: []BlockCopy{{On: "sda2", File: image}},
	}, image
}

func describeThem(t *testing.T, o Original) (*Described, error) {
	t.Helper()
	d, err := Describe(t.Context(), o, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Cleanup(func() { d.Close() })
	}
	return d, err
}

// TestDescribeBlocks: a partition beside the files is in the plan, and in what
// is sent.
func TestDescribeBlocks(t *testing.T) {
	o, image := blocksRoot(t, "linux 500\ntype7 64\n")
	code := bytes.Repeat([]byte{0x90}, wire.BootCodeSize)
	record := filepath.Join(t.TempDir(), "mbr")
	if err := os.WriteFile(record, code, 0o600); err != nil {
		t.Fatal(err)
	}
	o.BootCode = map[string]string{"sda": record}
	d, err := describeThem(t, o)
	if err != nil {
		t.Fatal(err)
	}
	b := d.Plan.Blocks
	if len(b) != 1 || b[0].On != "sda2" || b[0].Type != "ntfs" || b[0].Bytes != 64*testMiB || b[0].How != wire.BlocksUsed || len(b[0].OldUUID) != 16 {
		t.Errorf("%+v", b)
	}
	if !bytes.Equal(d.Plan.Disks[0].BootCode, code) {
		t.Error("the boot record isn't in the plan")
	}
	if !strings.Contains(strings.Join(d.Notes, "\n"), "sda2 as blocks") {
		t.Errorf("notes %q", d.Notes)
	}
	var kinds []string
	var sum int64
	for _, s := range d.Source().Streams() {
		kinds = append(kinds, string(s.Kind)+s.Name)
		sum += s.Bytes
	}
	if diff := cmp.Diff([]string{"manifest", "block-mapsda2", "contents", "blockssda2"}, kinds); diff != "" {
		t.Error(diff)
	}
	if sum > 20*testMiB {
		t.Errorf("%d bytes of %s come", sum, image)
	}
	before, err := Digest(d.Source())
	if err != nil {
		t.Fatal(err)
	}
	again, err := describeThem(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := Digest(again.Source()); err != nil || after != before {
		t.Errorf("the digest is %s, was %s: %v", after, before, err)
	}
	if _, err := stream.NewWhole(nil, nil); err != nil {
		t.Error(err)
	}
}

func TestDescribeBlocksRefused(t *testing.T) {
	for want, change := range map[string]func(*Original, string){
		"can't be made smaller":    func(o *Original, dir string) { o.Descs["sda"] = desc(t, dir, "linux 500\ntype7 63\n") },
		"has no partition 3":       func(o *Original, _ string) { o.Blocks[0].On = "sda3" },
		"name the file":            func(o *Original, _ string) { o.Blocks[0].File = "" },
		"already":                  func(o *Original, _ string) { o.Blocks[0].On = "sda1" },
		"gets partitions":          func(o *Original, _ string) { o.Blocks[0].On = "sda" },
		"given twice":              func(o *Original, _ string) { o.Blocks = append(o.Blocks, o.Blocks[0]) },
		"give a desc":              func(o *Original, _ string) { o.Blocks[0].On = "sdb1" },
		"no such file":             func(o *Original, dir string) { o.Blocks[0].File = dir + "/none" },
		"clones have no such disk": func(o *Original, _ string) { o.BootCode = map[string]string{"sdb": "/dev/null"} },
		"446":                      func(o *Original, _ string) { o.BootCode = map[string]string{"sda": "/dev/null"} },
		"-M sda FILE":              func(o *Original, _ string) { o.BootCode = map[string]string{"sda": ""} },
		"-p and --table can't be":  func(o *Original, _ string) { o.NoFiles = true },
		"--table can't be given":   func(o *Original, _ string) { o.NoFiles, o.Descs, o.Table = true, nil, layout.GPT },
		"and --table can't":        func(o *Original, _ string) { o.NoFiles, o.Descs, o.Layout = true, nil, "x.yaml" },
		"keeps its own":            func(o *Original, _ string) { o.NoFiles, o.Descs, o.Passphrases = true, nil, []string{"x"} },
		"no disk's name":           func(o *Original, _ string) { o.Blocks[0].On = "vg0/data" },
		"sbd is no disk's name":    func(o *Original, _ string) { o.Blocks[0].On = "sbd" },
		"md0 is no disk's name":    func(o *Original, _ string) { o.NoFiles, o.Descs, o.Blocks[0].On = true, nil, "md0" },
		"mapper/x is no disk's":    func(o *Original, _ string) { o.NoFiles, o.Descs, o.Blocks[0].On = true, nil, "mapper/x" },
		"left out (-X)":            func(o *Original, _ string) { o.Blocks[0].On, o.SkipDisks = "sdb", []string{"/dev/sdb"} },
		"want a disk and its":      func(o *Original, _ string) { o.Matches = []string{"sda"} },
		"disk sdc is not in the":   func(o *Original, _ string) { o.Matches = []string{"sdc:size>=1G"} },
		"nothing as blocks":        func(o *Original, _ string) { o.NoFiles, o.Blocks = true, nil },
		"extended partition holds": func(o *Original, dir string) {
			o.Descs["sda"] = desc(t, dir, "linux 500\nextended fill\nlogical type7 64\n")
		},
	} {
		t.Run(want, func(t *testing.T) {
			o, _ := blocksRoot(t, "linux 500\ntype7 64\n")
			change(&o, t.TempDir())
			if _, err := describeThem(t, o); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestMatchBlocks: a disk that comes only for its blocks can be hinted, with
// files and without.
func TestMatchBlocks(t *testing.T) {
	o, image := blocksRoot(t, "linux 500\n")
	o.Blocks = []BlockCopy{{On: "sdb", File: image}}
	o.Matches = []string{"sdb:size>=1G"}
	for range 2 {
		d, err := describeThem(t, o)
		if err != nil {
			t.Fatal(err)
		}
		disks := d.Plan.Disks
		if last := disks[len(disks)-1]; last.Name != "sdb" || last.Match.MinBytes != 1<<30 {
			t.Errorf("%+v", disks)
		}
		o.NoFiles, o.Descs = true, nil
	}
}

func desc(t *testing.T, dir, text string) string {
	name := filepath.Join(dir, "desc")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestLoaderAndBootRecord: the loader would be written over the record.
func TestLoaderAndBootRecord(t *testing.T) {
	record := filepath.Join(t.TempDir(), "mbr")
	if err := os.WriteFile(record, bytes.Repeat([]byte{1}, wire.BootCodeSize), 0o600); err != nil {
		t.Fatal(err)
	}
	plan := func() wire.Plan {
		return wire.Plan{
			Disks:       []wire.DiskPlan{{Name: "sda", Layout: layout.Disk{Table: layout.MBR}}, {Name: "sdb", Layout: layout.Disk{Table: layout.MBR}}},
			Filesystems: []wire.Filesystem{{Disk: 0, Part: 1, Type: "ext4", MountPoint: "/"}}, Loader: wire.Loader{Kind: "grub"},
		}
	}
	p := plan()
	if err := (Original{BootCode: map[string]string{"sda": record}}).addBootCode(&p); err == nil || !strings.Contains(err.Error(), "-r none") {
		t.Errorf("%v", err)
	}
	if err := (Original{BootCode: map[string]string{"sdb": record}}).addBootCode(&p); err != nil || len(p.Disks[1].BootCode) != wire.BootCodeSize {
		t.Errorf("of another disk: %v", err)
	}
	p = plan()
	p.Loader.Kind = "none"
	if err := (Original{BootCode: map[string]string{"sda": record}}).addBootCode(&p); err != nil || len(p.Disks[0].BootCode) != wire.BootCodeSize {
		t.Errorf("without a loader: %v", err)
	}
}

// TestDescribeNoFiles: a machine with Windows alone, a loop device here: its
// disk's layout, one of its partitions, and its boot record.
func TestDescribeNoFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: a loop device with partitions")
	}
	_, image := blocksRoot(t, "linux 500\n")
	run := func(stdin, name string, args ...string) string {
		t.Helper()
		c := exec.Command(name, args...)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v: %s", name, args, err, out)
		}
		return strings.TrimSpace(string(out))
	}
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, bytes.Repeat([]byte{0xfa}, 440), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, 300*testMiB); err != nil {
		t.Fatal(err)
	}
	run("label: dos\n2048,131072,7,*\n133120,131072,7\n", "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never", file)
	run("", "dd", "if="+image, "of="+file, "bs=1M", "seek=65", "conv=notrunc", "status=none")
	dev := run("", "losetup", "--find", "--show", file)
	held, err := os.Open(dev)
	if err != nil {
		run("", "losetup", "--detach", dev)
		t.Fatal(err)
	}
	t.Cleanup(func() { held.Close() })
	run("", "losetup", "--detach", dev) // it stays until the last one has closed it, also when we are killed
	run("", "partx", "--add", dev)
	t.Cleanup(func() { run("", "partx", "--delete", dev) })
	name := filepath.Base(dev)
	d, err := describeThem(t, Original{Hostname: "node%d", NoFiles: true, Blocks: []BlockCopy{{On: name + "p2"}}, BootCode: map[string]string{name: ""}})
	if err != nil {
		t.Fatal(err)
	}
	p := d.Plan
	if d.Tree != nil || len(p.Disks) != 1 || p.Disks[0].Name != name || len(p.Disks[0].Layout.Parts) != 2 || !p.Disks[0].Layout.Parts[0].Boot ||
		p.Disks[0].Layout.Parts[1].Size != 64*testMiB || p.Loader.Kind != "none" || len(p.Filesystems) != 0 {
		t.Errorf("%+v", p)
	}
	if len(p.Disks[0].BootCode) != wire.BootCodeSize || p.Disks[0].BootCode[0] != 0xfa {
		t.Errorf("boot record % x", p.Disks[0].BootCode)
	}
	if len(p.Blocks) != 1 || p.Blocks[0].Type != "ntfs" || p.Blocks[0].On != name+"p2" || len(d.Source().Streams()) != 2 {
		t.Errorf("%+v, %d streams", p.Blocks, len(d.Source().Streams()))
	}
	if !strings.Contains(strings.Join(d.Notes, "\n"), name+"p1: the clones have it empty") {
		t.Errorf("notes %q", d.Notes)
	}
	// All of it, whatever it is.
	d, err = describeThem(t, Original{Hostname: "node%d", NoFiles: true, Blocks: []BlockCopy{{On: name}}})
	if err != nil {
		t.Fatal(err)
	}
	if p := d.Plan; len(p.Disks) != 1 || p.Disks[0].Layout.Table != layout.None || len(p.Blocks) != 1 || p.Blocks[0].How != wire.BlocksNonzero || p.Blocks[0].Bytes != 300*testMiB {
		t.Errorf("%+v", p)
	}
	if _, err := describeThem(t, Original{Hostname: "node%d", NoFiles: true, Blocks: []BlockCopy{{On: name + "p3"}}}); err == nil {
		t.Error("a partition that isn't there is taken")
	}
}

func TestParseBlockCopy(t *testing.T) {
	for in, want := range map[string]string{
		"sda3": "sda3 ", "/dev/sda3": "sda3 ", "vg0/data": "vg0/data ", "/dev/mapper/vg0-data": "mapper/vg0-data ",
		"sda3=/a b/win.img": "sda3 /a b/win.img", "sda3=x=y": "sda3 x=y",
		"": "!", "=x": "!", "sda3=": "!", "../etc": "!", "a/../../b": "!", "sda 3": "!",
	} {
		c, err := ParseBlockCopy(in)
		got := fmt.Sprintf("%s %s", c.On, c.File)
		if err != nil {
			got = "!"
		}
		if got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestPlanName(t *testing.T) {
	s := layout.Stack{Arrays: []layout.Array{{Name: "md0"}}, Groups: []layout.Group{{Name: "vg-a", Volumes: []layout.Volume{{Name: "data-1"}}}}}
	for in, want := range map[string]string{"mapper/vg--a-data--1": "vg-a/data-1", "vg-a/data-1": "vg-a/data-1", "md/0": "md0", "md/1": "md/1", "sda3": "sda3"} {
		if got := planName(s, in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

func TestConfirmTime(t *testing.T) {
	d := &deployment{clone: &CloneConfig{Plan: wire.Plan{Blocks: []wire.Blocks{{How: wire.BlocksUsed, Bytes: 1 << 40}}}}}
	if got := d.confirmTime(); got != maxConfirm {
		t.Errorf("used blocks: %s", got)
	}
	d.clone.Plan.Blocks = append(d.clone.Plan.Blocks, wire.Blocks{How: wire.BlocksNonzero, Bytes: 1 << 40})
	if got := d.confirmTime(); got < 9*time.Hour || got > 10*time.Hour {
		t.Errorf("zeros of a terabyte: %s", got)
	}
	if got := (&deployment{}).confirmTime(); got != maxConfirm {
		t.Errorf("no clone: %s", got)
	}
}
