package disk

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/kamethod/kamethod/golden/layout"
	"github.com/kamethod/kamethod/golden/wire"
)

// Options is how Prepare goes about it. The zero value is a node's.
type Options struct {
	Log      *slog.Logger // nil: no log
	Progress func(string) // is told each step; nil: nobody is
	Seal     string       // folder where Unseal finds what it needs: EFI system partitions are sealed; empty: they aren't
	Devices  []string     // names, "sda"; only these are considered, and a loop device may be among them; empty: every disk
}

func (o Options) step(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if o.Log != nil {
		o.Log.Info(s)
	}
	if o.Progress != nil {
		o.Progress(s)
	}
}

// Assignment is what Prepare would do: a device and its partitions for each
// disk of the plan.
type Assignment struct {
	Devices []Device
	Fitted  []layout.Fitted
	Why     []string // for each device, why it was taken or left

	order  []string        // in which the stack is made
	stack  layout.Stack    // the plan's, with volumes that don't shrink below their files
	places map[string]room // of all that file systems can be on, under golden's names
}

// Assign chooses the disks and checks the plan against them; it writes
// nothing. The assignment's Why is set on failure too.
func Assign(ctx context.Context, plan wire.Plan, opt Options) (Assignment, error) {
	devs, err := candidates(opt.Devices)
	if err != nil {
		return Assignment{}, err
	}
	chosen, why, err := Choose(plan, devs)
	if err != nil {
		return Assignment{Why: why}, err
	}
	if err := checkHolders("/sys", chosen); err != nil {
		return Assignment{Devices: chosen, Why: why}, fmt.Errorf("choose disks: %w", err)
	}
	a, err := fit(ctx, plan, chosen)
	a.Why = why
	return a, err
}

func candidates(only []string) ([]Device, error) {
	devs, err := inventory("/sys", only)
	if err != nil || len(only) == 0 {
		return devs, err
	}
	var named []Device
	for _, name := range only {
		found := false
		for _, d := range devs {
			if d.Name == name {
				named, found = append(named, d), true
			}
		}
		if !found {
			return nil, fmt.Errorf("disk %s: not on this machine", name)
		}
	}
	return named, nil
}

// Prepare makes the disks of this node what the plan says and mounts them
// under root. A plan to update keeps what an earlier one has made, if that is
// the same. Until the plan has proved to fit, nothing is written. What it
// was about when it failed is in the error; whatever it had mounted by then is
// unmounted again.
func Prepare(ctx context.Context, plan wire.Plan, root string, opt Options) (wire.DiskResult, error) {
	a, err := Assign(ctx, plan, opt)
	for _, w := range a.Why {
		opt.step("%s", w)
	}
	if err != nil {
		return wire.DiskResult{}, err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return wire.DiskResult{}, fmt.Errorf("prepare %s: %w", root, err)
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return wire.DiskResult{}, fmt.Errorf("prepare: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return wire.DiskResult{}, fmt.Errorf("prepare: nothing was written: %w", err)
	}
	var disks []string
	for _, d := range a.Devices {
		disks = append(disks, d.sysName())
	}
	if err := release(ctx, opt, disks); err != nil {
		return wire.DiskResult{}, fmt.Errorf("prepare: nothing was written: %w", err)
	}
	for _, d := range a.Devices {
		if err := tryDisk(d); err != nil {
			return wire.DiskResult{}, fmt.Errorf("prepare: nothing was written: %w", err)
		}
	}
	if plan.Update {
		res, err := keep(ctx, plan, a, root, opt)
		if err == nil {
			opt.step("partitions and file systems are as the plan wants them: kept, and mounted under %s", root)
			return res, nil
		}
		if ctx.Err() != nil {
			return wire.DiskResult{}, fmt.Errorf("prepare: the earlier clone's files are as they were: %w", ctx.Err())
		}
		opt.step("no earlier clone to bring up to date, all is made anew: %v", err)
	}
	res, err := makeDisks(ctx, plan, a, root, opt)
	if err == nil {
		err = mountAll(plan, res.Filesystems, root)
	}
	if err == nil && opt.Seal != "" {
		err = Seal(plan, res, opt.Seal)
	}
	if err != nil {
		if uerr := Unmount(root, res.Disks...); uerr != nil {
			err = fmt.Errorf("%w; then: %w", err, uerr)
		}
		return wire.DiskResult{}, err
	}
	opt.step("mounted under %s", root)
	return res, nil
}

// tryDisk takes a disk for a moment, and reads its ends: one of several that
// can't be had is found before the first of them is written.
func tryDisk(d Device) error {
	f, err := openDisk(d.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	sector := make([]byte, d.Sector)
	for _, at := range []int64{0, d.Bytes - d.Sector} {
		if _, err := f.ReadAt(sector, at); err != nil {
			return fmt.Errorf("read %s at %d: %w", d, at, err)
		}
	}
	return nil
}

// makeDisks makes tables, the stack and the file systems, from below.
func makeDisks(ctx context.Context, plan wire.Plan, a Assignment, root string, opt Options) (wire.DiskResult, error) {
	var res wire.DiskResult
	for i, d := range a.Devices {
		res.Disks = append(res.Disks, d.Path)
		if err := identify(&a.Fitted[i]); err != nil {
			return res, err
		}
		if a.Fitted[i].Table == layout.None {
			opt.step("wiping %s for %s: it is used as a whole", d, plan.Disks[i].Name)
		} else {
			opt.step("partitioning %s for %s: %d partitions", d, plan.Disks[i].Name, len(a.Fitted[i].Parts))
		}
		for _, n := range a.Fitted[i].Notes {
			opt.step("%s: %s", d.Path, n)
		}
		if err := writeTable(ctx, d, a.Fitted[i]); err != nil {
			return res, err
		}
	}
	var err error
	if res.Stack, err = makeStack(ctx, plan, a, opt); err != nil {
		return res, err
	}
	if res.Blocks, err = placeBlocks(plan, a.Devices, res.Stack); err != nil {
		return res, err
	}
	if res.Filesystems, err = makeAll(ctx, plan, a, res.Stack, root, opt); err != nil {
		return res, err
	}
	return res, nil
}

// makeAll makes the plan's file systems, each with a UUID of its own.
func makeAll(ctx context.Context, plan wire.Plan, a Assignment, stack []wire.StackResult, root string, opt Options) ([]wire.FilesystemResult, error) {
	var all []wire.FilesystemResult
	for _, fs := range plan.Filesystems {
		id, err := newUUID(fs.Type)
		if err != nil {
			return nil, fmt.Errorf("make %s: uuid: %w", title(fs), err)
		}
		dev, err := deviceOf(plan, a.Devices, stack, onName(plan, fs))
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", title(fs), err)
		}
		r := wire.FilesystemResult{Device: dev, UUID: id, PartID: partIDOf(plan, fs, a.Fitted)}
		var size room
		if size.bytes, err = sizeOf(dev); err == nil {
			size.sector, err = sectorOf(dev)
		}
		if err == nil && fs.Type != "swap" {
			err = checkRoom(fs, size.bytes) // a volume may have come out smaller than was thought
		}
		if err != nil {
			return nil, fmt.Errorf("make %s: %w", title(fs), err)
		}
		opt.step("making %s", describeFS(fs, r.Device))
		if err := mkfs(ctx, fs, r.Device, r.UUID, size); err != nil {
			return nil, err
		}
		if err := makeSubvolumes(ctx, fs, r.Device, filepath.Join(filepath.Dir(root), ".subvolumes")); err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, nil
}

// partIDOf is the PARTUUID of a file system's partition, if it is on one.
func partIDOf(plan wire.Plan, fs wire.Filesystem, fitted []layout.Fitted) string {
	i, n, ok := plan.Place(onName(plan, fs))
	if !ok || n == 0 {
		return ""
	}
	part, _ := find(fitted[i], n) // Check saw it
	return partID(fitted[i], part)
}

// describeFS is a file system as a person is told of it.
func describeFS(fs wire.Filesystem, dev string) string {
	if fs.MountPoint == "" {
		return fmt.Sprintf("%s on %s", fs.Type, dev)
	}
	return fmt.Sprintf("%s on %s for %s", fs.Type, dev, fs.MountPoint)
}

// identify gives the table and its partitions identifiers of their own.
func identify(f *layout.Fitted) error {
	if f.Table == layout.MBR {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return fmt.Errorf("disk identifier: %w", err)
		}
		f.ID = fmt.Sprintf("0x%08x", binary.LittleEndian.Uint32(b[:])|1) // 0 means none
		return nil
	}
	id, err := uuid.NewRandom()
	if err != nil {
		return fmt.Errorf("disk identifier: %w", err)
	}
	f.ID = strings.ToUpper(id.String())
	for i := range f.Parts {
		if id, err = uuid.NewRandom(); err != nil {
			return fmt.Errorf("partition identifier: %w", err)
		}
		f.Parts[i].UUID = strings.ToUpper(id.String())
	}
	return nil
}

// partID is the PARTUUID as the kernel and blkid have it: an MBR has none, so
// that they make one of the disk's and the number (block/partitions/msdos.c).
func partID(f layout.Fitted, p layout.FittedPart) string {
	if f.Table == layout.MBR {
		return fmt.Sprintf("%s-%02x", strings.TrimPrefix(f.ID, "0x"), p.Number)
	}
	return strings.ToLower(p.UUID)
}
