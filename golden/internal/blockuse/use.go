package blockuse

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/stream"
	"github.com/kamethod/kamethod/golden/wire"
)

// Partition is a partition, volume or image, and what is to be known of it.
type Partition struct {
	Path string // "/dev/sda3", or a file with its contents
	How  string // wire.BlocksUsed and its like; empty: as seems best
	Log  *slog.Logger
}

// Use is what was found.
type Use struct {
	Map   stream.BlockMap
	Type  string // as blkid calls it; empty: unknown
	UUID  string
	Notes []string // what a person should know
}

// joinGap is below which two extents are sent as one: a seek and an entry of
// the map cost more.
const joinGap = 16 << 10

// Look finds out what of the partition is to be sent. A partition that is
// written to is refused.
func Look(ctx context.Context, p Partition) (*Use, error) {
	f, err := os.OpenFile(p.Path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	u := &Use{}
	if u.Map.Bytes, err = sizeOf(f); err != nil {
		return nil, fmt.Errorf("%s: %w", p.Path, err)
	}
	mounted, err := busy(f)
	if err != nil {
		return nil, err
	}
	if mounted {
		// A file system may write past the device's own cache, which then has
		// what an earlier reader saw for as long as the device is open: as it
		// is while it is mounted.
		if err := unix.IoctlSetInt(int(f.Fd()), unix.BLKFLSBUF, 0); err != nil {
			return nil, fmt.Errorf("forget what was read of %s before: %w", p.Path, err)
		}
	}
	if u.Type, u.UUID, err = probe(ctx, p.Path); err != nil {
		return nil, err
	}
	if err := u.find(ctx, p, f, mounted); err != nil {
		return nil, err
	}
	u.Map.Join(joinGap)
	if u.Map.Data() == 0 && u.Map.How != wire.BlocksNonzero {
		return nil, fmt.Errorf("%s: nothing of it would be sent", p.Path)
	}
	return u, nil
}

func (u *Use) find(ctx context.Context, p Partition, f *os.File, mounted bool) error {
	u.Map.How = p.How
	program := known(u.Type)
	switch {
	case p.How == "" && ciphertext(u.Type):
		u.Map.How = wire.BlocksRaw // it has no zeros: why look for some
	case p.How == "" && program != "":
		u.Map.How = wire.BlocksUsed
	case p.How == "":
		u.Map.How = wire.BlocksNonzero
	case p.How == wire.BlocksUsed && program == "":
		return fmt.Errorf("%s: which blocks are used nobody here knows: it holds %s", p.Path, u.Name())
	}
	switch u.Map.How {
	case wire.BlocksRaw:
		u.Map.Extents = []stream.Extent{{Off: 0, Len: u.Map.Bytes}}
		return nil
	case wire.BlocksUsed:
		xs, err := domain(ctx, program, p.Path, u.Map.Bytes, mounted)
		if err == nil {
			u.Map.Extents = append(xs, edges(xs, u.Map.Bytes)...)
			return nil
		}
		if p.How != "" || ctx.Err() != nil {
			return err
		}
		u.Notes = append(u.Notes, fmt.Sprintf("%s, %s: every block that isn't all zeros is sent, not just those in use: %v", p.Path, u.Type, err))
		u.Map.How = wire.BlocksNonzero
	}
	if p.Log != nil {
		p.Log.Info("reading all of it to find what isn't zeros", "path", p.Path, "bytes", u.Map.Bytes)
	}
	var err error
	u.Map.Extents, err = nonzero(ctx, f, u.Map.Bytes)
	return err
}

// Name is what the partition holds, for messages.
func (u *Use) Name() string {
	if u.Type == "" {
		return "contents unknown"
	}
	return u.Type
}

// edges are what belongs to a partition though no file system calls it used:
// boot blocks before it, and the copies of boot sectors and of superblocks
// that some keep behind their end.
func edges(xs []stream.Extent, size int64) []stream.Extent {
	const edge = 64 << 10
	var end int64
	for _, x := range xs {
		end = max(end, x.Off+x.Len)
	}
	return []stream.Extent{{Off: 0, Len: edge}, {Off: end, Len: edge}, {Off: max(0, size-edge), Len: edge}}
}

func sizeOf(f *os.File) (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if !st.Mode().IsRegular() && st.Mode().Type() != os.ModeDevice {
		return 0, errors.New("is neither a block device nor a file")
	}
	n, err := f.Seek(0, io.SeekEnd)
	if err == nil && n == 0 {
		err = errors.New("is empty")
	}
	return n, err
}

// known is the program that knows which blocks a file system uses; empty:
// none, or it isn't installed.
func known(fstype string) string {
	name := map[string]string{
		"ext2": "extfs", "ext3": "extfs", "ext4": "extfs", "ntfs": "ntfs", "vfat": "fat", "exfat": "exfat",
		"xfs": "xfs", "btrfs": "btrfs", "f2fs": "f2fs", "hfsplus": "hfsp", "apfs": "apfs", "reiser4": "reiser4",
		"reiserfs": "reiserfs", "jfs": "jfs", "minix": "minix", "nilfs2": "nilfs2", "ufs": "ufs",
	}[fstype]
	if name == "" {
		return ""
	}
	path, err := exec.LookPath("partclone." + name)
	if err != nil {
		return ""
	}
	return path
}

func ciphertext(fstype string) bool { return fstype == "crypto_LUKS" || fstype == "BitLocker" }

// probe asks blkid, past its cache.
func probe(ctx context.Context, path string) (fstype, uuid string, err error) {
	out, err := run(ctx, time.Minute, "blkid", "-p", "-o", "export", "--", path)
	var exit *exec.ExitError
	// blkid(8): nothing found, or several that contradict each other.
	if errors.As(err, &exit) && (exit.ExitCode() == 2 || exit.ExitCode() == 8) {
		return "", "", nil
	}
	for line := range strings.Lines(out) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		switch key {
		case "TYPE":
			fstype = value
		case "UUID":
			uuid = value
		}
	}
	return fstype, uuid, err
}

// run runs a program that only looks, and returns what it prints.
func run(ctx context.Context, limit time.Duration, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "TERM=dumb")
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastWords(said.String()))
	}
	return out.String(), nil
}

// lastWords is the end of what a program said, in one line.
func lastWords(s string) string {
	words := strings.Fields(strings.ReplaceAll(s, "\r", "\n"))
	if len(words) > 40 {
		words = words[len(words)-40:]
	}
	return strings.Join(words, " ")
}
