package restore

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// TestOwn: file systems that came as blocks have UUIDs of their own, no fault,
// and all their files; what stays the golden machine keeps them.
func TestOwn(t *testing.T) {
	need(t, "losetup", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs", "xfs_db", "btrfstune", "xfs_repair", "partclone.extfs", "rsync", "blkid")
	if !inNamespace(t) {
		return
	}
	file := filepath.Join(t.TempDir(), "noise")
	if err := os.WriteFile(file, noise(5, 3*mib+99), 0o600); err != nil {
		t.Fatal(err)
	}
	var parts []blockPart
	for _, c := range []struct {
		kind, program string
		size          int64
		mkfs          []string
	}{
		{"ext4", "partclone.extfs", 64 * mib, []string{"mkfs.ext4", "-q", "-F"}},
		{"ext3", "partclone.extfs", 64 * mib, []string{"mkfs.ext3", "-q", "-F"}},
		{"xfs", "partclone.xfs", 320 * mib, []string{"mkfs.xfs", "-q"}},
		{"btrfs", "partclone.btrfs", 256 * mib, []string{"mkfs.btrfs", "-q"}},
	} {
		image := blankFile(t, c.size)
		command(t, "/", c.mkfs[0], append(c.mkfs[1:], image)...)
		fill(t, image, file)
		parts = append(parts, blockPart{"vg0/" + c.kind, image, c.kind, usedBlocks(t, c.program, image)})
	}
	src := openAll(t, nil, parts)
	plan := planOf(parts)
	var made wire.DiskResult
	for _, x := range parts {
		made.Blocks = append(made.Blocks, loopOf(t, blankFile(t, x.m.Bytes)))
	}
	w, err := NewWhole("", src.Streams(), plan, made, Options{})
	if err != nil {
		t.Fatal(err)
	}
	carryAll(t, src, w.Put)
	if err := errors.Join(w.Finish(t.Context()), w.Close()); err != nil {
		t.Fatal(err)
	}
	uuid := func(path string) string {
		return strings.TrimSpace(command(t, "/", "blkid", "-p", "-s", "UUID", "-o", "value", path))
	}
	var said []string
	say := func(s string) { said = append(said, s) }
	plan.Identity.Mode = wire.IdentitySame
	if err := Own(t.Context(), plan, &made, say); err != nil {
		t.Fatal(err)
	}
	for i, x := range parts {
		if a, b := uuid(x.image), uuid(made.Blocks[i]); a != b || made.BlockUUIDs[i] != "" {
			t.Errorf("%s: %s was changed to %s", x.fstype, a, b)
		}
	}
	plan.Identity.Mode = ""
	if err := Own(t.Context(), plan, &made, say); err != nil {
		t.Fatal(err)
	}
	judges := map[string][]string{"ext4": {"e2fsck", "-f", "-n"}, "ext3": {"e2fsck", "-f", "-n"}, "xfs": {"xfs_repair", "-n"}, "btrfs": {"btrfs", "check", "--force"}}
	for i, x := range parts {
		a, b := uuid(x.image), uuid(made.Blocks[i])
		if a == b || b != made.BlockUUIDs[i] {
			t.Errorf("%s: golden's UUID is %s, the clone's %s, reported %q; %q", x.fstype, a, b, made.BlockUUIDs[i], said)
		}
		judge := judges[x.fstype]
		command(t, "/", judge[0], append(judge[1:], made.Blocks[i])...)
		from, end := mountedOn(t, x.image, "loop,ro")
		to, endTo := mountedOn(t, made.Blocks[i], "ro")
		if out := command(t, "/", "rsync", "-aHAXSn", "--checksum", "--delete", "-i", from+"/", to+"/"); out != "" {
			t.Errorf("%s: rsync sees differences:\n%s", x.fstype, out)
		}
		end()
		endTo()
	}
}

// TestOwnFaulty: a file system with faults stays as golden has it, and that is
// said.
func TestOwnFaulty(t *testing.T) {
	need(t, "mkfs.ext4", "debugfs", "blkid", "tune2fs", "e2fsck")
	image := blankFile(t, 16*mib)
	command(t, "/", "mkfs.ext4", "-q", "-F", image)
	command(t, "/", "debugfs", "-w", "-R", "clri <2>", image) // no root directory: nothing that -p repairs
	before, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	plan := wire.Plan{Blocks: []wire.Blocks{{On: "sda3", Type: "ext4", Bytes: 16 * mib, How: wire.BlocksUsed}}}
	made := wire.DiskResult{Blocks: []string{image}}
	var said string
	if err := Own(t.Context(), plan, &made, func(s string) { said += s }); err != nil {
		t.Fatal(err)
	}
	if made.BlockUUIDs[0] != "" || !strings.Contains(said, "UUID is golden's") {
		t.Errorf("%q, said %q", made.BlockUUIDs[0], said)
	}
	after, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	const uuidAt = 1024 + 0x68 // ext4 super block, s_uuid
	if string(before[uuidAt:uuidAt+16]) != string(after[uuidAt:uuidAt+16]) {
		t.Error("the UUID has changed")
	}
}

// TestOwnSpoilt: a program that fails while it writes fails the node, unless
// all is as it was.
func TestOwnSpoilt(t *testing.T) {
	need(t, "mkfs.ext4", "blkid", "tune2fs", "e2fsck", "sh")
	for what, c := range map[string]struct {
		tune2fs, want string // want: in the error; empty: none
		blank         bool
	}{
		"refused":           {tune2fs: "exit 1"},
		"spoilt":            {tune2fs: `dd if=/dev/zero of="$3" bs=1024 seek=1 count=1 conv=notrunc status=none; exit 1`, want: "tune2fs"},
		"the UUID, no more": {tune2fs: `dd if=/dev/urandom of="$3" bs=1 seek=1128 count=16 conv=notrunc status=none; exit 1`, want: "tune2fs"},
		"killed":            {tune2fs: "kill -9 $$"},
		"no ext4 at all":    {tune2fs: "exit 1", want: "e2fsck", blank: true},
	} {
		image := blankFile(t, 16*mib)
		if !c.blank {
			command(t, "/", "mkfs.ext4", "-q", "-F", image)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "tune2fs"), []byte("#!/bin/sh\n"+c.tune2fs+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
		plan := wire.Plan{Blocks: []wire.Blocks{{On: "sda3", Type: "ext4", Bytes: 16 * mib, How: wire.BlocksUsed}}}
		made := wire.DiskResult{Blocks: []string{image}}
		var said string
		err := Own(t.Context(), plan, &made, func(s string) { said += s })
		if c.want == "" && (err != nil || !strings.Contains(said, "the UUID is golden's")) || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, said %q", what, err, said)
		}
	}
}

// TestStart: an NTFS or FAT knows where its partition begins, in both its boot
// sectors, as Windows wants it.
func TestStart(t *testing.T) {
	need(t, "losetup", "mkntfs", "mkfs.vfat", "fsck.vfat", "ntfsfix", "partclone.ntfsfixboot", "sfdisk", "partx")
	if !inNamespace(t) {
		return
	}
	const size = 40 * mib
	starts := []int64{4096, 100_000} // sectors
	disk := loopOf(t, blankFile(t, 100*mib))
	table := exec.Command("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", disk)
	table.Stdin = strings.NewReader(fmt.Sprintf("label: dos\n%d,%d,7\n%d,%d,c\n", starts[0], size/512, starts[1], size/512))
	if out, err := table.CombinedOutput(); err != nil {
		t.Fatalf("sfdisk: %v: %s", err, out)
	}
	command(t, "/", "partx", "--add", disk)
	t.Cleanup(func() { command(t, "/", "partx", "--delete", disk) })
	ntfs, vfat := blankFile(t, size), blankFile(t, size)
	command(t, "/", "mkntfs", "-q", "-F", "-f", "-p", "63", "-H", "255", "-S", "63", ntfs)
	command(t, "/", "mkfs.vfat", "-F", "32", "-h", "63", vfat)
	parts := []blockPart{{"sda1", ntfs, "ntfs", usedBlocks(t, "partclone.ntfs", ntfs)}, {"sda2", vfat, "vfat", usedBlocks(t, "partclone.fat", vfat)}}
	src := openAll(t, nil, parts)
	made := wire.DiskResult{Blocks: []string{disk + "p1", disk + "p2"}}
	w, err := NewWhole("", src.Streams(), planOf(parts), made, Options{})
	if err != nil {
		t.Fatal(err)
	}
	carryAll(t, src, w.Put)
	if err := errors.Join(w.Finish(t.Context()), w.Close()); err != nil {
		t.Fatal(err)
	}
	// ntfsfixboot sees whether anything is to be done; 1 if so.
	fixboot := func() error {
		return exec.Command("partclone.ntfsfixboot", "-b", "-p", "-s", fmt.Sprint(starts[0]), "-h", "255", "-t", "63", made.Blocks[0]).Run()
	}
	fatStart := func() string {
		m := regexp.MustCompile(`(\d+) hidden sectors`).FindStringSubmatch(command(t, "/", "fsck.vfat", "-n", "-v", made.Blocks[1]))
		if m == nil {
			t.Fatal("fsck.vfat names no hidden sectors")
		}
		return m[1]
	}
	if got, err := fatStart(), fixboot(); got != "63" || err == nil {
		t.Errorf("the FAT came with %s, the NTFS as it shall be (%v)", got, err)
	}
	var said []string
	for range 2 { // the second time there is nothing to do
		if err := Own(t.Context(), planOf(parts), &made, func(s string) { said = append(said, s) }); err != nil {
			t.Fatal(err)
		}
	}
	if len(said) != 2 || !strings.Contains(said[0], "sector 4096") || !strings.Contains(said[1], "sector 100000") {
		t.Errorf("said %q", said)
	}
	if err := fixboot(); err != nil {
		t.Errorf("ntfsfixboot sees something to do: %v", err)
	}
	if got := fatStart(); got != "100000" {
		t.Errorf("fsck.vfat sees %s", got)
	}
	command(t, "/", "ntfsfix", "-n", made.Blocks[0])
	command(t, "/", "fsck.vfat", "-n", made.Blocks[1]) // it compares both boot sectors
	for i, second := range []int64{size - 512, 6 * 512} {
		f, err := os.Open(made.Blocks[i])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for _, at := range []int64{0, second} {
			var b [4]byte
			if _, err := f.ReadAt(b[:], at+0x1c); err != nil {
				t.Fatal(err)
			}
			if got := int64(b[0]) | int64(b[1])<<8 | int64(b[2])<<16 | int64(b[3])<<24; got != starts[i] {
				t.Errorf("%s: the boot sector at %d says %d, want %d", parts[i].fstype, at, got, starts[i])
			}
		}
	}
}

// FuzzBootSector: whatever the first bytes of a partition say, no other are
// written than those of a start.
func FuzzBootSector(f *testing.F) {
	f.Add([]byte("\xeb\x52\x90NTFS    \x00\x02"))
	f.Add([]byte("\xeb\x58\x90mkfs.fat\x00\x02"))
	f.Fuzz(func(t *testing.T, head []byte) {
		part := make([]byte, 8*bootSector)
		copy(part[:bootSector], head)
		part[bootMagicAt], part[bootMagicAt+1] = 0x55, 0xaa
		copy(part[6*bootSector:], part[:bootSector]) // FAT32 has its second one here
		fd, err := unix.MemfdCreate("part", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		file := os.NewFile(uintptr(fd), "part")
		defer file.Close()
		if _, err := file.Write(part); err != nil {
			t.Fatal(err)
		}
		_, _ = fixStart(file, mib)
		now, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", fd))
		if err != nil || len(now) != len(part) {
			t.Fatalf("%d bytes, were %d: %v", len(now), len(part), err)
		}
		changed := 0
		for i := range now {
			if now[i] != part[i] {
				changed++
			}
		}
		if changed > 8 {
			t.Fatalf("%d bytes have changed", changed)
		}
	})
}

// TestSparseDevice: of 10 GiB with next to nothing on it next to nothing comes.
func TestSparseDevice(t *testing.T) {
	need(t, "mkfs.ext4", "partclone.extfs")
	image := blankFile(t, 10<<30)
	command(t, "/", "mkfs.ext4", "-q", "-F", image)
	parts := []blockPart{{"sda3", image, "ext4", usedBlocks(t, "partclone.extfs", image)}}
	src := openAll(t, nil, parts)
	var sum int64
	for _, s := range src.Streams() {
		sum += s.Bytes
	}
	t.Logf("%d of %d bytes", sum, int64(10)<<30)
	if sum > 512<<20 {
		t.Errorf("%d bytes come", sum)
	}
	to := blankFile(t, 10<<30)
	w, err := NewWhole("", src.Streams(), planOf(parts), wire.DiskResult{Blocks: []string{to}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	carryAll(t, src, w.Put)
	if err := errors.Join(w.Finish(t.Context()), w.Close()); err != nil {
		t.Fatal(err)
	}
	command(t, "/", "e2fsck", "-f", "-n", to)
}
