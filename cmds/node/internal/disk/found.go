package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// output runs a program that only looks, and returns what it prints.
func output(ctx context.Context, name string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = programEnv()
	cmd.WaitDelay = 10 * time.Second
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, brief(args), err, tail(said.String()))
	}
	return out, nil
}

// tag is a word of what blkid finds on the device itself, not in a cache;
// empty if there is nothing. What could be two things at once is an error.
func tag(ctx context.Context, dev, name string) (string, error) {
	out, err := output(ctx, "blkid", "--probe", "--match-tag", name, "--output", "value", dev)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 { // blkid(8): nothing found
		return "", nil
	}
	return strings.TrimSuffix(string(out), "\n"), err
}

// sameTable returns the layout with the identifiers of the table that is on
// the disk, if that has just these partitions, and sees to it that the kernel
// has them.
func sameTable(ctx context.Context, d Device, want layout.Fitted) (layout.Fitted, error) {
	file, err := openDisk(d.Path) // nobody else has it
	if err != nil {
		return want, err
	}
	file.Close()
	over, err := tag(ctx, d.Path, "TYPE")
	if err != nil {
		return want, err
	}
	if over != "" {
		return want, fmt.Errorf("the whole disk holds %s", over)
	}
	out, err := output(ctx, "sfdisk", "--json", d.Path)
	if err != nil {
		return want, err
	}
	found, err := layout.ParseTable(out, d.Path)
	if err != nil {
		return want, err
	}
	got, err := compareTable(found, want)
	if err != nil {
		return want, err
	}
	if err := reread(d, got); err != nil {
		return want, fmt.Errorf("reread table: %w", err)
	}
	return got, waitNodes(ctx, d, got)
}

func compareTable(found, want layout.Fitted) (layout.Fitted, error) {
	if found.Table != want.Table {
		return want, fmt.Errorf("its table is %s, want %s", found.Table, want.Table)
	}
	if found.SectorSize != want.SectorSize {
		return want, fmt.Errorf("its table has sectors of %d bytes, want %d", found.SectorSize, want.SectorSize)
	}
	if len(found.Parts) != len(want.Parts) {
		return want, fmt.Errorf("it has %d partitions, want %d", len(found.Parts), len(want.Parts))
	}
	want.ID, want.Parts = found.ID, slices.Clone(want.Parts)
	for i := range want.Parts {
		p := &want.Parts[i]
		q, ok := find(found, p.Number)
		if !ok {
			return want, fmt.Errorf("it has no partition %d", p.Number)
		}
		if err := differs(q, *p, want); err != nil {
			return want, fmt.Errorf("partition %d %w", p.Number, err)
		}
		p.UUID = q.UUID
	}
	return want, nil
}

// differs is how a partition isn't the one wanted.
func differs(q, p layout.FittedPart, f layout.Fitted) error {
	kind, wantKind := fmt.Sprintf("%x", q.Type), fmt.Sprintf("%x", p.Type)
	if f.Table == layout.GPT {
		kind, wantKind = q.GUID, strings.ToUpper(p.GUID)
	}
	switch {
	case q.Count != p.Count:
		return fmt.Errorf("has %s, want %s", amount(q.Count*f.SectorSize, p.Count*f.SectorSize), amount(p.Count*f.SectorSize, q.Count*f.SectorSize))
	case q.Start != p.Start:
		return fmt.Errorf("begins at sector %d, want %d", q.Start, p.Start)
	case kind != wantKind:
		return fmt.Errorf("is of type %s, want %s", kind, wantKind)
	case q.Name != p.Name:
		return fmt.Errorf("is named %q, want %q", q.Name, p.Name)
	case q.Boot != p.Boot, !sameFlags(q.Flags, p.Flags):
		return fmt.Errorf("has other flags: %q, bootable: %v", q.Flags, q.Boot)
	}
	return nil
}

func sameFlags(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// amount is n bytes as a person reads them, and as precisely as it takes to
// see the difference to other.
func amount(n, other int64) string {
	if n>>20 != other>>20 {
		return fmt.Sprintf("%d MB", n>>20)
	}
	return fmt.Sprintf("%d bytes", n)
}

// super is what an ext file system says of itself.
type super struct {
	uuid              string
	features          []string
	block, blocks     int64
	inodes, inodeSize int64
}

// readSuper has dumpe2fs read it, which knows the features' names.
func readSuper(ctx context.Context, dev string) (super, error) {
	out, err := output(ctx, "dumpe2fs", "-h", dev)
	if err != nil {
		return super{}, err
	}
	s, err := parseSuper(string(out))
	if err != nil {
		return s, fmt.Errorf("dumpe2fs %s: %w", dev, err)
	}
	return s, nil
}

func parseSuper(text string) (s super, err error) {
	numbers := map[string]*int64{"Block size": &s.block, "Block count": &s.blocks, "Inode count": &s.inodes, "Inode size": &s.inodeSize}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(line, ":")
		value = strings.TrimSpace(value)
		if n := numbers[key]; n != nil {
			if *n, err = strconv.ParseInt(value, 10, 64); err != nil {
				return s, fmt.Errorf("%s: %w", key, err)
			}
		}
		switch key {
		case "Filesystem UUID":
			s.uuid = value
		case "Filesystem features":
			s.features = strings.Fields(value)
		}
	}
	if u, err := uuid.Parse(s.uuid); err != nil || u == uuid.Nil || s.block < 1024 || s.block > 64<<10 || s.blocks < 1 || s.blocks > 1<<46 {
		return s, fmt.Errorf("UUID %q, %d blocks of %d bytes", s.uuid, s.blocks, s.block)
	}
	return s, nil
}

// same refuses a file system that isn't what mkfs would make of the partition
// of so many bytes, or that has too few inodes for the files that are to come.
func (s super) same(fs wire.Filesystem, bytes int64) error {
	have, slack := s.block*s.blocks, 8*s.block*s.block // mke2fs leaves out a last group that isn't worth it
	switch {
	case fs.BlockSize > 0 && s.block != int64(fs.BlockSize):
		return fmt.Errorf("it has blocks of %d bytes, want %d", s.block, fs.BlockSize)
	case fs.InodeSize > 0 && s.inodeSize != int64(fs.InodeSize):
		return fmt.Errorf("it has inodes of %d bytes, want %d", s.inodeSize, fs.InodeSize)
	case have > bytes || have < bytes-slack:
		return fmt.Errorf("the file system has %s, its partition %s", amount(have, bytes), amount(bytes, have))
	case s.inodes < fs.NeedInodes+spareInodes:
		return fmt.Errorf("it has %d inodes, the files take %d", s.inodes, fs.NeedInodes)
	}
	if len(fs.Features) == 0 {
		return nil // mkfs's defaults, whichever they were
	}
	for _, f := range fs.Features {
		if !slices.Contains(s.features, f) && !acquired(f, s.features) {
			return fmt.Errorf("it lacks the feature %s", f)
		}
	}
	for _, f := range s.features {
		if !slices.Contains(fs.Features, f) && !acquired(f, fs.Features) {
			return fmt.Errorf("it has the feature %s, golden has not", f)
		}
	}
	return nil
}

// spareInodes is for the folders and special files of the file system itself.
const spareInodes = 64

// acquired tells of features that are no choice of mkfs's: the kernel sets
// them when the first file needs them, or while it is mounted
// (fs/ext4/super.c), or mke2fs takes them for another one's part.
func acquired(f string, others []string) bool {
	switch f {
	case "needs_recovery", "orphan_present", "large_file", "huge_file", "dir_nlink", "ext_attr":
		return true
	case "uninit_bg": // metadata_csum is more than it
		return slices.Contains(others, "metadata_csum")
	}
	return false
}
