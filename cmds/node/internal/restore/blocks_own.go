package restore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kamethod/kamethod/golden/wire"
)

// Own makes what was copied as blocks the clone's own, where that can be done:
// a boot sector that knows where it lies, and a UUID that golden's hasn't. It
// says what it did; what could not be done is no error, as long as the contents
// are golden's all the same: a program that failed while it wrote is one. It is
// called after Finish and Close; a plan whose identity is golden's wants the
// boot sector alone.
func Own(ctx context.Context, plan wire.Plan, made *wire.DiskResult, step func(string)) error {
	made.BlockUUIDs = make([]string, len(plan.Blocks))
	for i, b := range plan.Blocks {
		dev := made.Blocks[i]
		say := func(format string, args ...any) {
			step(fmt.Sprintf("blocks of %s on %s: ", b.On, dev) + fmt.Sprintf(format, args...))
		}
		did, err := ownStart(dev)
		if err != nil {
			return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, err)
		}
		if did != "" {
			say("%s", did)
		}
		if plan.Identity.Mode == wire.IdentitySame {
			continue
		}
		uuid, why, err := newBlocksUUID(ctx, b.Type, dev)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, ctx.Err())
		case err != nil:
			return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, err)
		case why != nil:
			say("the UUID is golden's: %v", why)
		case uuid != "":
			if err := syncDevice(dev); err != nil {
				return fmt.Errorf("blocks of %s on %s: %w", b.On, dev, err)
			}
			made.BlockUUIDs[i] = uuid
			say("%s with a UUID of its own, %s", b.Type, uuid)
		}
	}
	return nil
}

// syncDevice waits until all that programs wrote is on the disk: the next thing
// may be a reboot.
func syncDevice(dev string) error {
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func ownStart(dev string) (string, error) {
	start, err := partitionStart(dev)
	if err != nil || start == 0 {
		return "", err
	}
	f, err := os.OpenFile(dev, os.O_RDWR|unix.O_EXCL, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	did, err := fixStart(f, start)
	if err != nil || did == "" {
		return did, err
	}
	if err := f.Sync(); err != nil {
		return did, err
	}
	return did, f.Close()
}

// newBlocksUUID gives a file system another UUID and returns it; empty: of such
// a type none can be given, or why not. An error is one that may have spoiled
// what is there.
func newBlocksUUID(ctx context.Context, fstype, dev string) (uuid string, why, err error) {
	was, err := blkidUUID(ctx, dev)
	if err != nil {
		return "", err, nil // nothing was written yet
	}
	var program, check []string
	switch fstype {
	case "ext2", "ext3", "ext4":
		// tune2fs wants it checked, where it has checksums. e2fsck(8): 1 and 2
		// are repaired, 4 is what -p leaves alone, more is a failure of its own.
		_, err := tool(ctx, "", "e2fsck", "-f", "-p", dev)
		switch code := exitCode(err); {
		case errors.Is(err, exec.ErrNotFound), code > 0 && code&^7 == 0 && code&4 != 0:
			return "", err, nil
		case err != nil && (code < 0 || code&^3 != 0):
			return "", nil, err
		}
		program, check = []string{"tune2fs", "-U", "random", dev}, []string{"e2fsck", "-f", "-n", dev}
	case "xfs":
		// What xfs_admin -U does; that is a script. A dirty log is refused.
		program, check = []string{"xfs_db", "-x", "-p", "xfs_admin", "-c", "uuid generate", dev}, []string{"xfs_repair", "-n", dev}
	case "btrfs":
		program, check = []string{"btrfstune", "-f", "-u", dev}, []string{"btrfs", "check", "--readonly", dev}
	default:
		return "", nil, nil
	}
	_, err = tool(ctx, "y\n", program[0], program[1:]...)
	now, uerr := blkidUUID(ctx, dev)
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "", err, nil
	case err == nil && uerr == nil && now != was && now != "":
		return now, nil, nil
	case err == nil:
		err = fmt.Errorf("%s: the UUID is %q", program[0], now)
	}
	if uerr != nil || now != was {
		return "", nil, errors.Join(err, uerr)
	}
	if strings.Contains(err.Error(), "changes in a log") {
		return "", err, nil // xfs_db looks first; with such a log xfs_repair -n finds fault with any
	}
	if _, cerr := tool(ctx, "", check[0], check[1:]...); cerr != nil {
		return "", nil, errors.Join(err, cerr)
	}
	return "", err, nil
}

// blkidUUID reads the device itself, not a cache.
func blkidUUID(ctx context.Context, dev string) (string, error) {
	out, err := tool(ctx, "", "blkid", "-p", "-s", "UUID", "-o", "value", dev)
	if exitCode(err) == 2 { // blkid(8): nothing found
		return "", nil
	}
	return strings.TrimSpace(out), err
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

// tool runs a program and returns what it prints.
func tool(ctx context.Context, stdin, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute) // all metadata of a large disk
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin = strings.NewReader(stdin)
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.Join(strings.Fields(said.String()), " "))
	}
	return out.String(), nil
}
