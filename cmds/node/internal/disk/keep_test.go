package disk

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// again prepares for an update, and returns what was said of it.
func again(t *testing.T, plan wire.Plan, names ...string) (wire.DiskResult, string, string) {
	t.Helper()
	plan.Update = true
	root := filepath.Join(t.TempDir(), "mnt")
	var steps []string
	res, err := Prepare(t.Context(), plan, root, Options{Devices: names, Progress: func(s string) { steps = append(steps, s) }})
	if err != nil {
		t.Fatalf("%v\n%s", err, strings.Join(steps, "\n"))
	}
	t.Cleanup(func() {
		if err := Unmount(root); err != nil {
			t.Error(err)
		}
	})
	return res, root, strings.Join(steps, "\n")
}

// mark leaves files of an earlier clone on a disk that prepare has made.
func mark(t *testing.T, root string, at ...string) {
	t.Helper()
	for _, dir := range at {
		if err := os.WriteFile(filepath.Join(root, dir, "marker"), []byte("earlier"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
}

func marked(root, dir string) bool {
	b, err := os.ReadFile(filepath.Join(root, dir, "marker"))
	return err == nil && string(b) == "earlier"
}

// TestKept: the same plan once more leaves everything in its place, though
// the machine was switched off with its disks mounted and had slept before.
func TestKept(t *testing.T) {
	for what, plan := range map[string]wire.Plan{"mbr": manual(t, "linux 300"), "gpt": gpt(t), "gpt with large sectors": gpt(t)} {
		t.Run(what, func(t *testing.T) {
			sector := "512"
			if what == "gpt with large sectors" {
				sector = "4096"
			}
			name, _ := loop(t, gib, sector)
			was, root := prepare(t, plan, name)
			if was.Kept {
				t.Error("a new disk was kept")
			}
			dirs := []string{"/"}
			if what == "mbr" {
				dirs = append(dirs, "/var")
				swsuspend(t, "/dev/"+name+"p5")
			}
			mark(t, root, dirs...)
			table := must(t, "sfdisk", "--dump", "/dev/"+name)

			res, root, said := again(t, plan, name)
			if !res.Kept {
				t.Fatalf("not kept:\n%s", said)
			}
			for i := range was.Filesystems {
				if got := res.Filesystems[i]; plan.Filesystems[i].Type != "swap" && got != was.Filesystems[i] || got.PartID != was.Filesystems[i].PartID {
					t.Errorf("it is %+v now, was %+v", got, was.Filesystems[i])
				}
				if id := must(t, "blkid", "-p", "-s", "UUID", "-o", "value", res.Filesystems[i].Device); id != res.Filesystems[i].UUID {
					t.Errorf("%s: UUID %s, reported %s", res.Filesystems[i].Device, id, res.Filesystems[i].UUID)
				}
			}
			if !slices.Equal(res.Disks, was.Disks) || must(t, "sfdisk", "--dump", "/dev/"+name) != table {
				t.Errorf("disks %v, table now:\n%s\nbefore:\n%s", res.Disks, must(t, "sfdisk", "--dump", "/dev/"+name), table)
			}
			for _, dir := range dirs {
				if !marked(root, dir) {
					t.Errorf("the file in %s is gone", dir)
				}
			}
			if what == "mbr" && must(t, "blkid", "-p", "-s", "TYPE", "-o", "value", "/dev/"+name+"p5") != "swap" {
				t.Error("the sleeping system would wake over other files")
			}
		})
	}
}

// swsuspend makes a swap area look like one that a machine was suspended to:
// swsusp writes its own signature where swap has its (kernel/power/swap.c).
func swsuspend(t *testing.T, dev string) {
	t.Helper()
	f, err := os.OpenFile(dev, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("S1SUSPEND\x00"), 4096-10); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if kind := must(t, "blkid", "-p", "-s", "TYPE", "-o", "value", dev); kind != "swsuspend" {
		t.Fatalf("%s is %q", dev, kind)
	}
}

// TestDirtyKept: a machine that lost power in the middle has its journal
// replayed.
func TestDirtyKept(t *testing.T) {
	name, file := loop(t, gib, "512")
	plan := gpt(t)
	_, root := prepare(t, plan, name)
	if err := os.WriteFile(root+"/marker", []byte("earlier"), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "sync", "-f", root)
	image := filepath.Join(t.TempDir(), "cut")
	must(t, "cp", "--sparse=always", file, image) // as the power failed
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
	dev := must(t, "losetup", "--find", "--show", image)
	t.Cleanup(func() {
		_ = exec.Command("partx", "--delete", dev).Run()
		must(t, "losetup", "--detach", dev)
	})
	must(t, "partx", "--add", dev)
	if out := must(t, "dumpe2fs", "-h", dev+"p2"); !strings.Contains(out, "needs_recovery") {
		t.Fatal("it has been unmounted properly")
	}
	res, root, said := again(t, plan, filepath.Base(dev))
	if !res.Kept || !marked(root, "/") {
		t.Errorf("kept: %v\n%s", res.Kept, said)
	}
}

// TestNotKept: each kind of difference makes everything anew, and is named.
func TestNotKept(t *testing.T) {
	plain := func(t *testing.T) wire.Plan { return manual(t, "linux 300") }
	for what, c := range map[string]struct {
		first  func(*testing.T) wire.Plan
		change func(*testing.T, *wire.Plan, string)
		want   string
	}{
		"size": {plain, func(t *testing.T, p *wire.Plan, _ string) { *p = manual(t, "linux 400") }, "partition 1 has 300 MB, want 400 MB"},
		"type": {plain, func(t *testing.T, p *wire.Plan, _ string) { *p = manual(t, "type8e 300") }, "partition 1 is of type 83, want 8e"},
		"active": {plain, func(t *testing.T, p *wire.Plan, dev string) {
			must(t, "sfdisk", "--no-reread", "--no-tell-kernel", "--activate", dev, "-")
		}, "partition 1 has other flags"},
		"number": {plain, func(t *testing.T, p *wire.Plan, _ string) {
			*p = manual(t, "linux 300\nlinux 20")
			p.Filesystems[0].Part, p.Filesystems[1].Part = 6, 5
		}, "it has 4 partitions, want 5"},
		"table": {gpt, func(t *testing.T, p *wire.Plan, _ string) { *p = plain(t) }, "its table is gpt, want dos"},
		"name":  {gpt, func(t *testing.T, p *wire.Plan, _ string) { p.Disks[0].Layout.Parts[1].Name = "/" }, `partition 2 is named "root", want "/"`},
		"guid":  {gpt, func(t *testing.T, p *wire.Plan, _ string) { p.Disks[0].Layout.Parts[1].GUID = layout.GUIDBIOSBoot }, "partition 2 is of type " + layout.GUIDLinux},
		"no table": {plain, func(t *testing.T, p *wire.Plan, dev string) {
			must(t, "dd", "if=/dev/zero", "of="+dev, "bs=1M", "count=1", "conv=notrunc,fsync")
		}, "sfdisk"},
		"whole disk": {plain, func(t *testing.T, p *wire.Plan, dev string) {
			// Beside the table, which ends at byte 512: a file system over all of it.
			image := filepath.Join(t.TempDir(), "ext2")
			must(t, "mkfs.ext2", "-q", image, "900M")
			must(t, "dd", "if="+image, "of="+dev, "bs=1k", "skip=1", "seek=1", "count=1", "conv=notrunc,fsync")
		}, "the whole disk holds ext2"},
		"fs type":    {plain, func(t *testing.T, p *wire.Plan, _ string) { p.Filesystems[0].Type = "ext4" }, "p6: it holds ext3, want ext4"},
		"nothing":    {plain, func(t *testing.T, p *wire.Plan, dev string) { must(t, "wipefs", "-a", dev+"p6") }, "p6: it holds nothing that is known, want ext3"},
		"no swap":    {plain, func(t *testing.T, p *wire.Plan, dev string) { must(t, "mkfs.ext2", "-q", "-F", dev+"p5") }, "p5: it holds ext2, want swap"},
		"label":      {plain, func(t *testing.T, p *wire.Plan, _ string) { p.Filesystems[2].Label = "other" }, `p1: its label is "golden root", want "other"`},
		"inode size": {plain, func(t *testing.T, p *wire.Plan, _ string) { p.Filesystems[0].InodeSize = 256 }, "p6: it has inodes of 128 bytes, want 256"},
		"block size": {plain, func(t *testing.T, p *wire.Plan, _ string) { p.Filesystems[2].BlockSize = 4096 }, "p1: it has blocks of 1024 bytes, want 4096"},
		"lacks": {plain, func(t *testing.T, p *wire.Plan, _ string) {
			p.Filesystems[2].Features = append(p.Filesystems[2].Features, "64bit")
		}, "p1: it lacks the feature 64bit"},
		"has": {plain, func(t *testing.T, p *wire.Plan, _ string) {
			p.Filesystems[2].Features = slices.DeleteFunc(slices.Clone(p.Filesystems[2].Features), func(f string) bool { return f == "dir_index" })
		}, "p1: it has the feature dir_index, golden has not"},
		"inodes": {plain, func(t *testing.T, p *wire.Plan, _ string) { p.Filesystems[0].NeedInodes = 300000 }, "p6: it has 220"},
		"shrunk": {plain, func(t *testing.T, p *wire.Plan, dev string) { must(t, "resize2fs", "-f", dev+"p1", "200M") }, "p1: the file system has 200 MB, its partition 300 MB"},
		"golden's": {plain, func(t *testing.T, p *wire.Plan, dev string) {
			p.Filesystems[2].OldUUID = must(t, "blkid", "-p", "-s", "UUID", "-o", "value", dev+"p1")
		}, "p1: it is golden's own: UUID"},
		"golden's id": {plain, func(t *testing.T, p *wire.Plan, dev string) {
			p.Filesystems[2].OldPartID = must(t, "blkid", "-p", "-s", "PART_ENTRY_UUID", "-o", "value", dev+"p1")
		}, "p1: it is golden's own: PARTUUID"},
		"beyond e2fsck": {plain, func(t *testing.T, p *wire.Plan, dev string) {
			// Without a root folder there is a question that -p doesn't answer itself.
			must(t, "debugfs", "-w", "-R", "clri <2>", dev+"p1")
			must(t, "tune2fs", "-E", "force_fsck", dev+"p1")
		}, "e2fsck"},
	} {
		t.Run(what, func(t *testing.T) {
			name, _ := loop(t, gib, "512")
			plan := c.first(t)
			was, root := prepare(t, plan, name)
			mark(t, root, "/")
			c.change(t, &plan, "/dev/"+name)
			res, root, said := again(t, plan, name)
			if res.Kept || !strings.Contains(said, "all is made anew") || !strings.Contains(said, c.want) {
				t.Fatalf("kept: %v, want %q in:\n%s", res.Kept, c.want, said)
			}
			if marked(root, "/") {
				t.Error("files of before are still there")
			}
			for _, fs := range res.Filesystems {
				if slices.ContainsFunc(was.Filesystems, func(old wire.FilesystemResult) bool { return old.UUID == fs.UUID }) {
					t.Errorf("%s has an old UUID", fs.Device)
				}
			}
		})
	}
}

// FuzzSuper: whatever a foreign disk has dumpe2fs say, no more than the size
// of the partition is ever believed.
func FuzzSuper(f *testing.F) {
	f.Add("Filesystem UUID: 0b6b2c9a-5b35-4d1f-9d1c-d0f2a5b6e7f8\nFilesystem features: extent 64bit\nInode count: 65536\nBlock count: 262144\nBlock size: 4096\nInode size: 256\n")
	f.Add("Block count: 9223372036854775807\nBlock size: -1\n")
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSuper(text)
		if err != nil {
			return
		}
		if s.same(wire.Filesystem{Type: "ext4"}, gib) == nil && s.block*s.blocks > gib {
			t.Errorf("%+v is taken for a file system of 1 GiB", s)
		}
	})
}

// FuzzTable: what is taken for the layout wanted has its places.
func FuzzTable(f *testing.F) {
	f.Add([]byte(`{"partitiontable":{"label":"dos","id":"0x1","partitions":[{"node":"/dev/sda1","start":2048,"size":2048,"type":"83"}]}}`))
	f.Add([]byte(`{"partitiontable":{"label":"gpt","sectorsize":4096,"partitions":[{"node":"/dev/sda1"},{}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		found, err := layout.ParseTable(text, "/dev/sda")
		if err != nil {
			return
		}
		want := layout.Fitted{Table: layout.MBR, SectorSize: 512, Parts: []layout.FittedPart{{Part: layout.Part{Number: 1, Type: 0x83}, Start: 2048, Count: 2048}}}
		got, err := compareTable(found, want)
		if p := found.Parts; err == nil && (len(p) != 1 || p[0].Start != 2048 || p[0].Count != 2048 || len(got.Parts) != 1) {
			t.Errorf("%s is taken for %+v", text, want)
		}
	})
}

// TestNotKeptOfTwo: where one of two disks is different both are made anew,
// for a clone is one thing.
func TestNotKeptOfTwo(t *testing.T) {
	a, _ := loop(t, 256<<20, "512")
	b, _ := loop(t, 256<<20, "512")
	plan := wire.Plan{
		Disks: []wire.DiskPlan{{Name: a, Layout: desc(t, "linux fill")}, {Name: b, Layout: desc(t, "linux fill")}},
		Filesystems: []wire.Filesystem{
			{Part: 1, Type: "ext4", MountPoint: "/"}, {Disk: 1, Part: 1, Type: "ext4", MountPoint: "/srv"},
		},
	}
	res, root, said := again(t, plan, a, b)
	if res.Kept {
		t.Fatalf("empty disks were kept:\n%s", said)
	}
	mark(t, root, "/", "/srv")
	res, root, said = again(t, plan, a, b)
	if !res.Kept || !marked(root, "/") || !marked(root, "/srv") {
		t.Fatalf("kept: %v\n%s", res.Kept, said)
	}
	if err := Unmount(root); err != nil {
		t.Fatal(err)
	}
	plan.Filesystems[1].Label = "srv"
	res, root, said = again(t, plan, a, b)
	if res.Kept || marked(root, "/") || marked(root, "/srv") || !strings.Contains(said, b+"p1: its label") {
		t.Errorf("kept: %v\n%s", res.Kept, said)
	}
}

// TestUpdateOffErases: nothing is kept that nobody asked to keep.
func TestUpdateOffErases(t *testing.T) {
	name, _ := loop(t, gib, "512")
	_, root := prepare(t, gpt(t), name)
	mark(t, root, "/")
	res, root := prepare(t, gpt(t), name)
	if res.Kept || marked(root, "/") {
		t.Error("kept")
	}
}

// TestUpdateCancelled: who is told to stop doesn't take it for a difference.
func TestUpdateCancelled(t *testing.T) {
	name, file := loop(t, 256<<20, "512")
	plan := gpt(t)
	_, root := prepare(t, plan, name)
	mark(t, root, "/")
	before := hash(t, file)
	ctx, cancel := context.WithCancel(t.Context())
	plan.Update = true
	// Told in the middle: when the check of the file system begins.
	_, err := Prepare(ctx, plan, t.TempDir(), Options{Devices: []string{name}, Progress: func(s string) {
		if strings.HasPrefix(s, "checking") {
			cancel()
		}
	}})
	if !errors.Is(err, context.Canceled) || hash(t, file) != before {
		t.Errorf("got %v, changed: %v", err, hash(t, file) != before)
	}
}
