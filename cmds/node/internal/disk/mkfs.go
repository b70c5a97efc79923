package disk

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// newUUID makes an identifier for a file system of that type: a UUID, or the
// 32 bits that FAT has in its place, as blkid prints them.
func newUUID(fstype string) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil || fstype != wire.VFAT {
		return id.String(), err
	}
	return fmt.Sprintf("%02X%02X-%02X%02X", id[0], id[1], id[2], id[3]|1), nil // 0 is none
}

// mkfs makes the file system or swap area on dev, a device of that size,
// with the UUID given.
func mkfs(ctx context.Context, fs wire.Filesystem, dev, uuid string, size room) error {
	k := kinds()[fs.Type] // Check saw that there is one
	args := k.args(fs, dev, uuid, size)
	if fs.Type == "xfs" && !xfsKnows(ctx, "nrext64") {
		args = xfsWithout(args, "nrext64=0")
	}
	if err := run(ctx, "", k.programs[0], args...); err != nil {
		return fmt.Errorf("make %s: %w", title(fs), err)
	}
	if fs.Type == "jfs" { // mkfs.jfs takes no UUID
		if err := run(ctx, "", "jfs_tune", "-U", uuid, dev); err != nil {
			return fmt.Errorf("make %s: %w", title(fs), err)
		}
	}
	found, err := tag(ctx, dev, "UUID")
	if err != nil || found != uuid {
		return fmt.Errorf("make %s: %s has UUID %q, want %s (%v)", title(fs), dev, found, uuid, err)
	}
	return nil
}

// tryMkfs has mkfs go through the motions on a file of the device's size that
// is only in memory, and empty: features that this mkfs doesn't know and sizes
// that it won't do show before a disk is touched.
func tryMkfs(ctx context.Context, fs wire.Filesystem, size room) error {
	k := kinds()[fs.Type]
	if k.try == nil {
		return nil
	}
	fd, err := unix.MemfdCreate("mkfs", unix.MFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("try mkfs: %w", err)
	}
	file := os.NewFile(uintptr(fd), "mkfs")
	defer file.Close()
	if fs.Type == "btrfs" || fs.Type == "f2fs" {
		size.bytes = min(size.bytes, trySize)
	}
	if err := file.Truncate(size.bytes); err != nil {
		return fmt.Errorf("try mkfs: %w", err)
	}
	// The program's path to our descriptor: it has its own numbers.
	args := k.try(fs, fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), fd), size)
	if fs.Type == "xfs" && !xfsKnows(ctx, "nrext64") {
		args = xfsWithout(args, "nrext64=0")
	}
	if err := run(ctx, "", k.programs[0], args...); err != nil {
		return fmt.Errorf("file system %s can't be made here: %w", title(fs), err)
	}
	return nil
}

// trySize is what mkfs programs without a dry run get: they really make one,
// in memory, and what they can't do doesn't depend on the size beyond that.
const trySize = 512 << 20

// tryUUID is one for what is thrown away.
const tryUUID = "11111111-2222-4333-8444-555555555555"

func trySmall(args func(wire.Filesystem, string, string, room) []string) func(wire.Filesystem, string, room) []string {
	return func(fs wire.Filesystem, dev string, size room) []string { return args(fs, dev, tryUUID, size) }
}

func swapArgs(fs wire.Filesystem, dev, uuid string, _ room) []string {
	args := []string{"-f", "-U", uuid}
	if fs.Label != "" {
		args = append(args, "-L", fs.Label)
	}
	return append(args, dev)
}

func extArgs(fs wire.Filesystem, dev, uuid string, size room) []string {
	// The inode tables are zeroed by the kernel in the background after the
	// mount; the journal is zeroed now, as an old one there could be taken
	// for this one's after a crash.
	args := []string{"-q", "-F", "-U", uuid, "-E", "lazy_itable_init=1,lazy_journal_init=0"}
	if fs.Label != "" {
		args = append(args, "-L", fs.Label)
	}
	if len(fs.Features) > 0 {
		args = append(args, "-O", "none,"+strings.Join(fs.Features, ","))
	}
	if fs.BlockSize > 0 {
		args = append(args, "-b", strconv.Itoa(fs.BlockSize))
	}
	if fs.InodeSize > 0 {
		args = append(args, "-I", strconv.Itoa(fs.InodeSize))
	}
	if fs.Reserved != 0 {
		args = append(args, "-m", strconv.FormatFloat(max(fs.Reserved, 0), 'f', 2, 64))
	}
	if g := guess(fs, size.bytes); g.explicit {
		args = append(args, "-N", strconv.FormatInt(g.inodes, 10))
	}
	return append(args, dev)
}

func tryExt(fs wire.Filesystem, dev string, size room) []string {
	return append([]string{"-n"}, extArgs(fs, dev, "random", size)...)
}

// maxFAT16 is how many clusters a FAT has at most that isn't a FAT32
// (Microsoft's FAT specification, "FAT type determination").
const maxFAT16 = 65524

// vfatArgs makes the EFI system partition a FAT32 wherever that can be one:
// UEFI wants it (UEFI specification, section 13.3), and a small one that
// mkfs.fat would make a FAT16 is not taken by every firmware.
func vfatArgs(fs wire.Filesystem, dev, uuid string, size room) []string {
	args := []string{"-i", strings.ReplaceAll(uuid, "-", "")}
	if fs.Label != "" {
		args = append(args, "-n", fs.Label)
	}
	// A sixteenth more than the clusters, for the FATs themselves.
	if sectors := size.bytes / size.sector; sectors > (maxFAT16+1)*17/16 {
		args = append(args, "-F", "32")
		if sectors < 8*maxFAT16 { // else mkfs.fat's own clusters leave enough of them
			args = append(args, "-s", "1")
		}
	}
	return append(args, dev)
}

func tryVFAT(fs wire.Filesystem, dev string, size room) []string {
	return vfatArgs(fs, dev, "1", size)
}

// xfsSections is which option of mkfs.xfs a feature belongs to (mkfs.xfs(8)).
// Those of the list are off where golden's list lacks them: golden's programs
// didn't know them, and perhaps its kernel and boot loader don't.
func xfsSections() (section map[string]string, off []string) {
	section = map[string]string{"sparse": "-i", "nrext64": "-i", "attr": "-i", "projid32bit": "-i", "exchange": "-i", "ftype": "-n", "lazy-count": "-l"}
	return section, []string{"finobt", "reflink", "rmapbt", "bigtime", "inobtcount", "sparse", "nrext64"}
}

func xfsArgs(fs wire.Filesystem, dev, uuid string, _ room) []string {
	args := []string{"-q", "-f", "-m", "uuid=" + uuid}
	section, off := xfsSections()
	features := slices.Clone(fs.Features)
	for _, f := range off {
		if len(fs.Features) > 0 && !slices.ContainsFunc(features, func(w string) bool { return strings.HasPrefix(w, f+"=") }) {
			features = append(features, f+"=0")
		}
	}
	for _, f := range features {
		name, _, _ := strings.Cut(f, "=")
		opt := section[name]
		if opt == "" {
			opt = "-m"
		}
		args = append(args, opt, f)
	}
	if fs.BlockSize > 0 {
		args = append(args, "-b", fmt.Sprintf("size=%d", fs.BlockSize))
	}
	if fs.InodeSize > 0 {
		args = append(args, "-i", fmt.Sprintf("size=%d", fs.InodeSize))
	}
	if fs.Label != "" {
		args = append(args, "-L", fs.Label)
	}
	return append(args, dev)
}

func tryXFS(fs wire.Filesystem, dev string, size room) []string {
	return append([]string{"-N"}, xfsArgs(fs, dev, tryUUID, size)...)
}

// xfsKnows asks mkfs.xfs for its options: without a device it lists them.
func xfsKnows(ctx context.Context, word string) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "mkfs.xfs")
	cmd.Env = programEnv()
	cmd.WaitDelay = 10 * time.Second
	out, _ := cmd.CombinedOutput() // its exit status is that of a wrong use
	return strings.Contains(string(out), word+"=")
}

// xfsWithout takes an option with this value out.
func xfsWithout(args []string, value string) []string {
	i := slices.Index(args, value)
	if i < 1 {
		return args
	}
	return slices.Delete(slices.Clone(args), i-1, i+1)
}

// btrfsArgs names features both ways: mkfs's defaults that golden's list lacks
// are off. Two of them were "runtime features" before btrfs-progs 6.3, -R, and
// are taken there still.
func btrfsArgs(fs wire.Filesystem, dev, uuid string, _ room) []string {
	args := []string{"-q", "-f", "-U", uuid}
	features := slices.Clone(fs.Features)
	for _, f := range []string{"extref", "skinny-metadata", "no-holes", "free-space-tree"} {
		if len(fs.Features) > 0 && !slices.Contains(features, f) && !slices.Contains(features, "^"+f) {
			features = append(features, "^"+f)
		}
	}
	for _, f := range features {
		opt := "-O"
		if name := strings.TrimPrefix(f, "^"); name == "free-space-tree" || name == "quota" {
			opt = "-R"
		}
		args = append(args, opt, f)
	}
	if fs.BlockSize > 0 {
		args = append(args, "-s", strconv.Itoa(fs.BlockSize))
	}
	if fs.Label != "" {
		args = append(args, "-L", fs.Label)
	}
	return append(args, dev)
}

func f2fsArgs(fs wire.Filesystem, dev, uuid string, _ room) []string {
	args := []string{"-q", "-f", "-U", uuid}
	if len(fs.Features) > 0 {
		args = append(args, "-O", strings.Join(fs.Features, ","))
	}
	if fs.Label != "" {
		args = append(args, "-l", fs.Label)
	}
	return append(args, dev)
}

func jfsArgs(fs wire.Filesystem, dev, _ string, _ room) []string {
	args := []string{"-q"}
	if fs.Label != "" {
		args = append(args, "-L", fs.Label)
	}
	return append(args, dev)
}

// reiserArgs: forced twice, or it asks.
func reiserArgs(fs wire.Filesystem, dev, uuid string, _ room) []string {
	args := []string{"-q", "-f", "-f", "-u", uuid}
	if fs.BlockSize > 0 {
		args = append(args, "-b", strconv.Itoa(fs.BlockSize))
	}
	if fs.Label != "" {
		args = append(args, "-l", fs.Label)
	}
	return append(args, dev)
}
